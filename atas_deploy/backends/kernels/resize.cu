// Frames stretched with a table of taps for each axis; see taps.py. A thread makes whole pixels.
//
// frames: (count, height, width, 3), out: (count, rows, columns, 3)
// row_first: (rows), row_weights: (rows, row_taps); the same for columns

extern "C" __global__ void resize(const unsigned char* frames, unsigned char* out, int count,
                                  int height, int width, int rows, int columns,
                                  const int* row_first, const float* row_weights, int row_taps,
                                  const int* column_first, const float* column_weights,
                                  int column_taps) {
    const long long pixels = (long long)count * rows * columns;
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < pixels; i += step) {
        const int x = i % columns, y = i / columns % rows;
        const unsigned char* frame = frames + i / columns / rows * height * width * 3;
        float sum[3] = {0.0f, 0.0f, 0.0f};
        for (int ky = 0; ky < row_taps; ++ky) {
            const int row = clamped(row_first[y] + ky, height);
            float line[3] = {0.0f, 0.0f, 0.0f};
            for (int kx = 0; kx < column_taps; ++kx) {
                const int column = clamped(column_first[x] + kx, width);
                const float weight = column_weights[x * column_taps + kx];
                const unsigned char* pixel = frame + ((long long)row * width + column) * 3;
                for (int k = 0; k < 3; ++k) line[k] += weight * pixel[k];
            }
            const float weight = row_weights[y * row_taps + ky];
            for (int k = 0; k < 3; ++k) sum[k] += weight * line[k];
        }
        for (int k = 0; k < 3; ++k) out[i * 3 + k] = level(sum[k]);
    }
}

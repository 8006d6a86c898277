// Features times words in float32: c = a @ b, row-major; a (rows, inner), b (inner, columns).
//
// A block computes tiles of 64 x 64, each thread 4 x 4 numbers of one: 256 threads are right. CuPy
// refuses to call cuBLAS while a stream captures, so this stands in for it.

constexpr int TILE = 64, DEPTH = 16, SIDE = 4, ACROSS = TILE / SIDE;

extern "C" __global__ void product(const float* a, const float* b, float* c, int rows, int inner,
                                   int columns) {
    __shared__ float left[DEPTH][TILE + 1], right[DEPTH][TILE];
    const int tiles_across = (columns + TILE - 1) / TILE;
    const int tiles = tiles_across * ((rows + TILE - 1) / TILE);
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const int top = tile / tiles_across * TILE, first = tile % tiles_across * TILE;
        for (int pass = 0; pass < ACROSS * ACROSS; pass += blockDim.x) {
            const int item = pass + threadIdx.x;
            const int y = item / ACROSS, x = item % ACROSS;
            float sum[SIDE][SIDE] = {};
            for (int depth = 0; depth < inner; depth += DEPTH) {
                for (int i = threadIdx.x; i < DEPTH * TILE; i += blockDim.x) {
                    const int row = top + i / DEPTH, k = depth + i % DEPTH;
                    left[i % DEPTH][i / DEPTH] =
                        row < rows && k < inner ? a[(size_t)row * inner + k] : 0.0f;
                }
                for (int i = threadIdx.x; i < DEPTH * TILE; i += blockDim.x) {
                    const int k = depth + i / TILE, column = first + i % TILE;
                    right[i / TILE][i % TILE] =
                        k < inner && column < columns ? b[(size_t)k * columns + column] : 0.0f;
                }
                __syncthreads();
                if (item < ACROSS * ACROSS)
                    for (int k = 0; k < DEPTH; ++k)
                        for (int i = 0; i < SIDE; ++i)
                            for (int j = 0; j < SIDE; ++j)
                                sum[i][j] = fmaf(left[k][y + i * ACROSS], right[k][x + j * ACROSS],
                                                 sum[i][j]);
                __syncthreads();
            }
            if (item < ACROSS * ACROSS)
                for (int i = 0; i < SIDE; ++i)
                    for (int j = 0; j < SIDE; ++j) {
                        const int row = top + y + i * ACROSS, column = first + x + j * ACROSS;
                        if (row < rows && column < columns)
                            c[(size_t)row * columns + column] = sum[i][j];
                    }
        }
    }
}

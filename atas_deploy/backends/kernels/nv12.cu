// Decoded video to RGB. Colours lie between two rows, at the left one of two columns, as in H.264;
// between them they are linear.
//
// luma: (height, width), rows `luma_pitch` bytes apart; chroma: Cb and Cr in turn, likewise.

// Four times the linear interpolation at one of two rows, between which a colour lies.
struct Doubled {
    int near, far;

    __device__ Doubled(int place, int length) : near(place / 2) {
        far = clamped(near + (place % 2 ? 1 : -1), (length + 1) / 2);
    }
};

extern "C" __global__ void nv12_to_rgb(const unsigned char* luma, int luma_pitch,
                                       const unsigned char* chroma, int chroma_pitch, int height,
                                       int width, float scale, float offset, float red,
                                       float green_b, float green_r, float blue,
                                       unsigned char* out) {
    const int pixels = height * width, step = gridDim.x * blockDim.x;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < pixels; i += step) {
        const int y = i / width, x = i % width;
        const Doubled rows(y, height);
        const int left = x / 2, right = clamped(left + x % 2, (width + 1) / 2);
        const unsigned char* near = chroma + (size_t)rows.near * chroma_pitch;
        const unsigned char* far = chroma + (size_t)rows.far * chroma_pitch;
        float colour[2];
        for (int k = 0; k < 2; ++k) {
            const int a = 2 * left + k, b = 2 * right + k;
            const int sum = 3 * (near[a] + near[b]) + far[a] + far[b];
            colour[k] = sum / 8.0f - 128.0f;
        }
        const float grey = (luma[(size_t)y * luma_pitch + x] - offset) * scale;
        out[3 * (size_t)i] = level(grey + red * colour[1]);
        out[3 * (size_t)i + 1] = level(grey + green_b * colour[0] + green_r * colour[1]);
        out[3 * (size_t)i + 2] = level(grey + blue * colour[0]);
    }
}

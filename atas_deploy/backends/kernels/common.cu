// What several kernels use. All of them are right for any number of blocks and threads.

constexpr float LARGEST = 3.402823466e38f;

// An index of a line of `length`, its ends repeated.
__device__ int clamped(int index, int length) { return min(max(index, 0), length - 1); }

// The nearest level, halves to even ones.
__device__ unsigned char level(float value) {
    return (unsigned char)fminf(fmaxf(rintf(value), 0.0f), 255.0f);
}

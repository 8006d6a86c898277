// Pictures for people: classes tinted over the image, with soft lines where the class changes.
//
// image, out: (height, width, 3); labels, changes: (height, width). The windows are `side` wide and
// begin side / 2 before a pixel.

// An index of a line of `length`, mirrored at the centres of its ends.
__device__ int mirrored(int index, int length) {
    while (length > 1 && (index < 0 || index >= length))
        index = index < 0 ? -index : 2 * (length - 1) - index;
    return length > 1 ? index : 0;
}

// The class of a label: void, the highest value, is background.
template <typename Label>
__device__ int class_of(Label label) {
    return label == (Label)-1 ? 0 : label;
}

// 1 where there are several classes in a pixel's window, else 0.
template <typename Label>
__device__ void find_changes(const Label* labels, unsigned char* changes, int height, int width,
                             int side) {
    const int pixels = height * width, step = gridDim.x * blockDim.x;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < pixels; i += step) {
        const int top = i / width - side / 2, left = i % width - side / 2;
        const int own = class_of(labels[i]);
        unsigned char changed = 0;
        for (int k = 0; k < side * side; ++k) {
            const int y = clamped(top + k / side, height), x = clamped(left + k % side, width);
            changed |= class_of(labels[y * width + x]) != own;
        }
        changes[i] = changed;
    }
}

template <typename Label>
__device__ void paint(const unsigned char* image, const Label* labels,
                      const unsigned char* changes, const unsigned char* palette, int height,
                      int width, int side, int delta, int scale, float keep, float share,
                      float outline, unsigned char* out) {
    const int pixels = height * width, step = gridDim.x * blockDim.x;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < pixels; i += step) {
        const int top = i / width - side / 2, left = i % width - side / 2;
        int count = 0;
        for (int k = 0; k < side * side; ++k) {
            const int y = mirrored(top + k / side, height), x = mirrored(left + k % side, width);
            count += changes[y * width + x];
        }
        const int line = (255 * count + delta) * scale >> 16;
        const float dim = rintf(255.0f - line * outline);
        const int label = class_of(labels[i]);
        for (int k = 0; k < 3; ++k) {
            const unsigned char own = image[3 * i + k];
            const unsigned char tinted =
                label == 0 ? own : level(fmaf(own, keep, palette[3 * label + k] * share));
            const float dark = (255.0f - tinted) * dim;
            out[3 * i + k] = level(255.0f - rintf(dark * (1.0f / 255.0f)));
        }
    }
}

#define BLEND(bits, Label)                                                                        \
    extern "C" __global__ void find_changes_##bits(const Label* labels, unsigned char* changes,   \
                                                   int height, int width, int side) {             \
        find_changes<Label>(labels, changes, height, width, side);                                \
    }                                                                                             \
    extern "C" __global__ void paint_##bits(                                                      \
        const unsigned char* image, const Label* labels, const unsigned char* changes,            \
        const unsigned char* palette, int height, int width, int side, int delta, int scale,      \
        float keep, float share, float outline, unsigned char* out) {                             \
        paint<Label>(image, labels, changes, palette, height, width, side, delta, scale, keep,    \
                     share, outline, out);                                                        \
    }

BLEND(8, unsigned char)
BLEND(16, unsigned short)

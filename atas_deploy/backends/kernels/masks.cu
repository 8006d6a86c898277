// Label maps, exactly: bilinear logits, the lowest query with the largest one wins.
//
// Within a cell, between four nodes, logits are convex combinations of those at its corners. A query
// that is behind a corner's winner at all four corners is behind it everywhere: few can win. A block
// lists those, and its threads compare them at the pixels of the cell. Logits are taken less the
// largest of their node, which changes no winner and keeps rounding small.
//
// h x w nodes, height x width pixels, `count` queries, of `stride` that there is room for.
// Cell (r, c) lies between the nodes r - 1 and r, c - 1 and c, the outer ones repeated.

constexpr int ROOM = 512;        // of the list; a block has fewer threads
constexpr int THREADS = 256;     // that a block of `nodes` may have
constexpr float MARGIN = 1e-4f;  // logarithms closer to the threshold than this are not trusted

// For each node the winner, its logit, its probability, and the log-sum-exp of all logits less the
// winner's. `logits` begins with the first of `number` nodes of this call; the others are whole.
extern "C" __global__ void nodes(const float* logits, const int* count, int stride, int first,
                                 int number, int* winner, float* top, float* probability,
                                 float* lse) {
    __shared__ float value[THREADS];
    __shared__ int index[THREADS];
    const int t = threadIdx.x;
    for (int node = blockIdx.x; node < number; node += gridDim.x) {
        const float* row = logits + (size_t)node * stride;
        float best = row[0], sum = 0.0f;
        int won = 0;
        for (int q = t; q < count[0]; q += blockDim.x)
            if (row[q] > best) best = row[q], won = q;
        value[t] = best, index[t] = won;
        for (int n = blockDim.x; n > 1; n = (n + 1) / 2) {
            __syncthreads();
            const int other = t + (n + 1) / 2;
            if (other < n && (value[other] > value[t] ||
                              (value[other] == value[t] && index[other] < index[t])))
                value[t] = value[other], index[t] = index[other];
        }
        __syncthreads();
        best = value[0], won = index[0];
        __syncthreads();
        for (int q = t; q < count[0]; q += blockDim.x) sum += expf(row[q] - best);
        value[t] = sum;
        for (int n = blockDim.x; n > 1; n = (n + 1) / 2) {
            __syncthreads();
            const int other = t + (n + 1) / 2;
            if (other < n) value[t] += value[other];
        }
        if (t == 0) {
            winner[first + node] = won, top[first + node] = best;
            probability[first + node] = 1.0f / value[0], lse[first + node] = logf(value[0]);
        }
        __syncthreads();
    }
}

// Four numbers at the corners of a cell: upper left, upper right, lower left, lower right.
struct Corners {
    float at[4];

    // Between them, rounded as atas_deploy.core.masks.cells does.
    __device__ float between(float fy, float fx) const {
        const float left = at[0] + fy * (at[2] - at[0]);
        const float slope = at[1] + fy * (at[3] - at[1]) - left;
        return left + slope * fx;
    }
};

// A cell: its corners among the nodes and the logits there.
struct Cell {
    const float* row[4];
    float top[4];
    int winner[4];

    __device__ Corners logit(int q) const {
        Corners corners;
        for (int k = 0; k < 4; ++k) corners.at[k] = row[k][q] - top[k];
        return corners;
    }
};

// Queries that may win in a cell, in any order.
struct List {
    int size;
    int query[ROOM];
    Corners logit[ROOM];
};

// Whether no corner's winner is ahead of a query at all corners.
__device__ bool may_win(const Corners& logit, const Corners* pivots) {
    for (int p = 0; p < 4; ++p) {
        bool ahead = true;
        for (int k = 0; k < 4; ++k) ahead = ahead && pivots[p].at[k] > logit.at[k];
        if (ahead) return false;
    }
    return true;
}

// Lists queries of a cell from `first` on, as long as there is room; returns the next one.
__device__ int gather(List& list, const Cell& cell, int first, int count) {
    Corners pivots[4];
    for (int p = 0; p < 4; ++p) pivots[p] = cell.logit(cell.winner[p]);
    __syncthreads();  // nobody reads the last list any more
    if (threadIdx.x == 0) list.size = 0;
    __syncthreads();
    bool room = true;
    while (room && first < count) {
        const int q = first + threadIdx.x;
        if (q < count) {
            const Corners logit = cell.logit(q);
            if (may_win(logit, pivots)) {
                const int place = atomicAdd(&list.size, 1);
                list.query[place] = q, list.logit[place] = logit;
            }
        }
        first += blockDim.x;
        __syncthreads();
        room = list.size + blockDim.x <= ROOM;
        __syncthreads();  // all have read the size
    }
    return first;
}

// Whether the probability of a pixel whose largest logit is `best` is below the threshold.
__device__ bool is_below(const Cell& cell, int count, float fy, float fx, float best, float most) {
    float total = 0.0f;
    for (int q = 0; q < count && total <= most; ++q)
        total += expf(cell.logit(q).between(fy, fx) - best);
    return total > most;
}

// One kernel for both types of labels. `logits` begins with node row `node_row`; blocks take turns
// in the cells of `cell_rows` rows from `cell_row` on, `parts` of them in each cell. A threshold
// of 0 keeps all.
template <typename Label>
__device__ void label_cells(const float* logits, const int* winner, const float* top,
                            const float* lse, const int* query_class, const int* count,
                            int stride, int h, int w, int node_row, int cell_row, int cell_rows,
                            int parts, const int* row_edges, const float* row_fraction,
                            const int* column_edges, const float* column_fraction, int width,
                            float threshold, Label* labels) {
    __shared__ List list;
    const int queries = count[0], cells = (w + 1) * cell_rows;
    const float log_threshold = threshold > 0.0f ? logf(threshold) : 0.0f;
    for (int block = blockIdx.x; block < cells * parts; block += gridDim.x) {
        const int r = cell_row + block / parts / (w + 1), c = block / parts % (w + 1);
        const int y0 = row_edges[r], x0 = column_edges[c];
        const int across = column_edges[c + 1] - x0, pixels = (row_edges[r + 1] - y0) * across;
        if (pixels == 0) continue;

        Cell cell;
        Corners spread;  // log-sum-exp
        for (int k = 0; k < 4; ++k) {
            const int row = clamped(r - 1 + k / 2, h), column = clamped(c - 1 + k % 2, w);
            const int node = row * w + column;
            cell.row[k] = logits + (size_t)((row - node_row) * w + column) * stride;
            cell.top[k] = top[node], cell.winner[k] = winner[node], spread.at[k] = lse[node];
        }
        // The probability of one query is least at a corner: its logarithm is concave.
        float surest = -LARGEST;
        for (int p = 0; p < 4; ++p) {
            const Corners logit = cell.logit(cell.winner[p]);
            float least = LARGEST;
            for (int k = 0; k < 4; ++k) least = fminf(least, logit.at[k] - spread.at[k]);
            surest = fmaxf(surest, least);
        }
        const bool all_above = threshold <= 0.0f || surest >= log_threshold + MARGIN;

        bool whole = false;  // the list holds all that may win
        const int step = parts * blockDim.x;
        for (int group = block % parts * blockDim.x; group < pixels; group += step) {
            const int pixel = group + threadIdx.x;
            const int y = y0 + min(pixel, pixels - 1) / across;
            const int x = x0 + min(pixel, pixels - 1) % across;
            const float fy = row_fraction[y], fx = column_fraction[x];
            float best = -LARGEST;
            int won = 0, next = 0;
            do {
                if (!whole) {
                    const int first = next;
                    next = gather(list, cell, first, queries);
                    whole = first == 0 && next >= queries;
                }
                for (int i = 0; i < list.size; ++i) {
                    const float logit = list.logit[i].between(fy, fx);
                    const int q = list.query[i];
                    if (logit > best || (logit == best && q < won)) best = logit, won = q;
                }
            } while (!whole && next < queries);
            if (pixel >= pixels) continue;
            int label = query_class[won];
            if (label > 0 && !all_above &&
                best - spread.between(fy, fx) < log_threshold + MARGIN &&
                is_below(cell, queries, fy, fx, best, 1.0f / threshold))
                label = 0;
            labels[(size_t)y * width + x] = (Label)label;
        }
    }
}

#define LABEL_CELLS(name, Label)                                                                  \
    extern "C" __global__ void name(                                                              \
        const float* logits, const int* winner, const float* top, const float* lse,               \
        const int* query_class, const int* count, int stride, int h, int w, int node_row,         \
        int cell_row, int cell_rows, int parts, const int* row_edges, const float* row_fraction,  \
        const int* column_edges, const float* column_fraction, int width, float threshold,        \
        Label* labels) {                                                                          \
        label_cells<Label>(logits, winner, top, lse, query_class, count, stride, h, w, node_row,  \
                           cell_row, cell_rows, parts, row_edges, row_fraction, column_edges,     \
                           column_fraction, width, threshold, labels);                            \
    }

LABEL_CELLS(label_cells_8, unsigned char)
LABEL_CELLS(label_cells_16, unsigned short)

// CUDA on the host: enough of it to run kernels there. The threads of a block are coroutines that
// take turns at each __syncthreads, forwards or backwards: a kernel that lacks a barrier gives other
// results in the other order. The kernels are compiled behind this text.
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

using std::max;
using std::min;

struct Index {
    unsigned x = 0;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

#define __global__
#define __device__
#define __shared__ static

namespace host {
struct Thread {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(1 << 16);
    bool done = false;
};
static std::vector<Thread> threads;
static ucontext_t scheduler;
static bool backwards;
static void (*work)();

static void enter() {
    work();
    threads[threadIdx.x].done = true;
    swapcontext(&threads[threadIdx.x].context, &scheduler);
}

// Runs one block; tells whether all threads came to the same number of barriers.
static bool run_block() {
    const unsigned count = blockDim.x;
    for (unsigned i = 0; i < count; ++i) {
        Thread& thread = threads[i];
        thread.done = false;
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack.data();
        thread.context.uc_stack.ss_size = thread.stack.size();
        thread.context.uc_link = nullptr;
        makecontext(&thread.context, enter, 0);
    }
    unsigned done = 0;
    while (done == 0)
        for (unsigned i = 0; i < count; ++i) {
            threadIdx.x = backwards ? count - 1 - i : i;
            swapcontext(&scheduler, &threads[threadIdx.x].context);
            done += threads[threadIdx.x].done;
        }
    return done == count;
}

template <typename... Parameters>
static bool launch(void (*kernel)(Parameters...), void** values) {
    static void (*function)(Parameters...);
    static void** from;
    function = kernel, from = values;
    work = [] {
        [&]<std::size_t... I>(std::index_sequence<I...>) {
            function(*static_cast<std::remove_cv_t<Parameters>*>(from[I])...);
        }(std::index_sequence_for<Parameters...>{});
    };
    bool right = true;
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) right &= run_block();
    return right;
}
}  // namespace host

static void __syncthreads() {
    swapcontext(&host::threads[threadIdx.x].context, &host::scheduler);
}

static int atomicAdd(int* target, int value) { return std::exchange(*target, *target + value); }

static bool launch_by_name(const char* name, void** values);

extern "C" bool run(const char* name, unsigned blocks, unsigned threads, bool backwards,
                    void** values) {
    gridDim.x = blocks, blockDim.x = threads, host::backwards = backwards;
    if (host::threads.size() < threads) host::threads.resize(threads);
    return launch_by_name(name, values);
}

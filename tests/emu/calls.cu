/* Calls that a card would refuse, or a host that it would stop, and their correct twins:
 *
 *   calls NAME wrong|right
 *
 * The wrong twin must end at the line marked REFUSED NAME, with the words behind it.
 * test_faults.sh runs them. */
#include "check_failed.h"
#include "common.cuh"
#include <string.h>

enum { THREADS = 64, BYTES = THREADS * sizeof(float) };

/* What all of them use. */
struct Device {
    float *memory, *pinned;
    cudaStream_t first, second;
    cudaEvent_t fork, join;
    cudaGraph_t graph;
};

static void fill(const Device *d, cudaStream_t stream) {
    CUDA_CHECK(cudaMemsetAsync(d->memory, 0, BYTES, stream));
}

static void fork_second(const Device *d) {
    CUDA_CHECK(cudaStreamBeginCapture(d->first, cudaStreamCaptureModeThreadLocal));
    CUDA_CHECK(cudaEventRecord(d->fork, d->first));
    CUDA_CHECK(cudaStreamWaitEvent(d->second, d->fork, 0));
    fill(d, d->second);
    CUDA_CHECK(cudaEventRecord(d->join, d->second));
}

/* Work of the second stream after the event that the first one waits for. */
static void unjoined(Device *d, bool wrong) {
    fork_second(d);
    if (wrong) fill(d, d->second);
    CUDA_CHECK(cudaStreamWaitEvent(d->first, d->join, 0));
    CUDA_CHECK(cudaStreamEndCapture(d->first, &d->graph)); /* REFUSED unjoined: CaptureUnjoined */
}

/* An event of a capture that has ended. */
static void stale_event(Device *d, bool wrong) {
    fork_second(d);
    CUDA_CHECK(cudaStreamWaitEvent(d->first, d->join, 0));
    CUDA_CHECK(cudaStreamEndCapture(d->first, &d->graph));
    if (!wrong) CUDA_CHECK(cudaEventRecord(d->join, d->second));
    CUDA_CHECK(cudaStreamWaitEvent(d->first, d->join, 0)); /* REFUSED stale_event: CapturedEvent */
}

static void two_captures(Device *d, bool wrong) {
    fork_second(d);
    CUDA_CHECK(cudaStreamWaitEvent(d->first, d->join, 0));
    cudaStream_t third;
    CUDA_CHECK(cudaStreamCreateWithFlags(&third, cudaStreamNonBlocking));
    if (wrong) CUDA_CHECK(cudaStreamBeginCapture(third, cudaStreamCaptureModeThreadLocal));
    CUDA_CHECK(cudaStreamWaitEvent(third, d->join, 0)); /* REFUSED two_captures: CaptureMerge */
    CUDA_CHECK(cudaStreamEndCapture(d->first, &d->graph));
}

/* Allocating and waiting have no place in a graph. */
static void allocation(Device *d, bool wrong) {
    void *more;
    fork_second(d);
    CUDA_CHECK(cudaStreamWaitEvent(d->first, d->join, 0));
    if (!wrong) CUDA_CHECK(cudaStreamEndCapture(d->first, &d->graph));
    CUDA_CHECK(cudaMalloc(&more, BYTES)); /* REFUSED allocation: CaptureUnsupported */
}

static void waiting(Device *d, bool wrong) {
    cudaEvent_t before;
    CUDA_CHECK(cudaEventCreate(&before));
    CUDA_CHECK(cudaEventRecord(before, d->second));
    if (wrong) fork_second(d);
    CUDA_CHECK(cudaEventSynchronize(before)); /* REFUSED waiting: CaptureUnsupported */
}

static void untimed(Device *d, bool wrong) {
    float ms;
    cudaEvent_t end;
    CUDA_CHECK(cudaEventCreateWithFlags(&end, wrong ? cudaEventDisableTiming : 0));
    CUDA_CHECK(cudaEventCreate(&d->fork));
    CUDA_CHECK(cudaEventRecord(d->fork, d->first));
    CUDA_CHECK(cudaEventRecord(end, d->first));
    CUDA_CHECK(cudaEventElapsedTime(&ms, d->fork, end)); /* REFUSED untimed: ResourceHandle */
}

/* The host may look at pinned memory alone. */
static void host_looks(Device *d, bool wrong) {
    fill(d, d->first);
    CUDA_CHECK(cudaMemcpyAsync(d->pinned, d->memory, BYTES, cudaMemcpyDeviceToHost, d->first));
    CUDA_CHECK(cudaStreamSynchronize(d->first));
    const volatile float *const from = wrong ? d->memory : d->pinned;
    CHECK(from[1] == 0, "%g", from[1]); /* REFUSED host_looks: the host touches byte 4 of 256 */
}

/* Without an attribute a block has 48 KiB for dynamic and static arrays together. */
__global__ void add_shared(float *out, int last) {
    SHARED(float, own, THREADS);
    DYN_SHARED(float, others);
    others[last] = own[threadIdx.x] = 1;
    out[threadIdx.x] = own[threadIdx.x];
}
static void shared_sum(Device *d, bool wrong) {
    const int bytes = (48 << 10) - (wrong ? 0 : BYTES);
    LAUNCH(add_shared, 1, THREADS, (size_t)bytes, d->first, d->memory, bytes / 4 - 1);
    CUDA_CHECK(cudaStreamSynchronize(d->first)); /* REFUSED shared_sum: 256 bytes of */
}

int main(int argc, char **argv) {
    Device d = {};
    CHECK(argc == 3, "usage: calls NAME wrong|right");
    CUDA_CHECK(cudaMalloc(&d.memory, BYTES));
    CUDA_CHECK(cudaHostAlloc(&d.pinned, BYTES, cudaHostAllocDefault));
    CUDA_CHECK(cudaStreamCreateWithFlags(&d.first, cudaStreamNonBlocking));
    CUDA_CHECK(cudaStreamCreateWithFlags(&d.second, cudaStreamNonBlocking));
    CUDA_CHECK(cudaEventCreateWithFlags(&d.fork, cudaEventDisableTiming));
    CUDA_CHECK(cudaEventCreateWithFlags(&d.join, cudaEventDisableTiming));
    const struct {
        const char *name;
        void (*run)(Device *, bool wrong);
    } calls[] = {{"unjoined", unjoined},     {"stale_event", stale_event},
                 {"two_captures", two_captures}, {"allocation", allocation},
                 {"waiting", waiting},       {"untimed", untimed},
                 {"host_looks", host_looks}, {"shared_sum", shared_sum}};
    for (const auto &c : calls)
        if (!strcmp(argv[1], c.name)) return c.run(&d, !strcmp(argv[2], "wrong")), 0;
    CHECK(false, "there is no call %s", argv[1]);
    return 1;
}

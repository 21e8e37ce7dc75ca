#include "stream.h"
#include <algorithm>
#include <map>
#include <vector>

/* The toolkit's headers leave these types open. */
struct CUgraph_st {
    std::vector<std::shared_ptr<emu::Operation>> operations;
};
struct CUgraphExec_st {
    std::vector<std::shared_ptr<emu::Operation>> operations;
};

namespace emu {

/* Work in order, NULL where it has run already; n + done names a moment of the stream. */
struct Queue {
    std::deque<std::shared_ptr<Operation>> work;
    uint64_t done = 0;

    uint64_t end() const { return done + work.size(); }
    bool has_run(uint64_t at) const { return at < done || !work[at - done]; }
    void run_at(uint64_t at) {
        const std::shared_ptr<Operation> operation = work[at - done];
        work[at - done] = nullptr;
        for (; !work.empty() && !work.front(); done++) work.pop_front();
        operation->run();
    }
    void run_until(uint64_t moment) {
        if (done >= moment || work.empty()) return;
        const DeviceAtWork open;
        while (done < moment && !work.empty()) run_at(done);
    }
    /* All but the deliveries that no other of it needs. */
    void meet() {
        const DeviceAtWork open;
        const uint64_t last = end();
        for (uint64_t at = done; at < last; at++) {
            if (has_run(at) || work[at - done]->delivers().bytes) continue;
            for (uint64_t before = done; before < at; before++)
                if (!has_run(before) && work[at - done]->touches(work[before - done]->delivers()))
                    run_at(before);
            run_at(at);
        }
    }
};

/* Streams that are recorded together. */
struct Capture {
    std::vector<std::shared_ptr<Operation>> operations;
    bool active = true;
};
/* How much of each stream's recorded work comes before a place in a capture. */
typedef std::map<cudaStream_t, size_t> Before;

} // namespace emu

struct CUstream_st {
    std::shared_ptr<emu::Queue> queue = std::make_shared<emu::Queue>();
    bool blocking = true;
    std::shared_ptr<emu::Capture> capture; /* what records the stream now */
    emu::Before before;
    bool origin = false; /* the capture began here */
};

struct CUevent_st {
    bool timed = true;
    std::shared_ptr<emu::Queue> queue; /* NULL: not recorded yet, which counts as done */
    uint64_t moment = 0;
    std::shared_ptr<emu::Capture> capture; /* recorded in this capture, and what was before */
    emu::Before before;
};

namespace emu {

static std::vector<cudaStream_t> streams;
static cudaError_t last_error = cudaSuccess;

cudaError_t error_keep(cudaError_t error) {
    if (error != cudaSuccess) last_error = error;
    return error;
}

bool stream_capturing() {
    for (const cudaStream_t s : streams)
        if (s->capture) return true;
    return false;
}

static void run_all(bool only_blocking) {
    for (const cudaStream_t s : streams)
        if (s->blocking || !only_blocking) s->queue->run_until(s->queue->end());
}

cudaError_t stream_run_all() {
    if (stream_capturing()) return error_keep(cudaErrorStreamCaptureUnsupported);
    run_all(false);
    return cudaSuccess;
}

cudaError_t stream_submit(cudaStream_t stream, std::shared_ptr<Operation> operation) {
    if (stream && stream->capture) {
        stream->capture->operations.push_back(operation);
        stream->before[stream]++;
    } else if (stream) {
        stream->queue->work.push_back(operation);
        if (operation->meets()) stream->queue->meet();
    } else {
        if (stream_capturing()) return error_keep(cudaErrorStreamCaptureImplicit);
        run_all(true);
        const DeviceAtWork open;
        operation->run();
    }
    return cudaSuccess;
}

struct WaitFor : Operation {
    std::shared_ptr<Queue> queue;
    uint64_t moment;
    void run() override { queue->run_until(moment); }
    bool touches(Range) const override { return false; }
};

static std::shared_ptr<WaitFor> wait_for(cudaEvent_t event) {
    auto wait = std::make_shared<WaitFor>();
    wait->queue = event->queue;
    wait->moment = event->moment;
    return wait;
}

/* Of a graph, for an event outside it, as it was recorded last before the launch. */
struct WaitOutside : Operation {
    cudaEvent_t event;
    void run() override {}
    std::shared_ptr<Operation> launched() override {
        return event->queue ? wait_for(event) : nullptr;
    }
};

struct Replay : Operation {
    std::vector<std::shared_ptr<Operation>> operations;
    void run() override {
        for (const auto &o : operations) o->run();
    }
    bool meets() const override {
        for (const auto &o : operations)
            if (o->meets()) return true;
        return false;
    }
};

} // namespace emu

using emu::error_keep;

extern "C" {

/* ---- errors ---- */

cudaError_t cudaGetLastError() {
    const cudaError_t error = emu::last_error;
    emu::last_error = cudaSuccess;
    return error;
}

/* ---- streams ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags) {
    *out = new CUstream_st;
    (*out)->blocking = !(flags & cudaStreamNonBlocking);
    emu::streams.push_back(*out);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    stream->queue->run_until(stream->queue->end());
    for (auto s = emu::streams.begin(); s != emu::streams.end(); ++s)
        if (*s == stream) {
            emu::streams.erase(s);
            break;
        }
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    if (emu::stream_capturing()) return error_keep(cudaErrorStreamCaptureUnsupported);
    if (!stream) return emu::stream_run_all();
    stream->queue->run_until(stream->queue->end());
    return cudaSuccess;
}

/* ---- events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags) {
    *out = new CUevent_st;
    (*out)->timed = !(flags & cudaEventDisableTiming);
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *out) { return cudaEventCreateWithFlags(out, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    event->queue = nullptr;
    event->capture = stream ? stream->capture : nullptr;
    event->before = stream ? stream->before : emu::Before{};
    if (!stream) return emu::stream_run_all();
    if (stream->capture) return cudaSuccess;
    event->queue = stream->queue;
    event->moment = stream->queue->end();
    return cudaSuccess;
}

/* For tests: PUCK_EMU_SKIP_WAIT="2" leaves out the third wait of graphs for events outside. */
static bool skips_wait() {
    static int n_waits = 0;
    const char *const skipped = getenv("PUCK_EMU_SKIP_WAIT");
    return skipped && atoi(skipped) == n_waits++;
}

/* A stream that waits for an event of a capture enters it. Its operations are kept in the order of
 * the calls, which has every wait behind what it waits for. */
static cudaError_t enter_capture(cudaStream_t stream, cudaEvent_t event) {
    if (!event->capture->active) return error_keep(cudaErrorCapturedEvent);
    if (!stream) return error_keep(cudaErrorStreamCaptureImplicit);
    if (stream->capture && stream->capture != event->capture)
        return error_keep(cudaErrorStreamCaptureMerge);
    stream->capture = event->capture;
    for (const auto &[other, n] : event->before)
        stream->before[other] = std::max(stream->before[other], n);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    const bool captures = stream && stream->capture;
    if (flags & cudaEventWaitExternal) {
        if (!captures || event->capture) return error_keep(cudaErrorInvalidValue);
        auto wait = std::make_shared<emu::WaitOutside>();
        wait->event = event;
        return skips_wait() ? cudaSuccess : emu::stream_submit(stream, wait);
    }
    if (event->capture) return enter_capture(stream, event);
    if (!event->queue) return cudaSuccess;
    if (captures) return error_keep(cudaErrorStreamCaptureIsolation);
    return emu::stream_submit(stream, emu::wait_for(event));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    if (event->capture) return error_keep(cudaErrorCapturedEvent);
    if (emu::stream_capturing()) return error_keep(cudaErrorStreamCaptureUnsupported);
    if (event->queue) event->queue->run_until(event->moment);
    return cudaSuccess;
}

/* The emulator shows no speed; a time above zero keeps divisions finite. For tests:
 * PUCK_EMU_TIMES=SEED makes it as random as a card's. */
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end) {
    static uint64_t state = 0;
    for (const cudaEvent_t event : {begin, end})
        if (!event->timed || !event->queue) return error_keep(cudaErrorInvalidResourceHandle);
    const char *const seed = getenv("PUCK_EMU_TIMES");
    if (seed) state = 6364136223846793005u * (state + strtoul(seed, nullptr, 10)) + 1;
    *ms = 1 + (float)(state >> 40) / (1 << 24);
    return cudaEventSynchronize(end);
}

/* ---- graphs ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    if (!stream || stream->capture) return error_keep(cudaErrorStreamCaptureUnsupported);
    stream->capture = std::make_shared<emu::Capture>();
    stream->origin = true;
    return cudaSuccess;
}

/* The work of every stream that entered must come before the end. */
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    const std::shared_ptr<emu::Capture> capture = stream->capture;
    bool joined = true;
    *graph = nullptr;
    if (!stream->origin) return error_keep(cudaErrorStreamCaptureUnmatched);
    for (const cudaStream_t s : emu::streams)
        if (s->capture == capture) joined = joined && s->before[s] == stream->before[s];
    for (const cudaStream_t s : emu::streams) {
        if (s->capture != capture) continue;
        s->capture = nullptr;
        s->before.clear();
    }
    stream->origin = false;
    capture->active = false;
    if (!joined) return error_keep(cudaErrorStreamCaptureUnjoined);
    *graph = new CUgraph_st{capture->operations};
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status) {
    *status =
        stream && stream->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long) {
    *out = new CUgraphExec_st{graph->operations};
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    auto replay = std::make_shared<emu::Replay>();
    for (const auto &o : graph->operations) {
        const std::shared_ptr<emu::Operation> now = o->launched();
        replay->operations.push_back(now ? now : o);
    }
    return emu::stream_submit(stream, replay);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
    delete graph;
    return cudaSuccess;
}
} // extern "C"

/* The cuda back end: memory, streams, graphs, and what puck is told when there is no card. */
#include "common.cuh"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef BACKEND_NAME /* the emulator builds this file under its own name */
#define BACKEND_NAME "cuda"
#endif

enum { OLDEST_CAPABILITY = 80 };

/* What CUDA takes of a card beside puck's arenas: its context, kernels (which are loaded when they
 * are first called), cuBLASLt's part, graphs. From the one card that told, an H100 with one rank
 * and GPT-2 124M in bf16: 30303 MB in use less 29489 of arenas ("memory plan" in
 * bench/results/gpu.jsonl). What it is on other cards, and what NCCL adds between several, no card
 * has told. bench/gpu_check.py writes down the parts. */
static const int64_t CUDA_OWN_BYTES = 814000000;

/* check_failed has no context to find the host by. One process opens one card. */
static HostServices services;

void check_failed(const char *file, int line, const char *expression, const char *format, ...) {
    char message[1024], text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    snprintf(text, sizeof text, "%s:%d: %s: %s", file, line, expression, message);
    if (services.fatal) services.fatal(text);
    fprintf(stderr, "puck: %s\n", text);
    abort();
}

/* Threads start with card 0 as theirs. */
static void enter(Backend *b) { CUDA_CHECK(cudaSetDevice(state_of(b)->device)); }

static cudaStream_t stream_or_own(Backend *b, Stream *s) {
    return s ? (cudaStream_t)s : state_of(b)->stream;
}

/* ---- memory ---- */

static void *memory_alloc(Backend *b, int64_t bytes) {
    enter(b);
    void *memory = NULL;
    const size_t size = (size_t)i64_max(bytes, 1);
    const cudaError_t status = cudaMalloc(&memory, size);
    if (status == cudaErrorMemoryAllocation) {
        cudaGetLastError(); /* clears it */
        return NULL;
    }
    CUDA_CHECK(status);
    const cudaStream_t stream = state_of(b)->stream;
    CUDA_CHECK(cudaMemsetAsync(memory, 0, size, stream));
    CUDA_CHECK(cudaStreamSynchronize(stream));
    return memory;
}

static void memory_free(Backend *b, void *memory) {
    enter(b);
    CUDA_CHECK(cudaFree(memory));
}

static void *memory_alloc_pinned(Backend *b, int64_t bytes) {
    enter(b);
    void *memory = NULL;
    const size_t size = (size_t)i64_max(bytes, 1);
    if (cudaHostAlloc(&memory, size, cudaHostAllocDefault) != cudaSuccess) {
        cudaGetLastError();
        return NULL;
    }
    memset(memory, 0, size);
    return memory;
}

static void memory_free_pinned(Backend *b, void *memory) {
    enter(b);
    CUDA_CHECK(cudaFreeHost(memory));
}

static void memory_copy(Backend *b, void *to, const void *from, int64_t bytes, CopyKind kind,
                        Stream *stream) {
    enter(b);
    const cudaMemcpyKind way = kind == COPY_TO_DEVICE ? cudaMemcpyHostToDevice
                               : kind == COPY_TO_HOST ? cudaMemcpyDeviceToHost
                                                      : cudaMemcpyDeviceToDevice;
    CUDA_CHECK(cudaMemcpyAsync(to, from, (size_t)bytes, way, stream_or_own(b, stream)));
}

static void memory_fill(Backend *b, void *to, int byte, int64_t bytes, Stream *stream) {
    enter(b);
    CUDA_CHECK(cudaMemsetAsync(to, byte, (size_t)bytes, stream_or_own(b, stream)));
}

/* ---- streams and events ---- */

/* Non-blocking: no stream waits for the legacy default stream, which nobody uses. */
static Stream *stream_create(Backend *b) {
    enter(b);
    cudaStream_t stream;
    CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return (Stream *)stream;
}

static void stream_destroy(Backend *b, Stream *s) {
    enter(b);
    CUDA_CHECK(cudaStreamDestroy((cudaStream_t)s));
}

/* An event, and whether it was recorded last in a capture. */
struct Event {
    cudaEvent_t event;
    bool captured;
};

static bool is_captured(cudaStream_t stream) {
    cudaStreamCaptureStatus status;
    CUDA_CHECK(cudaStreamIsCapturing(stream, &status));
    return status != cudaStreamCaptureStatusNone;
}

static void stream_wait(Backend *b, Stream *s, Event *e) {
    enter(b);
    const cudaStream_t stream = stream_or_own(b, s);
    const bool outside = !e->captured && is_captured(stream);
    CUDA_CHECK(cudaStreamWaitEvent(stream, e->event, outside ? cudaEventWaitExternal : 0));
}

static void stream_finish(Backend *b, Stream *s) {
    enter(b);
    CUDA_CHECK(cudaStreamSynchronize(stream_or_own(b, s)));
    comm_check(b);
}

static Event *event_create(Backend *b) {
    enter(b);
    Event *const e = (Event *)calloc(1, sizeof *e);
    CHECK(e, "no memory for an event");
    CUDA_CHECK(cudaEventCreateWithFlags(&e->event, cudaEventDisableTiming));
    return e;
}

static void event_destroy(Backend *b, Event *e) {
    enter(b);
    CUDA_CHECK(cudaEventDestroy(e->event));
    free(e);
}

static void event_record(Backend *b, Event *e, Stream *s) {
    enter(b);
    const cudaStream_t stream = stream_or_own(b, s);
    e->captured = is_captured(stream);
    CUDA_CHECK(cudaEventRecord(e->event, stream));
}

static void event_finish(Backend *b, Event *e) {
    enter(b);
    CUDA_CHECK(cudaEventSynchronize(e->event));
    comm_check(b);
}

/* ---- graphs ---- */

/* Other threads (the feed's) may go on allocating and copying meanwhile. */
static void capture_begin(Backend *b, Stream *s) {
    enter(b);
    CUDA_CHECK(cudaStreamBeginCapture(stream_or_own(b, s), cudaStreamCaptureModeThreadLocal));
}

static Graph *capture_end(Backend *b, Stream *s) {
    enter(b);
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    CUDA_CHECK(cudaStreamEndCapture(stream_or_own(b, s), &graph));
    CUDA_CHECK(cudaGraphInstantiate(&executable, graph, 0));
    CUDA_CHECK(cudaGraphDestroy(graph));
    return (Graph *)executable;
}

static void graph_replay(Backend *b, Graph *g, Stream *s) {
    enter(b);
    CUDA_CHECK(cudaGraphLaunch((cudaGraphExec_t)g, stream_or_own(b, s)));
}

static void graph_destroy(Backend *b, Graph *g) {
    enter(b);
    CUDA_CHECK(cudaGraphExecDestroy((cudaGraphExec_t)g));
}

/* ---- open and close ---- */

static bool fail(Error *e, int code, const char *place, const char *hint, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
static bool fail(Error *e, int code, const char *place, const char *hint, const char *format, ...) {
    *e = Error{};
    e->code = code;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(e->text, sizeof e->text, format, arguments);
    va_end(arguments);
    snprintf(e->place, sizeof e->place, "%s", place);
    snprintf(e->hint, sizeof e->hint, "%s", hint);
    return false;
}

static bool count_cards(int *n, Error *e) {
    const cudaError_t status = cudaGetDeviceCount(n);
    if (status == cudaSuccess && *n > 0) return true;
    int driver = 0;
    cudaDriverGetVersion(&driver); /* 0 without a driver */
    if (status == cudaErrorInsufficientDriver && driver == 0)
        return fail(e, EXIT_FAILED, "", "Install NVIDIA's driver, or give --device cpu",
                    "there is no NVIDIA driver");
    if (status == cudaErrorInsufficientDriver)
        return fail(e, EXIT_FAILED, "", "Update the driver, or give --device cpu",
                    "NVIDIA's driver is too old: it supports CUDA %d.%d, puck needs CUDA %d",
                    driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000);
    if (status == cudaSuccess || status == cudaErrorNoDevice)
        return fail(e, EXIT_FAILED, "", "Give --device cpu", "the driver finds no NVIDIA card");
    return fail(e, EXIT_FAILED, "", "Give --device cpu", "the card does not answer: %s",
                cudaGetErrorString(status));
}

/* The card's own number, the same for every process that sees it. */
static uint64_t card_number(const cudaDeviceProp *card) {
    uint64_t half[2];
    static_assert(sizeof half == sizeof card->uuid, "a UUID has 16 bytes");
    memcpy(half, &card->uuid, sizeof half);
    return half[0] ^ half[1];
}

static bool read_properties(DeviceProperties *out, int device, Error *e) {
    cudaDeviceProp card;
    cudaError_t status = cudaGetDeviceProperties(&card, device);
    char place[32];
    snprintf(place, sizeof place, "cuda:%d", device);
    if (status == cudaSuccess && card.major * 10 + card.minor < OLDEST_CAPABILITY)
        return fail(e, EXIT_FAILED, place, "Give another card, or --device cpu",
                    "%s is too old: its compute capability is %d.%d, puck needs %d.%d", card.name,
                    card.major, card.minor, OLDEST_CAPABILITY / 10, OLDEST_CAPABILITY % 10);
    if (status == cudaSuccess) status = cudaSetDevice(device);
    if (status != cudaSuccess)
        return fail(e, EXIT_FAILED, place, "Is another program using it alone?",
                    "the card does not answer: %s", cudaGetErrorString(status));
    *out = DeviceProperties{};
    snprintf(out->name, sizeof out->name, "%.*s", (int)sizeof out->name - 1, card.name);
    out->n_units = card.multiProcessorCount;
    out->compute_capability = card.major * 10 + card.minor;
    out->shared_bytes = (int64_t)card.sharedMemPerBlockOptin;
    out->card = card_number(&card);
    return true;
}

/* The last step of opening, so that what opening took is not free. CUDA cannot be asked before: the
 * question itself makes the context. */
static void read_memory(DeviceProperties *out) {
    size_t free_bytes = 0, all_bytes = 0;
    CUDA_CHECK(cudaMemGetInfo(&free_bytes, &all_bytes));
    out->memory_bytes = (int64_t)all_bytes;
    out->memory_free = (int64_t)free_bytes;
#ifndef PUCK_EMU /* which takes none of its memory itself */
    out->memory_own = CUDA_OWN_BYTES;
#endif
}

static void close_backend(Backend *b) {
    if (!state_of(b)) { /* of a card that is not there */
        *b = Backend{};
        return;
    }
    enter(b);
    comm_close(b);
    product_close(b);
    CUDA_CHECK(cudaStreamDestroy(state_of(b)->stream));
    free(state_of(b));
    *b = Backend{};
}

static void fill_table(Backend *b, CudaState *state, DType compute) {
    b->name = BACKEND_NAME;
    b->compute = compute;
    b->master = DTYPE_F32;
    b->captures = true;
    b->ops = &cuda_ops;
    b->state = state;
    b->alloc = memory_alloc;
    b->free = memory_free;
    b->alloc_pinned = memory_alloc_pinned;
    b->free_pinned = memory_free_pinned;
    b->copy = memory_copy;
    b->fill = memory_fill;
    b->stream_create = stream_create;
    b->stream_destroy = stream_destroy;
    b->stream_wait = stream_wait;
    b->stream_finish = stream_finish;
    b->event_create = event_create;
    b->event_destroy = event_destroy;
    b->event_record = event_record;
    b->event_finish = event_finish;
    b->capture_begin = capture_begin;
    b->capture_end = capture_end;
    b->graph_replay = graph_replay;
    b->graph_destroy = graph_destroy;
    b->all_reduce = comm_all_reduce;
    b->reduce_scatter = comm_reduce_scatter;
    b->all_gather = comm_all_gather;
    b->broadcast = comm_broadcast;
    b->choices = product_choices;
    b->choose = product_choose;
    b->close = close_backend;
}

static bool open_cuda(Backend *out, const HostServices *host, int device, DType compute, Error *e) {
    services = *host;
    int n_cards = 0;
    DeviceProperties properties;
    if (compute != DTYPE_COUNT && compute != DTYPE_BF16 && compute != DTYPE_F32)
        return fail(e, EXIT_MISUSE, "--dtype", "Give bf16 or f32",
                    "the " BACKEND_NAME " back end does not compute in %s", dtype_name(compute));
    if (device == -1) { /* for memory plans alone: an H100, but for the memory */
        *out = Backend{};
        snprintf(out->properties.name, sizeof out->properties.name, "a card like an H100");
        out->properties.n_units = 132;
        out->properties.compute_capability = 90;
        out->properties.shared_bytes = 227 << 10;
        out->properties.memory_own = CUDA_OWN_BYTES;
        fill_table(out, NULL, compute == DTYPE_COUNT ? DTYPE_BF16 : compute);
        return true;
    }
    if (!count_cards(&n_cards, e)) return false;
    /* A rank that sees one card was given its own, or shares it: the host compares them. */
    if (host->n_ranks > 1 && n_cards > 1) device += host->local_rank;
    if (host->n_ranks > 1 && device >= n_cards)
        return fail(e, EXIT_MISUSE, "--device", "Start one process per card",
                    "there is no card for process %d of this host, which has %d",
                    host->local_rank + 1, n_cards);
    if (device < 0 || device >= n_cards)
        return fail(e, EXIT_MISUSE, "--device", "Numbers begin at cuda:0",
                    "there is no card %d; this machine has %d", device, n_cards);
    if (!read_properties(&properties, device, e)) return false;
    CudaState *const state = (CudaState *)calloc(1, sizeof *state);
    if (!state) return fail(e, EXIT_FAILED, "", "", "no memory to open the card");
    state->device = device;
    CUDA_CHECK(cudaStreamCreateWithFlags(&state->stream, cudaStreamNonBlocking));
    *out = Backend{};
    out->properties = properties;
    fill_table(out, state, compute == DTYPE_COUNT ? DTYPE_BF16 : compute);
    if (product_open(out, e)) {
        if (comm_open(out, host, e)) {
            read_memory(&out->properties);
            return true;
        }
        product_close(out);
    }
    CUDA_CHECK(cudaStreamDestroy(state->stream));
    free(state);
    *out = Backend{};
    return false;
}

extern "C" {
extern const Plugin puck_plugin;
__attribute__((visibility("default")))
const Plugin puck_plugin = {PUCK_ABI, BACKEND_NAME, open_cuda};
}

/* The cpu back end: device memory is host memory, and every call is finished when it returns. */
#include "common.h"
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#ifdef PUCK_REAL_F64
#define OPEN backend_open_cpu_f64
#define NAME "cpu_f64"
#elif defined PUCK_TILES
#define OPEN backend_open_cpu_tiles
#define NAME "cpu"
#elif defined PUCK_WIDE
#define OPEN backend_open_cpu_wide
#define NAME "cpu"
#else
#define OPEN backend_open_cpu_base
#define NAME "cpu"
#endif

/* ---- the op table ---- */

static int64_t scratch(OpKind op, const OpShape *shape, const DeviceProperties *device) {
    switch (op) {
    case OP_LINEAR_FORWARD:
    case OP_LINEAR_BACKWARD_INPUT:
    case OP_LINEAR_BACKWARD_WEIGHT: return OP(cpu_linear_scratch)(op, shape, device);
    case OP_ATTENTION_FORWARD:
    case OP_ATTENTION_BACKWARD:
    case OP_ATTENTION_DECODE: return OP(cpu_attention_scratch)(op, shape, device);
    case OP_RECURRENCE_FORWARD:
    case OP_RECURRENCE_BACKWARD: return OP(cpu_recurrence_scratch)(shape);
    case OP_MUON: return OP(cpu_muon_scratch)(shape, device);
    case OP_RESIDUAL_NORM_BACKWARD: return OP(cpu_norm_scratch)(shape);
    case OP_ROTATE_FORWARD:
    case OP_ROTATE_BACKWARD: return OP(cpu_rope_scratch)(op, shape);
    default: return 0;
    }
}

static const Ops table = {.scratch = scratch,
                          .embed_forward = OP(cpu_embed_forward),
                          .embed_backward = OP(cpu_embed_backward),
                          .residual_norm_forward = OP(cpu_residual_norm_forward),
                          .residual_norm_backward = OP(cpu_residual_norm_backward),
                          .linear_forward = OP(cpu_linear_forward),
                          .linear_backward_input = OP(cpu_linear_backward_input),
                          .linear_backward_weight = OP(cpu_linear_backward_weight),
                          .attention_forward = OP(cpu_attention_forward),
                          .attention_backward = OP(cpu_attention_backward),
                          .attention_decode = OP(cpu_attention_decode),
                          .rotate_forward = OP(cpu_rotate_forward),
                          .rotate_backward = OP(cpu_rotate_backward),
                          .swiglu_forward = OP(cpu_swiglu_forward),
                          .swiglu_backward = OP(cpu_swiglu_backward),
                          .recurrence_forward = OP(cpu_recurrence_forward),
                          .recurrence_backward = OP(cpu_recurrence_backward),
                          .activation_forward = OP(cpu_activation_forward),
                          .activation_backward = OP(cpu_activation_backward),
                          .dropout_forward = OP(cpu_dropout_forward),
                          .dropout_backward = OP(cpu_dropout_backward),
                          .classifier = OP(cpu_classifier),
                          .negative_sampling = OP(cpu_negative_sampling),
                          .loss_sum = OP(cpu_loss_sum),
                          .grad_norm = OP(cpu_grad_norm),
                          .join_results = OP(cpu_join_results),
                          .adamw = OP(cpu_adamw),
                          .muon = OP(cpu_muon)};

/* ---- memory ---- */

enum { CACHE_LINE = 64, HUGE_PAGE = 2 << 20 };

/* A field of /proc/meminfo in bytes; 0 if there is none. */
static int64_t memory_info(const char *field) {
    FILE *f = fopen("/proc/meminfo", "r");
    if (!f) return 0;
    char line[256];
    long kib = 0;
    const size_t length = strlen(field);
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, field, length) && line[length] == ':') kib = atol(line + length + 1);
    fclose(f);
    return (int64_t)kib * 1024;
}

/* Large blocks are asked for against what is free now: Linux would promise more, and kill the
 * program at first touch. Their pages are touched first by the threads, so that each node's memory
 * serves its own, and are huge ones, which spares most misses in the address translation. */
static void *memory_alloc(Backend *b, int64_t bytes) {
    (void)b;
    const bool large = bytes >= HUGE_PAGE;
    if (large && bytes > memory_info("MemAvailable")) return NULL;
    const int64_t align = large ? HUGE_PAGE : CACHE_LINE;
    const int64_t size = i64_round_up(i64_max(bytes, 1), align);
    char *memory = aligned_alloc((size_t)align, (size_t)size);
    if (!memory) return NULL;
    if (large) madvise(memory, (size_t)size, MADV_HUGEPAGE); /* advice: failure changes nothing */
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < size; at += HUGE_PAGE)
        memset(memory + at, 0, (size_t)i64_min(HUGE_PAGE, size - at));
    return memory;
}

static void memory_free(Backend *b, void *memory) {
    (void)b;
    free(memory);
}

static void memory_copy(Backend *b, void *to, const void *from, int64_t bytes, CopyKind kind,
                        Stream *stream) {
    (void)b, (void)kind, (void)stream;
#pragma omp parallel for schedule(static) if (bytes > HUGE_PAGE)
    for (int64_t at = 0; at < bytes; at += HUGE_PAGE)
        memcpy((char *)to + at, (const char *)from + at, (size_t)i64_min(HUGE_PAGE, bytes - at));
}

static void memory_fill(Backend *b, void *to, int byte, int64_t bytes, Stream *stream) {
    (void)b, (void)stream;
#pragma omp parallel for schedule(static) if (bytes > HUGE_PAGE)
    for (int64_t at = 0; at < bytes; at += HUGE_PAGE)
        memset((char *)to + at, byte, (size_t)i64_min(HUGE_PAGE, bytes - at));
}

/* ---- streams and events: all work is done when its call returns, so there is nothing to keep; the
 * handle only has to differ from NULL ---- */

static Stream *stream_create(Backend *b) { return (Stream *)b; }
static void stream_destroy(Backend *b, Stream *s) { (void)b, (void)s; }
static void stream_wait(Backend *b, Stream *s, Event *e) { (void)b, (void)s, (void)e; }
static void stream_finish(Backend *b, Stream *s) { (void)b, (void)s; }
static Event *event_create(Backend *b) { return (Event *)b; }
static void event_destroy(Backend *b, Event *e) { (void)b, (void)e; }
static void event_record(Backend *b, Event *e, Stream *s) { (void)b, (void)e, (void)s; }
static void event_finish(Backend *b, Event *e) { (void)b, (void)e; }

static void capture_begin(Backend *b, Stream *s) {
    (void)b, (void)s;
    CHECK(false, "the cpu back end does not capture");
}
static Graph *capture_end(Backend *b, Stream *s) {
    capture_begin(b, s);
    return NULL;
}
static void graph_replay(Backend *b, Graph *g, Stream *s) {
    (void)g;
    capture_begin(b, s);
}
static void graph_destroy(Backend *b, Graph *g) { graph_replay(b, g, NULL); }

/* ---- collectives: the host's ---- */

static const HostServices *host_of(const Backend *b) { return b->state; }

static void all_reduce(Backend *b, Tensor data, Stream *s) {
    (void)s;
    host_of(b)->all_reduce(data.data, tensor_count(data), data.dtype);
}

static void reduce_scatter(Backend *b, Tensor recv, Tensor send, Stream *s) {
    (void)s;
    const int64_t n = tensor_count(recv), all = tensor_count(send);
    CHECK(recv.dtype == send.dtype && all == n * host_of(b)->n_ranks, "%ld of %ld", (long)n,
          (long)all);
    host_of(b)->reduce_scatter(recv.data, send.data, n, recv.dtype);
}

static void all_gather(Backend *b, Tensor recv, Tensor send, Stream *s) {
    (void)s;
    const int64_t n = tensor_count(send), all = tensor_count(recv);
    CHECK(recv.dtype == send.dtype && all == n * host_of(b)->n_ranks, "%ld of %ld", (long)n,
          (long)all);
    host_of(b)->all_gather(recv.data, send.data, n, recv.dtype);
}

static void broadcast(Backend *b, Tensor data, int root, Stream *s) {
    (void)s;
    host_of(b)->broadcast(data.data, tensor_bytes(data), root);
}

/* ---- open and close ---- */

/* Results and operands too small to be normal count as zero, on every thread: an operation on such
 * a number costs about a hundred cycles, and Adam's moments of rarely seen tokens decay into that
 * range and stay there. Threads that are started later inherit the setting. */
static void flush_denormals(void) {
#pragma omp parallel
    {
#if defined(__x86_64__)
        _MM_SET_FLUSH_ZERO_MODE(_MM_FLUSH_ZERO_ON);
        _MM_SET_DENORMALS_ZERO_MODE(_MM_DENORMALS_ZERO_ON);
#elif defined(__aarch64__)
        uint64_t control;
        __asm__ volatile("mrs %0, fpcr" : "=r"(control));
        __asm__ volatile("msr fpcr, %0" : : "r"(control | 1u << 24));
#endif
    }
}

#if !defined(PUCK_REAL_F64) && !defined(PUCK_WIDE) && !defined(PUCK_TILES)
#ifdef PUCK_HAS_WIDE
static bool has_wide(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}

/* The processor has tiles of bf16, and the kernel lets this process keep their state, which it
 * refuses until it is asked (Linux, Documentation/arch/x86/xstate.rst). */
static bool has_tiles(void) {
    enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24, REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    unsigned a, b, c, d = 0;
    return has_wide() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && d & AMX_BF16 && d & AMX_TILE &&
           !syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA);
}

CpuBuild backend_cpu_best(void) {
    return has_tiles() ? CPU_TILES : has_wide() ? CPU_WIDE : CPU_BASE;
}

#else
CpuBuild backend_cpu_best(void) { return CPU_BASE; }
#endif

bool backend_open_cpu(Backend *out, const HostServices *host, Error *e) {
#ifdef PUCK_HAS_WIDE
    const CpuBuild best = backend_cpu_best();
    if (best == CPU_TILES) return backend_open_cpu_tiles(out, host, e);
    if (best == CPU_WIDE) return backend_open_cpu_wide(out, host, e);
#endif
    return backend_open_cpu_base(out, host, e);
}

/* A thread that waits for the others of its team looks 1,000 times (some 20 us), then sleeps. The
 * runtime's own 300,000 keep a core busy that another program could use, often the one that the
 * awaited thread should run on: beside one busy program a step took 10 times as long. The runtime
 * reads this before main(), and only from the environment; linked in, it is initialised after
 * constructors of this priority. */
__attribute__((constructor(101))) static void backend_wait_briefly(void) {
    if (!getenv("OMP_WAIT_POLICY")) setenv("GOMP_SPINCOUNT", "1000", 0);
}
#endif

static void cpu_name(char *name, size_t size) {
    snprintf(name, size, "CPU");
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f) return;
    char line[256];
    while (fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", strlen("model name")) || !colon) continue;
        snprintf(name, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    fclose(f);
}

static void close_backend(Backend *b) {
    free(b->state);
    *b = (Backend){0};
}

bool OPEN(Backend *out, const HostServices *host, Error *e) {
    CHECK(host->n_threads > 0, "%d threads", host->n_threads);
    HostServices *services = malloc(sizeof *services);
    if (!services) return error_set(e, NULL, NULL, "no memory to open the cpu back end");
    *services = *host;
    omp_set_num_threads(host->n_threads);
    flush_denormals();
    *out = (Backend){.name = NAME,
                     .properties = {.memory_bytes = memory_info("MemTotal"),
                                    .memory_free = memory_info("MemAvailable"),
                                    .n_units = host->n_threads},
                     .compute = REAL_DTYPE,
                     .master = REAL_DTYPE,
                     .captures = false,
                     .host_memory = true,
                     .ops = &table,
                     .state = services,
                     .alloc = memory_alloc,
                     .free = memory_free,
                     .alloc_pinned = memory_alloc,
                     .free_pinned = memory_free,
                     .copy = memory_copy,
                     .fill = memory_fill,
                     .stream_create = stream_create,
                     .stream_destroy = stream_destroy,
                     .stream_wait = stream_wait,
                     .stream_finish = stream_finish,
                     .event_create = event_create,
                     .event_destroy = event_destroy,
                     .event_record = event_record,
                     .event_finish = event_finish,
                     .capture_begin = capture_begin,
                     .capture_end = capture_end,
                     .graph_replay = graph_replay,
                     .graph_destroy = graph_destroy,
                     .all_reduce = all_reduce,
                     .reduce_scatter = reduce_scatter,
                     .all_gather = all_gather,
                     .broadcast = broadcast,
                     .close = close_backend};
    cpu_name(out->properties.name, sizeof out->properties.name);
    return true;
}

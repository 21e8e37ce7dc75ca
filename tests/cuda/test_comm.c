/* Collectives on device tensors (kernels/cuda/comm.cu) between processes, on the emulator's NCCL:
 * results, what each dtype rounds, graphs, missing waits, and ranks that disagree or are gone.
 *
 *   test_comm             emu
 *   test_comm DEVICE      another one: what one process alone can show of its NCCL */
#include "backend.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { MOST_RANKS = 3, FATAL = 9, WRONG = 10, SECONDS = 120 };

static char library[4096];
static int card;

/* ---- ranks: processes of this test, joined by pipes from rank 0 ---- */

static int from_first[MOST_RANKS][2]; /* ends to read and to write */
static int self;                      /* this process's rank */
static int n_ranks;

static void service_log(int level, const char *text) {
    (void)level;
    fprintf(stderr, "%s\n", text);
}
static void service_fatal(const char *text) {
    fprintf(stderr, "rank %d: %s\n", self, text);
    _exit(FATAL);
}

/* The only one that comm.cu uses, for less than a pipe holds. */
static void service_broadcast(void *data, int64_t bytes, int root) {
    bool ok = root == 0;
    if (self != 0) ok = ok && read(from_first[self][0], data, (size_t)bytes) == bytes;
    for (int r = 1; self == 0 && r < n_ranks; r++)
        ok = ok && write(from_first[r][1], data, (size_t)bytes) == bytes;
    if (!ok) service_fatal("the test's broadcast");
}

static bool open_rank(Backend *b, Error *e) {
    const HostServices host = {.rank = self,
                               .n_ranks = n_ranks,
                               .local_rank = self,
                               .n_threads = 1,
                               .log = service_log,
                               .fatal = service_fatal,
                               .broadcast = service_broadcast};
    void *const handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!handle) service_fatal(dlerror());
    const Plugin *const plugin = dlsym(handle, "puck_plugin");
    return plugin->open(b, &host, card, DTYPE_F32, e);
}

typedef void Work(Backend *);

static void run_rank(Work *work, const char *output) {
    Backend b;
    Error e = {0};
    const int out = open(output, O_WRONLY | O_APPEND | O_CREAT, 0600);
    dup2(out, STDERR_FILENO);
    alarm(SECONDS); /* a rank that waits for ever */
    if (!open_rank(&b, &e)) {
        fprintf(stderr, "%s (%s). %s\n", e.text, e.place, e.hint);
        _exit(e.code);
    }
    work(&b);
    b.close(&b);
    _exit(0);
}

/* Runs `work` on `ranks` processes; what they wrote to stderr goes to `said`. Returns the number of
 * those that did not end with 0. */
static int run_ranks(int ranks, Work *work, char said[4096]) {
    char output[] = "/tmp/puck-comm-XXXXXX";
    pid_t rank[MOST_RANKS];
    int failed = 0;
    const int file = mkstemp(output);
    assert_true(file >= 0);
    n_ranks = ranks;
    for (int r = 0; r < ranks; r++) assert_int_equal(pipe(from_first[r]), 0);
    for (self = 0; self < ranks; self++) {
        rank[self] = fork();
        assert_true(rank[self] >= 0);
        if (rank[self] == 0) run_rank(work, output);
    }
    for (int r = 0; r < ranks; r++) {
        int status;
        assert_int_equal(waitpid(rank[r], &status, 0), rank[r]);
        failed += status != 0;
        close(from_first[r][0]);
        close(from_first[r][1]);
    }
    const ssize_t n = read(file, said, 4095);
    said[n > 0 ? n : 0] = '\0';
    close(file);
    unlink(output);
    return failed;
}

static void expect_success(int ranks, Work *work) {
    char said[4096];
    const int failed = run_ranks(ranks, work, said);
    /* Words alone are no failure: libraries that a card's NCCL opens may warn. */
    if (failed) fail_msg("%d of %d ranks failed: %s", failed, ranks, said);
}

static void expect_failure(int ranks, Work *work, const char *text) {
    char said[4096];
    const int failed = run_ranks(ranks, work, said);
    if (failed != ranks || !strstr(said, text))
        fail_msg("%d of %d ranks failed, \"%s\" expected: %s", failed, ranks, text, said);
}

/* ---- values: element i of what rank r gives ---- */

static const DType dtypes[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F64, DTYPE_I32};

/* Whole numbers below 2^6, whose sums every dtype holds, and which tell ranks and places apart. */
static double whole(int r, int64_t i) { return (double)((i * 7 + r * 13) % 61); }

/* With as many bits as the dtype has. */
static double rough(int r, int64_t i) { return sin((double)(i + 1) * 0.7 + r) * exp2(r * 3 % 5); }

static float bf16_value(uint16_t bits) {
    const uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}
static uint16_t bf16_round(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static void put(void *to, int64_t i, double value, DType dtype) {
    switch (dtype) {
    case DTYPE_F32: ((float *)to)[i] = (float)value; break;
    case DTYPE_F64: ((double *)to)[i] = value; break;
    case DTYPE_I32: ((int32_t *)to)[i] = (int32_t)(value * 1000); break;
    default: ((uint16_t *)to)[i] = bf16_round((float)value);
    }
}

/* to[i] += value[i], rounded to the dtype. */
static void add(void *to, const void *value, int64_t i, DType dtype) {
    switch (dtype) {
    case DTYPE_F32: ((float *)to)[i] += ((const float *)value)[i]; break;
    case DTYPE_F64: ((double *)to)[i] += ((const double *)value)[i]; break;
    case DTYPE_I32: ((int32_t *)to)[i] += ((const int32_t *)value)[i]; break;
    default:
        ((uint16_t *)to)[i] = bf16_round(bf16_value(((uint16_t *)to)[i]) +
                                         bf16_value(((const uint16_t *)value)[i]));
    }
}

/* ---- buffers ---- */

typedef struct Buffer {
    Tensor device;
    void *host;
} Buffer;

static Buffer buffer_new(Backend *b, DType dtype, int64_t n) {
    Buffer x = {.host = calloc((size_t)n, (size_t)dtype_bytes(dtype))};
    x.device = tensor_1d(b->alloc(b, n * dtype_bytes(dtype)), dtype, n);
    if (!x.host || !x.device.data) service_fatal("no memory");
    return x;
}

static void buffer_free(Backend *b, Buffer *x) {
    b->free(b, x->device.data);
    free(x->host);
}

static void buffer_write(Backend *b, const Buffer *x) {
    b->copy(b, x->device.data, x->host, tensor_bytes(x->device), COPY_TO_DEVICE, NULL);
    b->stream_finish(b, NULL);
}

/* Stops this rank unless the device has `want` from element `first` of x on. */
static void buffer_expect(Backend *b, const Buffer *x, int64_t first, int64_t n, const void *want,
                          const char *what) {
    const int64_t size = dtype_bytes(x->device.dtype), bytes = tensor_bytes(x->device);
    char *const got = malloc((size_t)bytes);
    if (!got) service_fatal("no memory");
    b->copy(b, got, x->device.data, bytes, COPY_TO_HOST, NULL);
    b->stream_finish(b, NULL);
    for (int64_t i = 0; i < n * size; i++)
        if (got[first * size + i] != ((const char *)want)[i]) {
            fprintf(stderr, "rank %d of %d: %s of %ld %s: element %ld is wrong\n", self, n_ranks,
                    what, (long)n, dtype_name(x->device.dtype), (long)(i / size));
            _exit(WRONG);
        }
    free(got);
}

/* ---- every collective, dtype and size ---- */

typedef double Value(int rank, int64_t i);

/* x's host memory = what rank r gives; want = the sum over all, in rank order. */
static void fill(Buffer *x, void *want, int64_t n, Value *value) {
    const DType dtype = x->device.dtype;
    char other[16];
    for (int64_t i = 0; i < n; i++) {
        put(x->host, i, value(self, i), dtype);
        put(want, i, value(0, i), dtype);
        for (int r = 1; r < n_ranks; r++) {
            put(other, 0, value(r, i), dtype);
            add((char *)want + i * dtype_bytes(dtype), other, 0, dtype);
        }
    }
    if (!n) memset(other, 0, sizeof other);
}

/* A part for every rank; the collectives over `part` elements, apart and in place. */
static void try_collectives(Backend *b, DType dtype, int64_t part, Value *value) {
    const int64_t n = part * n_ranks, size = dtype_bytes(dtype), own = self * part;
    Buffer x = buffer_new(b, dtype, n), y = buffer_new(b, dtype, n);
    char *const sum = calloc((size_t)n, (size_t)size);
    const Tensor large = x.device, small = tensor_1d(y.device.data, dtype, part);
    const Tensor inside = tensor_1d((char *)x.device.data + own * size, dtype, part);
    fill(&x, sum, n, value);

    buffer_write(b, &x);
    b->all_reduce(b, large, NULL);
    buffer_expect(b, &x, 0, n, sum, "all_reduce");

    buffer_write(b, &x);
    b->reduce_scatter(b, small, large, NULL);
    buffer_expect(b, &y, 0, part, sum + own * size, "reduce_scatter");
    buffer_expect(b, &x, 0, n, x.host, "what reduce_scatter reads");
    b->reduce_scatter(b, inside, large, NULL);
    buffer_expect(b, &x, own, part, sum + own * size, "reduce_scatter in place");

    b->all_gather(b, large, small, NULL);
    buffer_expect(b, &x, 0, n, sum, "all_gather");
    b->fill(b, x.device.data, 0, n * size, NULL);
    b->copy(b, inside.data, y.device.data, part * size, COPY_ON_DEVICE, NULL);
    b->all_gather(b, large, inside, NULL);
    buffer_expect(b, &x, 0, n, sum, "all_gather in place");

    for (int root = 0; root < n_ranks; root++) {
        for (int64_t i = 0; i < n; i++) put(x.host, i, value(root, i), dtype);
        if (self == root)
            buffer_write(b, &x);
        else
            b->fill(b, x.device.data, 0, n * size, NULL);
        b->broadcast(b, large, root, NULL);
        buffer_expect(b, &x, 0, n, x.host, "broadcast");
    }
    free(sum);
    buffer_free(b, &x);
    buffer_free(b, &y);
}

static void every_collective(Backend *b) {
    static const int64_t parts[] = {1, 3, 257, 70001};
    for (int64_t d = 0; d < COUNT_OF(dtypes); d++)
        for (int64_t p = 0; p < COUNT_OF(parts); p++) {
            try_collectives(b, dtypes[d], parts[p], whole);
            try_collectives(b, dtypes[d], parts[p], rough);
        }
}

static void test_collectives(void **state) {
    (void)state;
    for (int ranks = 1; ranks <= MOST_RANKS; ranks++) expect_success(ranks, every_collective);
}

/* Of a single process, through NCCL all the same. */
static void test_one_rank(void **state) {
    (void)state;
    setenv("PUCK_ALWAYS_NCCL", "1", 1);
    expect_success(1, every_collective);
    unsetenv("PUCK_ALWAYS_NCCL");
}

/* ---- streams and graphs ---- */

enum { N = 1000 };

/* A sum on a stream of its own, between work of another; `before` and `after`: it is waited for. */
static void sum_beside(Backend *b, bool before, bool after) {
    Buffer x = buffer_new(b, DTYPE_F32, N), y = buffer_new(b, DTYPE_F32, N);
    Stream *const main_stream = b->stream_create(b), *const side = b->stream_create(b);
    Event *const ready = b->event_create(b), *const done = b->event_create(b);
    float sum[N];
    void *const pinned = b->alloc_pinned(b, sizeof sum);
    fill(&x, sum, N, whole);
    memcpy(pinned, x.host, sizeof sum);
    b->copy(b, x.device.data, pinned, sizeof sum, COPY_TO_DEVICE, main_stream);
    b->event_record(b, ready, main_stream);
    if (before) b->stream_wait(b, side, ready);
    b->all_reduce(b, x.device, side);
    b->event_record(b, done, side);
    if (after) b->stream_wait(b, main_stream, done);
    b->copy(b, y.device.data, x.device.data, sizeof sum, COPY_ON_DEVICE, main_stream);
    b->stream_finish(b, main_stream);
    buffer_expect(b, &y, 0, N, sum, "a sum beside other work");
    b->stream_finish(b, side);
    b->event_destroy(b, ready);
    b->event_destroy(b, done);
    b->stream_destroy(b, side);
    b->stream_destroy(b, main_stream);
    b->free_pinned(b, pinned);
    buffer_free(b, &x);
    buffer_free(b, &y);
}

static void waits_right(Backend *b) { sum_beside(b, true, true); }
static void waits_not_before(Backend *b) { sum_beside(b, false, true); }
static void waits_not_after(Backend *b) { sum_beside(b, true, false); }

static void test_waits(void **state) {
    (void)state;
    expect_success(2, waits_right);
    expect_failure(2, waits_not_before, "a sum beside other work");
    expect_failure(2, waits_not_after, "a sum beside other work");
}

/* A captured sum on a second stream, replayed: x = sum of x over the ranks, three times. */
static void replay(Backend *b) {
    enum { TIMES = 3 };
    Buffer x = buffer_new(b, DTYPE_F32, N), y = buffer_new(b, DTYPE_F32, N);
    Stream *const stream = b->stream_create(b), *const side = b->stream_create(b);
    Event *const ready = b->event_create(b), *const done = b->event_create(b);
    float sum[N];
    fill(&x, sum, N, whole);
    b->all_reduce(b, y.device, stream); /* connects the ranks, which a capture cannot */
    b->stream_finish(b, stream);
    buffer_write(b, &x);
    b->capture_begin(b, stream);
    b->event_record(b, ready, stream);
    b->stream_wait(b, side, ready);
    b->all_reduce(b, x.device, side);
    b->event_record(b, done, side);
    b->stream_wait(b, stream, done);
    b->copy(b, y.device.data, x.device.data, sizeof sum, COPY_ON_DEVICE, stream);
    Graph *const graph = b->capture_end(b, stream);
    buffer_expect(b, &x, 0, N, x.host, "captured and not replayed");
    for (int i = 0; i < TIMES; i++) b->graph_replay(b, graph, stream);
    b->stream_finish(b, stream);
    for (int i = 0; i < N; i++)
        for (int k = 1; k < TIMES; k++) sum[i] *= (float)n_ranks;
    buffer_expect(b, &y, 0, N, sum, "replayed");
    b->graph_destroy(b, graph);
    b->event_destroy(b, ready);
    b->event_destroy(b, done);
    b->stream_destroy(b, side);
    b->stream_destroy(b, stream);
    buffer_free(b, &x);
    buffer_free(b, &y);
}

static void test_graph(void **state) {
    (void)state;
    for (int ranks = 2; ranks <= MOST_RANKS; ranks++) expect_success(ranks, replay);
}

/* A graph replayed on one process, for a card. */
static void test_one_rank_graph(void **state) {
    (void)state;
    setenv("PUCK_ALWAYS_NCCL", "1", 1);
    expect_success(1, replay);
    unsetenv("PUCK_ALWAYS_NCCL");
}

/* ---- a graph that waits for events outside it, which are recorded anew before each replay ---- */

enum { TIMES = 3, PARTS = 2 };

/* What rank r gives at time t to be gathered in x[p]. */
static float given(int r, int t, int p, int64_t i) { return (float)whole(r + 5 * p + 7 * t, i); }

/* Own values are written, gathered in x on `side`, and copied to y by the graph; at time t. */
static void gather_and_replay(Backend *b, const Buffer x[PARTS], const Buffer *y,
                              const Buffer *kept, const float *own, Event *const done[PARTS],
                              Graph *graph, Stream *const stream[2]) {
    Event *const ready = b->event_create(b);
    Tensor part[PARTS];
    for (int p = 0; p < PARTS; p++) {
        part[p] = tensor_1d((float *)x[p].device.data + self * N, DTYPE_F32, N);
        b->copy(b, part[p].data, own + p * N, tensor_bytes(part[p]), COPY_TO_DEVICE, stream[0]);
    }
    b->event_record(b, ready, stream[0]);
    b->stream_wait(b, stream[1], ready);
    for (int p = 0; p < PARTS; p++) {
        b->all_gather(b, x[p].device, part[p], stream[1]);
        b->event_record(b, done[p], stream[1]);
    }
    b->graph_replay(b, graph, stream[0]);
    b->copy(b, kept->device.data, y->device.data, tensor_bytes(y->device), COPY_ON_DEVICE,
            stream[0]);
    b->event_destroy(b, ready);
}

/* `first`, `second`: the graph waits for them. The host waits for nothing before the end. */
static void gather_outside(Backend *b, bool first, bool second) {
    const bool waits[PARTS] = {first, second};
    const int64_t n = N * n_ranks;
    Stream *const stream[2] = {b->stream_create(b), b->stream_create(b)};
    Event *const done[PARTS] = {b->event_create(b), b->event_create(b)};
    Buffer x[PARTS], kept[TIMES], y = buffer_new(b, DTYPE_F32, n * PARTS);
    float *const own = b->alloc_pinned(b, TIMES * PARTS * N * (int64_t)sizeof *own);
    for (int t = 0; t < TIMES; t++) kept[t] = buffer_new(b, DTYPE_F32, n * PARTS);
    for (int p = 0; p < PARTS; p++) {
        x[p] = buffer_new(b, DTYPE_F32, n);
        b->event_record(b, done[p], stream[1]);
    }
    b->all_reduce(b, y.device, NULL); /* connects the ranks */
    b->stream_finish(b, NULL);
    b->capture_begin(b, stream[0]);
    for (int p = 0; p < PARTS; p++) {
        if (waits[p]) b->stream_wait(b, stream[0], done[p]);
        b->copy(b, (float *)y.device.data + p * n, x[p].device.data, tensor_bytes(x[p].device),
                COPY_ON_DEVICE, stream[0]);
    }
    Graph *const graph = b->capture_end(b, stream[0]);
    for (int i = 0; i < TIMES * PARTS * N; i++)
        own[i] = given(self, i / (PARTS * N), i / N % PARTS, i % N);
    for (int t = 0; t < TIMES; t++)
        gather_and_replay(b, x, &y, &kept[t], own + t * PARTS * N, done, graph, stream);
    b->stream_finish(b, stream[0]);
    float *const all = calloc((size_t)n, sizeof *all);
    for (int k = 0; k < TIMES * PARTS; k++) {
        for (int64_t i = 0; i < n; i++) all[i] = given((int)(i / N), k / PARTS, k % PARTS, i % N);
        buffer_expect(b, &kept[k / PARTS], k % PARTS * n, n, all,
                      k % PARTS ? "the second gathered" : "the first gathered");
    }
    free(all);
    b->graph_destroy(b, graph);
}

static void outside_right(Backend *b) { gather_outside(b, true, true); }
static void outside_not_first(Backend *b) { gather_outside(b, false, true); }
static void outside_not_second(Backend *b) { gather_outside(b, true, false); }

static void test_waits_outside(void **state) {
    (void)state;
    for (int ranks = 2; ranks <= MOST_RANKS; ranks++) expect_success(ranks, outside_right);
    expect_failure(2, outside_not_first, "the first gathered");
    expect_failure(2, outside_not_second, "the second gathered");
}

static void test_one_rank_outside(void **state) {
    (void)state;
    setenv("PUCK_ALWAYS_NCCL", "1", 1);
    expect_success(1, outside_right);
    unsetenv("PUCK_ALWAYS_NCCL");
}

/* ---- ranks that disagree, that are gone, that cannot begin ---- */

static void other_count(Backend *b) {
    Buffer x = buffer_new(b, DTYPE_F32, N);
    b->all_reduce(b, x.device, NULL);
    b->all_reduce(b, tensor_1d(x.device.data, DTYPE_F32, self == 1 ? N - 1 : N), NULL);
    b->stream_finish(b, NULL);
}

static void other_type(Backend *b) {
    Buffer x = buffer_new(b, DTYPE_F32, N);
    b->all_reduce(b, tensor_1d(x.device.data, self == 1 ? DTYPE_BF16 : DTYPE_F32, N), NULL);
    b->stream_finish(b, NULL);
}

static void other_order(Backend *b) {
    Buffer x = buffer_new(b, DTYPE_F32, N);
    if (self == 1) b->broadcast(b, x.device, 0, NULL);
    b->all_reduce(b, x.device, NULL);
    if (self != 1) b->broadcast(b, x.device, 0, NULL);
    b->stream_finish(b, NULL);
}

static void leaves(Backend *b) {
    Buffer x = buffer_new(b, DTYPE_F32, N);
    b->all_reduce(b, x.device, NULL);
    b->stream_finish(b, NULL);
    if (self == 1) _exit(FATAL);
    b->all_reduce(b, x.device, NULL);
    b->stream_finish(b, NULL);
}

static void odd_parts(Backend *b) {
    Buffer x = buffer_new(b, DTYPE_F32, N);
    b->reduce_scatter(b, tensor_1d(x.device.data, DTYPE_F32, N / n_ranks - 1), x.device, NULL);
}

static void overlaps(Backend *b) {
    Buffer x = buffer_new(b, DTYPE_F32, N);
    char *const beside = (char *)x.device.data + sizeof(float);
    b->reduce_scatter(b, tensor_1d(beside, DTYPE_F32, N / n_ranks), x.device, NULL);
}

static void test_faults(void **state) {
    (void)state;
    expect_failure(2, other_count, "rank 1: ncclAllReduce of 999 f32 from 0, its collective 2");
    expect_failure(3, other_type, "rank 1: ncclAllReduce of 1000 bf16");
    expect_failure(3, other_order, "rank 1: ncclBroadcast of 1000 f32");
    expect_failure(3, leaves, "another process has ended or cannot be reached: a rank is gone");
    expect_failure(2, odd_parts, "1000 f32 for 2 ranks, and 499 f32");
    expect_failure(2, overlaps, "not memory of the device, or overlapping");
}

static void nothing(Backend *b) { (void)b; }

static void test_no_library(void **state) {
    (void)state;
    setenv("PUCK_EMU_NO_NCCL", "1", 1);
    expect_failure(2, nothing, "NCCL, which connects ranks, does not load");
    expect_failure(2, nothing, "(libnccl.so.2). Install NCCL 2 for CUDA 13 (libnccl2, or");
    expect_success(1, every_collective); /* needs none */
    unsetenv("PUCK_EMU_NO_NCCL");
}

static void test_cards(void **state) {
    (void)state;
    char said[4096];
    setenv("PUCK_EMU_CARDS", "2", 1);
    expect_success(2, waits_right);
    assert_int_equal(run_ranks(3, nothing, said), 1);
    assert_non_null(strstr(said, "there is no card for process 3 of this host, which has 2"));
    unsetenv("PUCK_EMU_CARDS");
}

/* emu, cuda, cuda:N, or the path of a plugin; those with a name lie beside puck. */
static void find_device(const char *device) {
    const char *const puck = getenv("PUCK"), *const slash = puck ? strrchr(puck, '/') : NULL;
    const char *const colon = strchr(device, ':');
    if (strchr(device, '/')) {
        snprintf(library, sizeof library, "%s", device);
        return;
    }
    card = colon ? atoi(colon + 1) : 0;
    snprintf(library, sizeof library, "%.*s/libpuck_%.*s.so", slash ? (int)(slash - puck) : 1,
             slash ? puck : ".", colon ? (int)(colon - device) : (int)strlen(device), device);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_rank), cmocka_unit_test(test_one_rank_graph),
        cmocka_unit_test(test_one_rank_outside),
        cmocka_unit_test(test_collectives), cmocka_unit_test(test_waits),
        cmocka_unit_test(test_graph), cmocka_unit_test(test_waits_outside),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_no_library), cmocka_unit_test(test_cards)};
    find_device(argc > 1 ? argv[1] : "emu");
    if (argc > 1) cmocka_set_test_filter("test_one_rank*");
    return cmocka_run_group_tests(tests, NULL, NULL);
}

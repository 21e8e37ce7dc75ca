/* Matrix products by cuBLASLt: one plan for each kind of product, kept with its descriptors.
 *
 * The library names up to CANDIDATES algorithms; the first call that does not happen inside a
 * capture times them on its own operands and keeps the fastest. Another algorithm may sum in
 * another order, so the choice is part of a run: product_choices writes it down, product_choose
 * takes it back. */
#include "common.cuh"
#include "lt.cuh"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CANDIDATES = 24, TIMED_RUNS = 3, ALGORITHM_WORDS = 8 };

typedef struct Plan {
    Product product;
    int32_t has_c, has_bias, aligned; /* aligned: all operands on 16 bytes */
    int64_t workspace;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, d; /* C has D's layout */
    cublasLtMatmulAlgo_t algorithm[CANDIDATES];
    int n_algorithms; /* 0: the library has none */
    int chosen;       /* -1: not timed yet */
    struct Plan *next;
} Plan;

/* A choice that came from product_choose: a plan's line of text without, and its algorithm. */
typedef struct Choice {
    char key[160];
    cublasLtMatmulAlgo_t algorithm;
    struct Choice *next;
} Choice;

struct Products {
    Lt lt;
    cublasLtHandle_t handle;
    Plan *plans;
    Choice *choices;
    char *text;   /* of product_choices */
    bool settled; /* with several ranks: nothing is timed any more */
};

static_assert(sizeof(cublasLtMatmulAlgo_t) == ALGORITHM_WORDS * sizeof(uint64_t), "");

#define LT_CHECK(lt, call)                                                                         \
    do {                                                                                           \
        const cublasStatus_t lt_status = (call);                                                   \
        CHECK(lt_status == CUBLAS_STATUS_SUCCESS, "%s", (lt)->GetStatusString(lt_status));         \
    } while (0)

static void *allocate(size_t bytes) {
    void *memory = calloc(1, bytes);
    CHECK(memory, "no host memory for %zu bytes", bytes);
    return memory;
}

/* Elements from a matrix of a batch to the next: of A, B, D. */
static int64_t stride_a(const Product *p) { return p->lda * (p->transpose_a ? p->m : p->k); }
static int64_t stride_b(const Product *p) { return p->ldb * (p->transpose_b ? p->k : p->n); }
static int64_t stride_d(const Product *p) { return p->ldd * p->n; }

/* ---- open and close ---- */

bool product_open(Backend *b, Error *e) {
    struct Products *const p = (struct Products *)allocate(sizeof *p);
    char why[256];
    bool ok = lt_load(&p->lt, why, sizeof why);
    if (ok && p->lt.Create(&p->handle) != CUBLAS_STATUS_SUCCESS) {
        snprintf(why, sizeof why, "it does not start on this card");
        ok = false;
    }
    if (ok) {
        state_of(b)->products = p;
        return true;
    }
    free(p);
    *e = Error{};
    e->code = EXIT_FAILED;
    snprintf(e->text, sizeof e->text, "cuBLASLt does not load: %s", why);
    snprintf(e->place, sizeof e->place, "libcublasLt.so.13");
    snprintf(e->hint, sizeof e->hint,
             "Install cuBLAS of CUDA 13, or put its folder into LD_LIBRARY_PATH");
    return false;
}

void product_close(Backend *b) {
    struct Products *const p = state_of(b)->products;
    for (Plan *plan = p->plans; plan;) {
        Plan *const next = plan->next;
        p->lt.MatmulDescDestroy(plan->desc);
        p->lt.MatrixLayoutDestroy(plan->a);
        p->lt.MatrixLayoutDestroy(plan->b);
        p->lt.MatrixLayoutDestroy(plan->d);
        free(plan);
        plan = next;
    }
    for (Choice *choice = p->choices; choice;) {
        Choice *const next = choice->next;
        free(choice);
        choice = next;
    }
    p->lt.Destroy(p->handle);
    free(p->text);
    free(p);
}

/* ---- choices as text ----
 *
 * A first line that names library and card; then a line for each plan: what it multiplies, " = ",
 * and the words of the algorithm, which are opaque and good for this library alone. */

static void choices_title(const Backend *b, char *to, size_t size) {
    snprintf(to, size, "cublasLt %zu on %s", state_of(b)->products->lt.GetVersion(),
             b->properties.name);
}

static void plan_key(const Plan *plan, char *to, size_t size) {
    const Product *const p = &plan->product;
    char batch[32] = "";
    if (p->batch > 1) snprintf(batch, sizeof batch, "%ld of ", (long)p->batch);
    snprintf(to, size,
             "%s%ldx%ldx%ld ld %ld %ld %ld %s to %s ta %d tb %d epilogue %d c %d bias %d "
             "aligned %d workspace %ld",
             batch, (long)p->m, (long)p->n, (long)p->k, (long)p->lda, (long)p->ldb, (long)p->ldd,
             dtype_name(p->in), dtype_name(p->out), p->transpose_a, p->transpose_b,
             (int)p->epilogue, plan->has_c, plan->has_bias, plan->aligned, (long)plan->workspace);
}

enum { LINE = 512 }; /* most bytes of one */

static size_t append_choice(char *to, const char *key, const cublasLtMatmulAlgo_t *algorithm) {
    size_t used = (size_t)snprintf(to, LINE, "%s =", key);
    for (int i = 0; i < ALGORITHM_WORDS; i++) {
        uint64_t word;
        memcpy(&word, (const char *)algorithm + i * sizeof word, sizeof word);
        used += (size_t)snprintf(to + used, LINE - used, " %lx", (unsigned long)word);
    }
    return used + (size_t)snprintf(to + used, LINE - used, "\n");
}

/* Whether a plan, or a choice before this one, is of the same product. */
static bool is_listed(const struct Products *p, const Choice *choice) {
    for (const Plan *plan = p->plans; plan; plan = plan->next) {
        char key[sizeof choice->key];
        plan_key(plan, key, sizeof key);
        if (plan->chosen >= 0 && !strcmp(key, choice->key)) return true;
    }
    for (const Choice *other = p->choices; other != choice; other = other->next)
        if (!strcmp(other->key, choice->key)) return true;
    return false;
}

/* Choices that were read and not used yet are kept: they are of passes still to come. */
const char *product_choices(Backend *b) {
    struct Products *const p = state_of(b)->products;
    size_t lines = 1, used;
    for (const Plan *plan = p->plans; plan; plan = plan->next) lines++;
    for (const Choice *choice = p->choices; choice; choice = choice->next) lines++;
    free(p->text);
    p->text = (char *)allocate(lines * LINE);
    choices_title(b, p->text, LINE);
    used = strlen(p->text);
    used += (size_t)snprintf(p->text + used, LINE, "\n");
    for (const Plan *plan = p->plans; plan; plan = plan->next) {
        char key[160];
        if (plan->chosen < 0) continue;
        plan_key(plan, key, sizeof key);
        used += append_choice(p->text + used, key, &plan->algorithm[plan->chosen]);
    }
    for (const Choice *choice = p->choices; choice; choice = choice->next)
        if (!is_listed(p, choice))
            used += append_choice(p->text + used, choice->key, &choice->algorithm);
    return p->text;
}

/* One line of the text; false if it is none. */
static bool choice_read(Choice *choice, const char *line, size_t length) {
    const char *const equals = (const char *)memchr(line, '=', length);
    if (!equals || equals == line || (size_t)(equals - line) > sizeof choice->key) return false;
    memcpy(choice->key, line, (size_t)(equals - line) - 1); /* without the space before it */
    const char *at = equals + 1;
    for (int i = 0; i < ALGORITHM_WORDS; i++) {
        char *end;
        const uint64_t word = strtoul(at, &end, 16);
        if (end == at || end > line + length) return false;
        memcpy((char *)&choice->algorithm + i * sizeof word, &word, sizeof word);
        at = end;
    }
    return true;
}

/* Takes the algorithm that product_choose has for the plan, if it still fits. */
static void plan_recall(const struct Products *p, Plan *plan) {
    char key[160];
    plan_key(plan, key, sizeof key);
    for (const Choice *choice = p->choices; choice; choice = choice->next) {
        cublasLtMatmulHeuristicResult_t result;
        if (strcmp(choice->key, key)) continue;
        const cublasStatus_t status = p->lt.MatmulAlgoCheck(
            p->handle, plan->desc, plan->a, plan->b, plan->d, plan->d, &choice->algorithm, &result);
        if (status != CUBLAS_STATUS_SUCCESS || result.workspaceSize > (size_t)plan->workspace)
            continue;
        plan->algorithm[0] = choice->algorithm;
        plan->n_algorithms = 1;
        plan->chosen = 0;
        return;
    }
}

void product_choose(Backend *b, const char *text, bool last) {
    struct Products *const p = state_of(b)->products;
    char title[256];
    p->settled = last;
    choices_title(b, title, sizeof title);
    const size_t length = strlen(title);
    if (strncmp(text, title, length) || text[length] != '\n') return; /* of another machine */
    for (const char *line = text + length + 1; *line;) {
        const size_t n = strcspn(line, "\n");
        Choice *const choice = (Choice *)allocate(sizeof *choice);
        if (choice_read(choice, line, n)) {
            choice->next = p->choices;
            p->choices = choice;
        } else {
            free(choice);
        }
        line += n + (line[n] == '\n');
    }
    for (Plan *plan = p->plans; plan; plan = plan->next)
        if (plan->n_algorithms > 0) plan_recall(p, plan);
}

/* ---- plans ---- */

static cudaDataType_t lt_type(DType t) {
    CHECK(t == DTYPE_BF16 || t == DTYPE_F32, "products of %s", dtype_name(t));
    return t == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static cublasLtEpilogue_t lt_epilogue(Epilogue e, bool bias) {
    switch (e) {
    case EPILOGUE_NONE: return CUBLASLT_EPILOGUE_DEFAULT;
    case EPILOGUE_BIAS: return CUBLASLT_EPILOGUE_BIAS;
    case EPILOGUE_GELU: return bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    case EPILOGUE_GELU_AUX:
        return bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    case EPILOGUE_DGELU: return CUBLASLT_EPILOGUE_DGELU;
    }
    CHECK(false, "epilogue %d", (int)e);
    return CUBLASLT_EPILOGUE_DEFAULT;
}

template <typename V>
static void set(const Lt *lt, cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t name,
                V value) {
    LT_CHECK(lt, lt->MatmulDescSetAttribute(desc, name, &value, sizeof value));
}
template <typename V>
static void prefer(const Lt *lt, cublasLtMatmulPreference_t preference,
                   cublasLtMatmulPreferenceAttributes_t name, V value) {
    LT_CHECK(lt, lt->MatmulPreferenceSetAttribute(preference, name, &value, sizeof value));
}

static void set_batch(const Lt *lt, cublasLtMatrixLayout_t layout, int64_t batch, int64_t stride) {
    const int32_t count = (int32_t)batch;
    LT_CHECK(lt, lt->MatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                              sizeof count));
    LT_CHECK(lt, lt->MatrixLayoutSetAttribute(
                     layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride));
}

/* Addresses that change from call to call. */
static void plan_point(const Lt *lt, const Plan *plan, const ProductData *data) {
    if (data->bias) set(lt, plan->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, data->bias);
    if (data->aux) set(lt, plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, data->aux);
}

static void plan_describe(const Lt *lt, Plan *plan, const ProductData *data) {
    const Product *const p = &plan->product;
    const int64_t a_rows = p->transpose_a ? p->k : p->m, a_columns = p->transpose_a ? p->m : p->k;
    const int64_t b_rows = p->transpose_b ? p->n : p->k, b_columns = p->transpose_b ? p->k : p->n;
    /* CUBLAS_COMPUTE_32F: sums in f32, and f32 operands as they are, not as TF32. */
    LT_CHECK(lt, lt->MatmulDescCreate(&plan->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    set(lt, plan->desc, CUBLASLT_MATMUL_DESC_TRANSA, p->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(lt, plan->desc, CUBLASLT_MATMUL_DESC_TRANSB, p->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(lt, plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE,
        lt_epilogue(p->epilogue, data->bias != NULL));
    if (data->aux) set(lt, plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p->ldd);
    plan_point(lt, plan, data);
    LT_CHECK(lt, lt->MatrixLayoutCreate(&plan->a, lt_type(p->in), (uint64_t)a_rows,
                                        (uint64_t)a_columns, p->lda));
    LT_CHECK(lt, lt->MatrixLayoutCreate(&plan->b, lt_type(p->in), (uint64_t)b_rows,
                                        (uint64_t)b_columns, p->ldb));
    LT_CHECK(lt, lt->MatrixLayoutCreate(&plan->d, lt_type(p->out), (uint64_t)p->m, (uint64_t)p->n,
                                        p->ldd));
    if (p->batch == 1) return;
    set_batch(lt, plan->a, p->batch, stride_a(p));
    set_batch(lt, plan->b, p->batch, stride_b(p));
    set_batch(lt, plan->d, p->batch, stride_d(p));
}

/* Asks for algorithms. Only partial sums in f32, which another kernel adds in a fixed order. */
static void plan_ask(const Lt *lt, cublasLtHandle_t handle, Plan *plan) {
    const uint32_t bytes[] = {(uint32_t)dtype_bytes(plan->product.in),
                              (uint32_t)dtype_bytes(plan->product.out)};
    const uint32_t in = plan->aligned ? 16 : bytes[0], out = plan->aligned ? 16 : bytes[1];
    cublasLtMatmulPreference_t wish;
    LT_CHECK(lt, lt->MatmulPreferenceCreate(&wish));
    prefer(lt, wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (uint64_t)plan->workspace);
    prefer(lt, wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           (uint32_t)CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
    prefer(lt, wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, in);
    prefer(lt, wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, in);
    prefer(lt, wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, out);
    prefer(lt, wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, out);
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    int n = 0;
    const cublasStatus_t status = lt->MatmulAlgoGetHeuristic(
        handle, plan->desc, plan->a, plan->b, plan->d, plan->d, wish, CANDIDATES, found, &n);
    if (status != CUBLAS_STATUS_SUCCESS) n = 0; /* no algorithm for such operands */
    LT_CHECK(lt, lt->MatmulPreferenceDestroy(wish));
    for (int i = 0; i < n; i++)
        if (found[i].state == CUBLAS_STATUS_SUCCESS &&
            found[i].workspaceSize <= (size_t)plan->workspace)
            plan->algorithm[plan->n_algorithms++] = found[i].algo;
    plan->chosen = plan->n_algorithms == 1 ? 0 : -1;
}

static bool product_same(const Product *a, const Product *b) {
    return a->m == b->m && a->n == b->n && a->k == b->k && a->lda == b->lda && a->ldb == b->ldb &&
           a->ldd == b->ldd && a->in == b->in && a->out == b->out &&
           a->transpose_a == b->transpose_a && a->transpose_b == b->transpose_b &&
           a->epilogue == b->epilogue && a->batch == b->batch;
}

static Plan *plan_find(const OpContext *cx, const Product *product, const ProductData *data) {
    struct Products *const p = state_of(cx->backend)->products;
    uintptr_t at = (uintptr_t)data->a | (uintptr_t)data->b | (uintptr_t)data->c |
                   (uintptr_t)data->d | (uintptr_t)data->bias | (uintptr_t)data->aux;
    if (product->batch > 1)
        at |= (uintptr_t)((stride_a(product) | stride_b(product)) * dtype_bytes(product->in)) |
              (uintptr_t)(stride_d(product) * dtype_bytes(product->out));
    const int64_t workspace =
        product_workspace(product->m, product->n * product->batch, &cx->backend->properties);
    for (Plan *plan = p->plans; plan; plan = plan->next)
        if (product_same(&plan->product, product) && plan->has_c == (data->c != NULL) &&
            plan->has_bias == (data->bias != NULL) && plan->aligned == (at % 16 == 0))
            return plan;
    Plan *const plan = (Plan *)allocate(sizeof *plan);
    plan->product = *product;
    plan->has_c = data->c != NULL;
    plan->has_bias = data->bias != NULL;
    plan->aligned = at % 16 == 0;
    plan->workspace = workspace;
    plan_describe(&p->lt, plan, data);
    plan_ask(&p->lt, p->handle, plan);
    if (plan->n_algorithms > 0) plan_recall(p, plan);
    plan->next = p->plans;
    p->plans = plan;
    return plan;
}

/* ---- running ---- */

static cublasStatus_t plan_run(const OpContext *cx, const Plan *plan, int algorithm,
                               const ProductData *data, void *d) {
    const struct Products *const p = state_of(cx->backend)->products;
    const float beta = data->c ? data->beta : 0;
    /* Without C the library still wants an address; with beta 0 it does not read it. */
    return p->lt.Matmul(p->handle, plan->desc, &data->alpha, data->a, plan->a, data->b, plan->b,
                        &beta, data->c == data->d || !data->c ? d : data->c, plan->d, d, plan->d,
                        &plan->algorithm[algorithm], cx->scratch, (size_t)plan->workspace,
                        stream_of(cx));
}

/* Shortest of a few runs in ms; HUGE_VALF if the algorithm fails. */
static float plan_time(const OpContext *cx, const Plan *plan, int algorithm,
                       const ProductData *data, void *d, const cudaEvent_t event[2]) {
    const cudaStream_t stream = stream_of(cx);
    float least = HUGE_VALF;
    for (int run = 0; run <= TIMED_RUNS; run++) { /* the first one loads code */
        CUDA_CHECK(cudaEventRecord(event[0], stream));
        if (plan_run(cx, plan, algorithm, data, d) != CUBLAS_STATUS_SUCCESS) return HUGE_VALF;
        CUDA_CHECK(cudaEventRecord(event[1], stream));
        CUDA_CHECK(cudaEventSynchronize(event[1]));
        float ms = 0;
        CUDA_CHECK(cudaEventElapsedTime(&ms, event[0], event[1]));
        if (run > 0 && ms < least) least = ms;
    }
    return least;
}

/* Times the algorithms. A product that adds to its own output is timed on other memory, of which a
 * step needs none later; where there is none left, the library's first algorithm is kept. So it is
 * where another rank times (Backend.choose). */
static void plan_choose(const OpContext *cx, Plan *plan, const ProductData *data) {
    void *d = data->d, *other = NULL;
    const int64_t bytes = plan->product.batch * stride_d(&plan->product) *
                          dtype_bytes(plan->product.out);
    plan->chosen = 0;
    if (comm_ranks(cx->backend) > 1 &&
        (comm_rank(cx->backend) != 0 || state_of(cx->backend)->products->settled))
        return;
    if (data->c == data->d) {
        if (cudaMalloc(&other, (size_t)bytes) != cudaSuccess) {
            cudaGetLastError(); /* clears it */
            return;
        }
        CUDA_CHECK(cudaMemsetAsync(other, 0, (size_t)bytes, stream_of(cx)));
        d = other;
    }
    cudaEvent_t event[2];
    for (int i = 0; i < 2; i++) CUDA_CHECK(cudaEventCreate(&event[i]));
    float least = HUGE_VALF;
    for (int i = 0; i < plan->n_algorithms; i++) {
        const float ms = plan_time(cx, plan, i, data, d, event);
        if (ms < least) {
            least = ms;
            plan->chosen = i;
        }
    }
    for (int i = 0; i < 2; i++) CUDA_CHECK(cudaEventDestroy(event[i]));
    if (other) CUDA_CHECK(cudaFree(other));
}

bool product_try(const OpContext *cx, const Product *product, const ProductData *data) {
    Plan *const plan = plan_find(cx, product, data);
    if (plan->n_algorithms == 0) return false;
    CHECK_SCRATCH(cx, plan->workspace);
    const Lt *const lt = &state_of(cx->backend)->products->lt;
    plan_point(lt, plan, data);
    if (plan->chosen < 0) {
        cudaStreamCaptureStatus capture;
        CUDA_CHECK(cudaStreamIsCapturing(stream_of(cx), &capture));
        if (capture == cudaStreamCaptureStatusNone) plan_choose(cx, plan, data);
    }
    LT_CHECK(lt, plan_run(cx, plan, plan->chosen < 0 ? 0 : plan->chosen, data, data->d));
    return true;
}

/* ---- what the library has no algorithm for: a thread an element, tiles in shared memory ---- */

enum { SIDE = 16 };

template <typename In, typename Out>
__global__ void product_plain(Out *d, const Out *c, const In *a, const In *b, int64_t m, int64_t n,
                              int64_t k, int64_t a_row, int64_t a_column, int64_t a_stride,
                              int64_t b_row, int64_t b_column, int64_t b_stride, int64_t ldd,
                              int64_t d_stride, float alpha, float beta) {
    SHARED(float, left, SIDE *SIDE);
    SHARED(float, right, SIDE *SIDE);
    a += blockIdx.z * a_stride;
    b += blockIdx.z * b_stride;
    d += blockIdx.z * d_stride;
    if (c) c += blockIdx.z * d_stride;
    const int x = (int)threadIdx.x, y = (int)threadIdx.y;
    const int64_t row = (int64_t)blockIdx.x * SIDE + x, column = (int64_t)blockIdx.y * SIDE + y;
    float sum = 0;
    for (int64_t k0 = 0; k0 < k; k0 += SIDE) {
        const bool in_a = row < m && k0 + y < k, in_b = column < n && k0 + x < k;
        left[y * SIDE + x] = in_a ? to_float(a[row * a_row + (k0 + y) * a_column]) : 0.0f;
        right[y * SIDE + x] = in_b ? to_float(b[(k0 + x) * b_row + column * b_column]) : 0.0f;
        BARRIER();
        for (int i = 0; i < SIDE; i++) sum += left[i * SIDE + x] * right[y * SIDE + i];
        BARRIER();
    }
    if (row >= m || column >= n) return;
    const int64_t at = column * ldd + row;
    d[at] = from_float<Out>(alpha * sum + (c ? beta * to_float(c[at]) : 0.0f));
}

template <typename In, typename Out>
static void run_plain(const OpContext *cx, const Product *p, const ProductData *data) {
    LAUNCH((product_plain<In, Out>),
           dim3((unsigned)i64_div_up(p->m, SIDE), (unsigned)i64_div_up(p->n, SIDE),
                (unsigned)p->batch),
           dim3(SIDE, SIDE), 0, stream_of(cx), (Out *)data->d, (const Out *)data->c,
           (const In *)data->a, (const In *)data->b, p->m, p->n, p->k, p->transpose_a ? p->lda : 1,
           p->transpose_a ? 1 : p->lda, stride_a(p), p->transpose_b ? p->ldb : 1,
           p->transpose_b ? 1 : p->ldb, stride_b(p), p->ldd, stride_d(p), data->alpha, data->beta);
}

void product_run(const OpContext *cx, const Product *p, const ProductData *data) {
    CHECK(p->epilogue == EPILOGUE_NONE, "epilogue %d", (int)p->epilogue);
    if (product_try(cx, p, data)) return;
    if (p->in == DTYPE_F32)
        run_plain<float, float>(cx, p, data);
    else if (p->out == DTYPE_F32)
        run_plain<bf16, float>(cx, p, data);
    else
        run_plain<bf16, bf16>(cx, p, data);
}

/* Split sums of a product take m*n floats each: room for 16 of them, up to a limit. */
int64_t product_workspace(int64_t m, int64_t n, const DeviceProperties *device) {
    const int64_t MIB = 1 << 20, most = device->compute_capability >= 90 ? 64 * MIB : 32 * MIB;
    const int64_t wanted = MIB + 16 * m * n * (int64_t)sizeof(float);
    return i64_min(most, i64_round_up(wanted, 256));
}

/* cuBLASLt for the emulator: plain products with the epilogues that puck uses, sums in f32. There
 * are two algorithms whose results differ in the last bits, as a library's do. */
#include "lt.cuh"
#include "stream.h"
#include <math.h>
#include <vector>

struct LtProduct {
    cublasOperation_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    const void *bias = nullptr;
    void *aux = nullptr;
    int64_t aux_ld = 0;
};
struct LtMatrix {
    cudaDataType type;
    int64_t rows, columns, ld;
    int32_t batch = 1;
    int64_t stride = 0; /* from a matrix of the batch to the next */
};
struct LtWish {
    uint64_t workspace = 0;
};

enum EpilogueBit { BIAS_BIT = 4, GELU_BIT = 32, DGELU_BIT = 64, AUX_BIT = 128 };
enum { WHOLE_SUM = 1, TWO_SUMS = 2 }; /* the algorithms */
static const size_t TWO_SUMS_WORKSPACE = 4096;

namespace {

/* ---- elements ---- */

size_t element_bytes(cudaDataType type) { return type == CUDA_R_16BF ? 2 : 4; }

float element_get(const void *from, int64_t i, cudaDataType type) {
    if (type == CUDA_R_32F) return static_cast<const float *>(from)[i];
    return __bfloat162float(static_cast<const __nv_bfloat16 *>(from)[i]);
}
void element_put(void *to, int64_t i, float value, cudaDataType type) {
    if (type == CUDA_R_32F)
        static_cast<float *>(to)[i] = value;
    else
        static_cast<__nv_bfloat16 *>(to)[i] = __float2bfloat16_rn(value);
}

/* Elements from the first to the last of all matrices. */
int64_t layout_elements(const LtMatrix &m) {
    return (m.batch - 1) * m.stride + (m.columns - 1) * m.ld + m.rows;
}

/* op(M) of matrix `number` as f32, column-major and without gaps. */
std::vector<float> matrix_read(const void *all, int64_t number, const LtMatrix &m,
                               cublasOperation_t transpose) {
    const char *const from =
        static_cast<const char *>(all) + (size_t)(number * m.stride) * element_bytes(m.type);
    std::vector<float> out((size_t)(m.rows * m.columns));
    for (int64_t j = 0; j < m.columns; j++)
        for (int64_t i = 0; i < m.rows; i++)
            out[transpose == CUBLAS_OP_T ? i * m.columns + j : j * m.rows + i] =
                element_get(from, j * m.ld + i, m.type);
    return out;
}

/* ---- GELU in the tanh form ---- */

const float GELU_SCALE = 0.7978845608028654f, GELU_CUBIC = 0.044715f;

float gelu(float u) { return 0.5f * u * (1 + tanhf(GELU_SCALE * (u + GELU_CUBIC * u * u * u))); }
float gelu_derivative(float u) {
    const float t = tanhf(GELU_SCALE * (u + GELU_CUBIC * u * u * u));
    return 0.5f * (1 + t) + 0.5f * u * (1 - t * t) * GELU_SCALE * (1 + 3 * GELU_CUBIC * u * u);
}

/* ---- a product in a stream ---- */

struct Matmul : emu::Operation {
    LtProduct product;
    LtMatrix a_layout, b_layout, c_layout, d_layout;
    float alpha, beta;
    const void *a, *b, *c;
    void *d, *workspace;
    size_t workspace_bytes;
    uint64_t algorithm;
    int64_t m, n, k;

    void run() override;
    void run_one(int64_t number);
    float finish(float value, int64_t i, int64_t j) const;
};

/* sum (m) += columns [first, last) of op(A), times what op(B)'s column has there. */
void column_add(float *sum, const float *a, const float *b, int64_t m, int64_t first,
                int64_t last) {
    for (int64_t p = first; p < last; p++) {
        const float factor = b[p], *column = a + p * m;
        for (int64_t i = 0; i < m; i++) sum[i] += column[i] * factor;
    }
}

float Matmul::finish(float value, int64_t i, int64_t j) const {
    const int e = product.epilogue;
    if (e & BIAS_BIT) value += element_get(product.bias, i, d_layout.type);
    const int64_t at = j * product.aux_ld + i;
    if (e & DGELU_BIT) return value * gelu_derivative(element_get(product.aux, at, d_layout.type));
    if (e & AUX_BIT) element_put(product.aux, at, value, d_layout.type);
    return e & GELU_BIT ? gelu(value) : value;
}

void Matmul::run_one(int64_t number) {
    const std::vector<float> left = matrix_read(a, number, a_layout, product.transpose_a);
    const std::vector<float> right = matrix_read(b, number, b_layout, product.transpose_b);
    const int64_t first_c = number * c_layout.stride, first_d = number * d_layout.stride;
    std::vector<float> sum((size_t)m), rest((size_t)m);
    const int64_t half = algorithm == TWO_SUMS ? k / 2 : k;
    for (int64_t j = 0; j < n; j++) {
        std::fill(sum.begin(), sum.end(), 0.0f);
        std::fill(rest.begin(), rest.end(), 0.0f);
        column_add(sum.data(), left.data(), &right[(size_t)(j * k)], m, 0, half);
        column_add(rest.data(), left.data(), &right[(size_t)(j * k)], m, half, k);
        for (int64_t i = 0; i < m; i++) {
            float value = alpha * (sum[(size_t)i] + rest[(size_t)i]);
            if (beta != 0)
                value += beta * element_get(c, first_c + j * c_layout.ld + i, c_layout.type);
            element_put(d, first_d + j * d_layout.ld + i, finish(value, i, j), d_layout.type);
        }
    }
}

void Matmul::run() {
    for (int64_t number = 0; number < d_layout.batch; number++) run_one(number);
    /* Whatever the caller kept in its workspace is gone. */
    memset(workspace, emu::FRESH_BYTE, workspace_bytes);
    emu::check_host_write(workspace, workspace_bytes, true);
    const auto wrote = [](const void *to, const LtMatrix &layout) {
        const size_t elements = (size_t)layout_elements(layout);
        emu::check_host_write(to, elements * element_bytes(layout.type), false);
    };
    wrote(d, d_layout);
    LtMatrix aux_layout = d_layout;
    aux_layout.ld = product.aux_ld;
    if (product.epilogue & AUX_BIT) wrote(product.aux, aux_layout);
}

/* ---- what the library would refuse ---- */

bool layout_fits(const void *memory, const LtMatrix &m) {
    return emu::device_holds(memory, (size_t)layout_elements(m) * element_bytes(m.type));
}

/* op(A) (m,k), op(B) (k,n), C and D (m,n). */
bool shapes_agree(const LtProduct &p, const LtMatrix &a, const LtMatrix &b, const LtMatrix &c,
                  const LtMatrix &d) {
    const bool ta = p.transpose_a == CUBLAS_OP_T, tb = p.transpose_b == CUBLAS_OP_T;
    const int64_t k = ta ? a.rows : a.columns;
    return (ta ? a.columns : a.rows) == d.rows && (tb ? b.columns : b.rows) == k &&
           (tb ? b.rows : b.columns) == d.columns && c.rows == d.rows && c.columns == d.columns &&
           a.type == b.type && c.type == d.type && a.batch == d.batch && b.batch == d.batch &&
           c.batch == d.batch;
}

/* Epilogues want bf16 and vectors of 8. A product of odd sizes is refused, so that what puck does
 * without the library runs too. */
bool is_offered(const LtProduct &p, const LtMatrix &a, const LtMatrix &d) {
    if (a.rows % 2 && a.columns % 2 && d.rows % 2 && d.columns % 2) return false;
    if (p.epilogue == CUBLASLT_EPILOGUE_DEFAULT) return true;
    if (d.batch > 1) return false; /* puck has none, see Product */
    if ((p.epilogue & AUX_BIT) && p.aux_ld % 8) return false;
    return d.type == CUDA_R_16BF && d.rows % 8 == 0;
}

cublasLtMatmulHeuristicResult_t offer(uint64_t algorithm) {
    cublasLtMatmulHeuristicResult_t result = {};
    result.algo.data[0] = algorithm;
    result.workspaceSize = algorithm == TWO_SUMS ? TWO_SUMS_WORKSPACE : 0;
    result.state = CUBLAS_STATUS_SUCCESS;
    return result;
}

} // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    static char anything;
    *handle = reinterpret_cast<cublasLtHandle_t>(&anything);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t) { return CUBLAS_STATUS_SUCCESS; }
size_t cublasLtGetVersion() { return 130000; }
const char *cublasLtGetStatusString(cublasStatus_t status) {
    return status == CUBLAS_STATUS_INVALID_VALUE ? "invalid value" : "not supported";
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t,
                                        cudaDataType_t) {
    *out = new LtProduct;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t p) {
    delete p;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t p,
                                              cublasLtMatmulDescAttributes_t name,
                                              const void *value, size_t bytes) {
    void *field = nullptr;
    size_t size = 0;
    switch (name) {
    case CUBLASLT_MATMUL_DESC_TRANSA: field = &p->transpose_a, size = sizeof p->transpose_a; break;
    case CUBLASLT_MATMUL_DESC_TRANSB: field = &p->transpose_b, size = sizeof p->transpose_b; break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE: field = &p->epilogue, size = sizeof p->epilogue; break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: field = &p->bias, size = sizeof p->bias; break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: field = &p->aux, size = sizeof p->aux; break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: field = &p->aux_ld, size = sizeof p->aux_ld; break;
    }
    if (!field || bytes != size) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(field, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t ld) {
    if (ld < (int64_t)rows) return CUBLAS_STATUS_INVALID_VALUE;
    *out = new LtMatrix{type, (int64_t)rows, (int64_t)columns, ld, 1, 0};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t name,
                                                const void *value, size_t bytes) {
    if (name == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT && bytes == sizeof layout->batch)
        memcpy(&layout->batch, value, bytes);
    else if (name == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET && bytes == sizeof layout->stride)
        memcpy(&layout->stride, value, bytes);
    else
        return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) {
    *out = new LtWish;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t wish) {
    delete wish;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t wish,
                                                    cublasLtMatmulPreferenceAttributes_t name,
                                                    const void *value, size_t) {
    if (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
        memcpy(&wish->workspace, value, sizeof wish->workspace);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t p,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t wish, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int *found) {
    *found = 0;
    if (!shapes_agree(*p, *a, *b, *c, *d)) return CUBLAS_STATUS_INVALID_VALUE;
    if (!is_offered(*p, *a, *d)) return CUBLAS_STATUS_NOT_SUPPORTED;
    for (uint64_t algorithm = WHOLE_SUM; algorithm <= TWO_SUMS && *found < wanted; algorithm++)
        if (offer(algorithm).workspaceSize <= wish->workspace)
            results[(*found)++] = offer(algorithm);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t p,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algorithm,
                                       cublasLtMatmulHeuristicResult_t *result) {
    const uint64_t number = algorithm->data[0];
    if (!shapes_agree(*p, *a, *b, *c, *d) || !is_offered(*p, *a, *d) || number < WHOLE_SUM ||
        number > TWO_SUMS)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    *result = offer(number);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t p, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
    const size_t needed = offer(algorithm->data[0]).workspaceSize;
    if (!shapes_agree(*p, *a_layout, *b_layout, *c_layout, *d_layout) ||
        !is_offered(*p, *a_layout, *d_layout) || !layout_fits(a, *a_layout) ||
        !layout_fits(b, *b_layout) || !layout_fits(d, *d_layout) || needed > workspace_bytes ||
        (needed && !emu::device_holds(workspace, workspace_bytes)))
        return CUBLAS_STATUS_INVALID_VALUE;
    auto m = std::make_shared<Matmul>();
    m->product = *p;
    m->a_layout = *a_layout;
    m->b_layout = *b_layout;
    m->c_layout = *c_layout;
    m->d_layout = *d_layout;
    memcpy(&m->alpha, alpha, sizeof m->alpha);
    memcpy(&m->beta, beta, sizeof m->beta);
    m->a = a;
    m->b = b;
    m->c = c;
    m->d = d;
    m->workspace = workspace;
    m->workspace_bytes = needed;
    m->algorithm = algorithm->data[0];
    m->m = d_layout->rows;
    m->n = d_layout->columns;
    m->k = p->transpose_a == CUBLAS_OP_T ? a_layout->rows : a_layout->columns;
    if (m->beta != 0 && !layout_fits(c, *c_layout)) return CUBLAS_STATUS_INVALID_VALUE;
    return emu::stream_submit(stream, m) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                        : CUBLAS_STATUS_EXECUTION_FAILED;
}
} // extern "C"

/* kernels/cuda/lt.cu opens the library; here it is linked in. PUCK_EMU_NO_LT: there is none. */
bool lt_load(Lt *lt, char *why, size_t size) {
    if (getenv("PUCK_EMU_NO_LT")) {
        snprintf(why, size, "PUCK_EMU_NO_LT is set");
        return false;
    }
#define LT_TAKE(name) lt->name = cublasLt##name;
    LT_FUNCTIONS(LT_TAKE)
#undef LT_TAKE
    return true;
}

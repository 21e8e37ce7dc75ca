/* What the files of this folder know of each other: the ops, their scratch, what several use. */
#pragma once
#include "ops.h"

struct Products; /* product.cu: cuBLASLt, and what was chosen for each shape */
struct Comm;     /* comm.cu: NCCL, and the ranks it connects */

/* Backend.state. */
typedef struct CudaState {
    cudaStream_t stream; /* stands for Stream NULL */
    int device;
    struct Products *products;
    struct Comm *comm; /* NULL: this rank is the only one */
} CudaState;

static inline CudaState *state_of(const Backend *b) { return (CudaState *)b->state; }

/* Ops' slots, same order, same signatures: table.cu fills the table with them. */
void cuda_embed_forward(const OpContext *, Tensor x, Tensor wte, Tensor wpe, Tensor tokens,
                        Tensor position);
void cuda_embed_backward(const OpContext *, Tensor dwte, Tensor dwpe, Tensor dx, Tensor tokens,
                         Tensor order, Tensor starts);
void cuda_residual_norm_forward(const OpContext *, Tensor res, Tensor y, Tensor mean, Tensor rstd,
                                Tensor res_in, Tensor x, Tensor w, Tensor b, NormKind kind,
                                double eps, Dropout drop);
void cuda_residual_norm_backward(const OpContext *, Tensor dres, Tensor dx, Tensor dw, Tensor db,
                                 Tensor dbias_prev, Tensor dy, Tensor res, Tensor mean,
                                 Tensor rstd, Tensor w, NormKind kind, Dropout drop);
void cuda_linear_forward(const OpContext *, Tensor y, Tensor aux, Tensor x, Tensor w, Tensor bias,
                         Activation);
void cuda_linear_backward_input(const OpContext *, Tensor dx, Tensor dbias_prev, Tensor dy,
                                Tensor w, Tensor aux, Activation);
void cuda_linear_backward_weight(const OpContext *, Tensor dw, Tensor dbias, Tensor dy, Tensor x);
void cuda_attention_forward(const OpContext *, Tensor y, Tensor lse, Tensor qkv, int64_t n_heads,
                            int64_t n_kv_heads, Dropout drop);
void cuda_attention_backward(const OpContext *, Tensor dqkv, Tensor dbias, Tensor dy, Tensor y,
                             Tensor qkv, Tensor lse, int64_t n_heads, int64_t n_kv_heads,
                             Dropout drop);
void cuda_attention_decode(const OpContext *, Tensor y, Tensor k_cache, Tensor v_cache, Tensor qkv,
                           Tensor position, int64_t n_heads, int64_t n_kv_heads);
void cuda_rotate_forward(const OpContext *, Tensor qkv, Tensor rstd, Tensor position,
                         int64_t n_heads, int64_t n_kv_heads, Rotation);
void cuda_rotate_backward(const OpContext *, Tensor dqkv, Tensor dbias, Tensor qkv, Tensor rstd,
                          int64_t n_heads, int64_t n_kv_heads, Rotation);
void cuda_recurrence_forward(const OpContext *, Tensor h, Tensor u, Tensor h0, Tensor w);
void cuda_recurrence_backward(const OpContext *, Tensor du, Tensor dh, Tensor h, Tensor w);
void cuda_swiglu_forward(const OpContext *, Tensor y, Tensor u);
void cuda_swiglu_backward(const OpContext *, Tensor du, Tensor dy, Tensor u);
void cuda_activation_forward(const OpContext *, Tensor y, Tensor x, Activation);
void cuda_activation_backward(const OpContext *, Tensor dx, Tensor dy, Tensor x, Activation);
void cuda_dropout_forward(const OpContext *, Tensor y, Tensor x, Dropout drop);
void cuda_dropout_backward(const OpContext *, Tensor dx, Tensor dy, Dropout drop);
void cuda_classifier(const OpContext *, Tensor losses, Tensor dlogits, Tensor logits,
                     Tensor targets, int64_t n_vocab, double softcap);
void cuda_negative_sampling(const OpContext *, Tensor losses, Tensor dx, Tensor x);
void cuda_loss_sum(const OpContext *, Tensor losses);
void cuda_grad_norm(const OpContext *, Tensor flags, const Tensor *grads, int64_t n);
void cuda_join_results(const OpContext *, Tensor results, int64_t stride);
void cuda_adamw(const OpContext *, Tensor w, Tensor w_act, Tensor m, Tensor v, Tensor grad,
                AdamW constants);
void cuda_muon(const OpContext *, const MuonMatrix *matrices, int64_t n, Muon constants);

/* Scratch bytes of the families that need some: Ops.scratch asks the one that owns the op. */
int64_t cuda_embed_scratch(const OpShape *);
int64_t cuda_norm_scratch(const OpShape *, const DeviceProperties *);
int64_t cuda_linear_scratch(OpKind, const OpShape *, const DeviceProperties *);
int64_t cuda_attention_scratch(OpKind, const OpShape *, const DeviceProperties *);
int64_t cuda_rope_scratch(OpKind, const OpShape *, const DeviceProperties *);
int64_t cuda_grad_norm_scratch(void);
int64_t cuda_muon_scratch(const OpShape *, const DeviceProperties *);

extern const Ops cuda_ops; /* table.cu */

/* ---- reduce.cu: sums over rows, in an order that depends on shape and device alone ---- */

/* Bytes of `partial` below. */
int64_t reduce_scratch(int64_t N, int64_t C, const DeviceProperties *);
/* to (C) f32 += column sums of x (N,C) act. */
void reduce_columns(const OpContext *, float *to, const void *x, int64_t N, int64_t C,
                    float *partial);
/* x = x * activation'(aux) in place, and to (C) f32 += column sums of the result. */
void reduce_columns_activation(const OpContext *, float *to, void *x, const void *aux, int64_t N,
                               int64_t C, Activation, float *partial);
/* to[s] (C) f32 += sum over k of partial (n_chunks, n_sums, C), for those of the n_sums <= 3 that
 * are there. */
enum { REDUCE_MOST_SUMS = 3 };
void reduce_partials(const OpContext *, float *const to[], int n_sums, const float *partial,
                     int64_t n_chunks, int64_t C);

/* ---- comm.cu: collectives, see Backend ---- */

/* False with the reason where there are ranks and no NCCL. Does not wait for other ranks. */
bool comm_open(Backend *, const HostServices *, Error *);
void comm_close(Backend *);
int comm_ranks(const Backend *);
int comm_rank(const Backend *);
/* Stops where a collective has failed since it was submitted. */
void comm_check(Backend *);
void comm_all_reduce(Backend *, Tensor data, Stream *);
void comm_reduce_scatter(Backend *, Tensor recv, Tensor send, Stream *);
void comm_all_gather(Backend *, Tensor recv, Tensor send, Stream *);
void comm_broadcast(Backend *, Tensor data, int root, Stream *);

/* ---- product.cu: matrix products by cuBLASLt ---- */

/* False with the reason where the library is not there. Called once a card has been found. */
bool product_open(Backend *, Error *);
void product_close(Backend *);
const char *product_choices(Backend *);
void product_choose(Backend *, const char *text, bool last);

/* What is done to a product on its way out: see cublasLtEpilogue_t. GELU keeps its input in aux;
 * DGELU multiplies by the derivative at aux. */
typedef enum Epilogue {
    EPILOGUE_NONE, EPILOGUE_BIAS, EPILOGUE_GELU, EPILOGUE_GELU_AUX, EPILOGUE_DGELU
} Epilogue;

/* D = epilogue(alpha op(A) op(B) + beta C + bias), column-major as cuBLASLt has it: D and C (m,n)
 * with ldd, op(A) (m,k), op(B) (k,n). `in` is the dtype of A and B, `out` of C and D. A batch is
 * so many products at once, without epilogue if more than one; of each operand the matrices follow
 * each other without a gap. */
typedef struct Product {
    int64_t m, n, k, lda, ldb, ldd;
    DType in, out;
    bool transpose_a, transpose_b;
    Epilogue epilogue;
    int64_t batch;
} Product;
typedef struct ProductData {
    void *d;
    const void *c, *a, *b; /* c NULL: beta is 0 */
    const void *bias;      /* (m) in `out`'s dtype, or NULL */
    void *aux;             /* (m,n) with ldd in `out`'s dtype, or NULL */
    float alpha, beta;
} ProductData;

/* Bytes at the start of the scratch of ops that multiply to (m,n). */
int64_t product_workspace(int64_t m, int64_t n, const DeviceProperties *);
/* False, with nothing done, if the library has no algorithm for the product with its epilogue. */
bool product_try(const OpContext *, const Product *, const ProductData *);
/* The same for a product without an epilogue, which always works. */
void product_run(const OpContext *, const Product *, const ProductData *);

/* The op table. */
#include "common.cuh"

static int64_t scratch(OpKind op, const OpShape *shape, const DeviceProperties *device) {
    switch (op) {
    case OP_EMBED_BACKWARD: return cuda_embed_scratch(shape);
    case OP_RESIDUAL_NORM_BACKWARD: return cuda_norm_scratch(shape, device);
    case OP_LINEAR_FORWARD:
    case OP_LINEAR_BACKWARD_INPUT:
    case OP_LINEAR_BACKWARD_WEIGHT: return cuda_linear_scratch(op, shape, device);
    case OP_ATTENTION_FORWARD:
    case OP_ATTENTION_BACKWARD:
    case OP_ATTENTION_DECODE: return cuda_attention_scratch(op, shape, device);
    case OP_ROTATE_FORWARD:
    case OP_ROTATE_BACKWARD: return cuda_rope_scratch(op, shape, device);
    case OP_GRAD_NORM: return cuda_grad_norm_scratch();
    case OP_MUON: return cuda_muon_scratch(shape, device);
    default: return 0;
    }
}

const Ops cuda_ops = {.scratch = scratch,
                      .embed_forward = cuda_embed_forward,
                      .embed_backward = cuda_embed_backward,
                      .residual_norm_forward = cuda_residual_norm_forward,
                      .residual_norm_backward = cuda_residual_norm_backward,
                      .linear_forward = cuda_linear_forward,
                      .linear_backward_input = cuda_linear_backward_input,
                      .linear_backward_weight = cuda_linear_backward_weight,
                      .attention_forward = cuda_attention_forward,
                      .attention_backward = cuda_attention_backward,
                      .attention_decode = cuda_attention_decode,
                      .rotate_forward = cuda_rotate_forward,
                      .rotate_backward = cuda_rotate_backward,
                      .swiglu_forward = cuda_swiglu_forward,
                      .swiglu_backward = cuda_swiglu_backward,
                      .recurrence_forward = cuda_recurrence_forward,
                      .recurrence_backward = cuda_recurrence_backward,
                      .activation_forward = cuda_activation_forward,
                      .activation_backward = cuda_activation_backward,
                      .dropout_forward = cuda_dropout_forward,
                      .dropout_backward = cuda_dropout_backward,
                      .classifier = cuda_classifier,
                      .negative_sampling = cuda_negative_sampling,
                      .loss_sum = cuda_loss_sum,
                      .grad_norm = cuda_grad_norm,
                      .join_results = cuda_join_results,
                      .adamw = cuda_adamw,
                      .muon = cuda_muon};

/* The case table of the ops: every suite of tests/ops walks it, and so does `puck bench ops` (hot).
 *
 * Besides everyday shapes it holds the awkward ones: one row, one position, sizes that divide no
 * vector or tile, one token in every row, rows of a micro-batch in the middle of a batch. A new
 * kernel adds rows for each of its branches. */
#pragma once
#include "ops.h"

typedef struct OpCase {
    OpKind op;
    OpShape shape;       /* N = B * T rows */
    int64_t context;     /* rows of wpe and of the caches; 0: T */
    int64_t row_base;
    double rate;         /* of dropout */
    NormKind kind;
    Activation activation;
    int turn;            /* of rotate: 1 Llama's sign, -1 NanoChat's, 0: QK-norm alone */
    double softcap;
    const char *without; /* operands of ops.h that are absent, by name, spaces between */
    bool in_place;       /* the output that may share memory with an input does */
    bool hot;            /* a shape of the shakespeare-cpu recipe: timed by the bench */
} OpCase;

static const char *const op_names[OP_KINDS] = {
    [OP_EMBED_FORWARD] = "embed_forward",
    [OP_EMBED_BACKWARD] = "embed_backward",
    [OP_RESIDUAL_NORM_FORWARD] = "residual_norm_forward",
    [OP_RESIDUAL_NORM_BACKWARD] = "residual_norm_backward",
    [OP_LINEAR_FORWARD] = "linear_forward",
    [OP_LINEAR_BACKWARD_INPUT] = "linear_backward_input",
    [OP_LINEAR_BACKWARD_WEIGHT] = "linear_backward_weight",
    [OP_ATTENTION_FORWARD] = "attention_forward",
    [OP_ATTENTION_BACKWARD] = "attention_backward",
    [OP_ATTENTION_DECODE] = "attention_decode",
    [OP_ROTATE_FORWARD] = "rotate_forward",
    [OP_ROTATE_BACKWARD] = "rotate_backward",
    [OP_SWIGLU_FORWARD] = "swiglu_forward",
    [OP_SWIGLU_BACKWARD] = "swiglu_backward",
    [OP_RECURRENCE_FORWARD] = "recurrence_forward",
    [OP_RECURRENCE_BACKWARD] = "recurrence_backward",
    [OP_ACTIVATION_FORWARD] = "activation_forward",
    [OP_ACTIVATION_BACKWARD] = "activation_backward",
    [OP_DROPOUT_FORWARD] = "dropout_forward",
    [OP_DROPOUT_BACKWARD] = "dropout_backward",
    [OP_CLASSIFIER] = "classifier",
    [OP_NEGATIVE_SAMPLING] = "negative_sampling",
    [OP_LOSS_SUM] = "loss_sum",
    [OP_GRAD_NORM] = "grad_norm",
    [OP_ADAMW] = "adamw",
    [OP_MUON] = "muon"};

/* The designator also spares the warning that a row does not name every field. */
#define EMBED(b, t, c, v) .shape = {.B = b, .T = t, .C = c, .V = v, .Vp = (v + 7) / 8 * 8}
#define ROWS(b, t, c)     .shape = {.B = b, .T = t, .C = c}
#define LINEAR(n, c, o)   .shape = {.B = 1, .T = n, .C = c, .O = o}
#define HEADS(b, t, h, k, d)                                                                       \
    .shape = {.B = b, .T = t, .C = h * d, .H = h, .K = k, .D = d}
#define MATRICES(n, r, c) .shape = {.B = n, .T = 1, .O = r, .C = c}
#define LOGITS(n, v, vp) .shape = {.B = 1, .T = n, .V = v, .Vp = vp}

static const OpCase op_cases[] = {
    {OP_EMBED_FORWARD, EMBED(12, 64, 128, 65), .hot = true},
    {OP_EMBED_FORWARD, EMBED(1, 1, 20, 3), .without = "wpe position"},
    {OP_EMBED_FORWARD, EMBED(3, 37, 20, 11), .without = "position"},
    {OP_EMBED_FORWARD, EMBED(3, 5, 16, 11), .context = 40},
    {OP_EMBED_BACKWARD, EMBED(12, 64, 128, 65), .hot = true},
    {OP_EMBED_BACKWARD, EMBED(1, 1, 20, 3), .without = "dwpe"},
    {OP_EMBED_BACKWARD, EMBED(3, 37, 20, 11), .context = 40},
    {OP_EMBED_BACKWARD, EMBED(2, 37, 130, 100)},
    {OP_EMBED_BACKWARD, EMBED(8, 300, 48, 1)}, /* one token in all rows */
    {OP_EMBED_BACKWARD, EMBED(5, 40, 136, 3)}, /* runs and columns beyond a tile and a slice */

    {OP_RESIDUAL_NORM_FORWARD, ROWS(12, 64, 128), .rate = 0.1, .hot = true},
    {OP_RESIDUAL_NORM_FORWARD, ROWS(1, 1, 16), .without = "res x"},
    {OP_RESIDUAL_NORM_FORWARD, ROWS(1, 37, 20), .without = "w b", .rate = 0.5, .row_base = 37},
    {OP_RESIDUAL_NORM_FORWARD, ROWS(3, 37, 96), .in_place = true, .without = "b"},
    {OP_RESIDUAL_NORM_FORWARD, ROWS(1, 5, 1000), .rate = 0.2, .in_place = true},
    {OP_RESIDUAL_NORM_FORWARD, ROWS(1, 37, 20), .kind = NORM_RMS, .without = "mean b"},
    {OP_RESIDUAL_NORM_FORWARD, ROWS(2, 9, 48), .kind = NORM_RMS, .without = "mean res x w b"},
    {OP_RESIDUAL_NORM_FORWARD, ROWS(1, 3, 768), .kind = NORM_RMS, .without = "mean", .rate = 0.1},

    {OP_RESIDUAL_NORM_BACKWARD, ROWS(12, 64, 128), .rate = 0.1, .hot = true},
    {OP_RESIDUAL_NORM_BACKWARD, ROWS(12, 64, 128), .without = "dx", .hot = true},
    {OP_RESIDUAL_NORM_BACKWARD, ROWS(1, 1, 16)},
    {OP_RESIDUAL_NORM_BACKWARD, ROWS(1, 37, 20), .rate = 0.5, .row_base = 37, .without = "w dw db"},
    {OP_RESIDUAL_NORM_BACKWARD, ROWS(3, 37, 96), .without = "dx dbias_prev"},
    {OP_RESIDUAL_NORM_BACKWARD, ROWS(3, 700, 16), .rate = 0.1}, /* more rows than LEAST * MOST */
    {OP_RESIDUAL_NORM_BACKWARD, ROWS(1, 33, 1000), .rate = 0.2},
    {OP_RESIDUAL_NORM_BACKWARD, ROWS(1, 19, 2056), .rate = 0.1}, /* several vectors a thread */
    {OP_RESIDUAL_NORM_BACKWARD, ROWS(1, 18, 301)},
    {OP_RESIDUAL_NORM_BACKWARD, ROWS(1, 37, 20), .kind = NORM_RMS, .without = "mean db"},
    {OP_RESIDUAL_NORM_BACKWARD, ROWS(2, 37, 48), .kind = NORM_RMS, .rate = 0.1, .without = "mean"},

    {OP_LINEAR_FORWARD, LINEAR(768, 128, 384), .without = "aux", .hot = true},
    {OP_LINEAR_FORWARD, LINEAR(768, 128, 512), .activation = ACTIVATION_GELU, .hot = true},
    {OP_LINEAR_FORWARD, LINEAR(768, 512, 128), .without = "aux", .hot = true},
    {OP_LINEAR_FORWARD, LINEAR(768, 128, 128), .without = "aux bias", .hot = true},
    {OP_LINEAR_FORWARD, LINEAR(1, 16, 16), .without = "aux"},
    {OP_LINEAR_FORWARD, LINEAR(1, 128, 65), .without = "aux bias"},
    {OP_LINEAR_FORWARD, LINEAR(1, 90, 33), .without = "aux"}, /* whole vectors and a rest */
    {OP_LINEAR_FORWARD, LINEAR(37, 600, 40), .without = "aux"}, /* more than one block of C */
    {OP_LINEAR_FORWARD, LINEAR(5, 7, 3), .activation = ACTIVATION_GELU, .without = "aux bias"},
    {OP_LINEAR_FORWARD, LINEAR(37, 20, 33), .activation = ACTIVATION_GELU},
    {OP_LINEAR_FORWARD, LINEAR(131, 96, 257)},
    {OP_LINEAR_FORWARD, LINEAR(300, 65, 1030), .without = "aux"},
    {OP_LINEAR_FORWARD, LINEAR(37, 20, 33), .activation = ACTIVATION_RELU2},
    {OP_LINEAR_FORWARD, LINEAR(131, 96, 257), .activation = ACTIVATION_RELU2, .without = "bias"},
    {OP_LINEAR_FORWARD, LINEAR(1, 48, 65), .activation = ACTIVATION_RELU2, .without = "aux bias"},
    {OP_LINEAR_BACKWARD_INPUT, LINEAR(768, 128, 384), .without = "aux dbias_prev", .hot = true},
    {OP_LINEAR_BACKWARD_INPUT, LINEAR(768, 512, 128), .activation = ACTIVATION_GELU, .hot = true},
    {OP_LINEAR_BACKWARD_INPUT, LINEAR(768, 128, 512), .without = "aux dbias_prev", .hot = true},
    {OP_LINEAR_BACKWARD_INPUT, LINEAR(1, 16, 16), .without = "aux"},
    {OP_LINEAR_BACKWARD_INPUT, LINEAR(37, 40, 600), .without = "aux"}, /* blocks of O */
    {OP_LINEAR_BACKWARD_INPUT, LINEAR(5, 7, 3), .activation = ACTIVATION_GELU,
     .without = "dbias_prev"},
    {OP_LINEAR_BACKWARD_INPUT, LINEAR(37, 33, 20), .activation = ACTIVATION_GELU},
    {OP_LINEAR_BACKWARD_INPUT, LINEAR(131, 257, 96), .without = "aux"},
    {OP_LINEAR_BACKWARD_INPUT, LINEAR(300, 1030, 65), .activation = ACTIVATION_GELU},
    {OP_LINEAR_BACKWARD_INPUT, LINEAR(37, 33, 20), .activation = ACTIVATION_RELU2},
    {OP_LINEAR_BACKWARD_INPUT, LINEAR(131, 257, 96), .activation = ACTIVATION_RELU2,
     .without = "dbias_prev"},
    {OP_LINEAR_BACKWARD_WEIGHT, LINEAR(768, 128, 384), .without = "dbias", .hot = true},
    {OP_LINEAR_BACKWARD_WEIGHT, LINEAR(768, 128, 512), .without = "dbias", .hot = true},
    {OP_LINEAR_BACKWARD_WEIGHT, LINEAR(768, 512, 128), .without = "dbias", .hot = true},
    {OP_LINEAR_BACKWARD_WEIGHT, LINEAR(1, 16, 16)},
    {OP_LINEAR_BACKWARD_WEIGHT, LINEAR(600, 40, 37)}, /* blocks of rows */
    {OP_LINEAR_BACKWARD_WEIGHT, LINEAR(5, 7, 3)},
    {OP_LINEAR_BACKWARD_WEIGHT, LINEAR(37, 20, 33), .without = "dbias"},
    {OP_LINEAR_BACKWARD_WEIGHT, LINEAR(131, 96, 257)},
    {OP_LINEAR_BACKWARD_WEIGHT, LINEAR(1030, 65, 300)},

    {OP_ATTENTION_FORWARD, HEADS(12, 64, 4, 4, 32), .hot = true},
    {OP_ATTENTION_FORWARD, HEADS(1, 1, 1, 1, 16)},
    {OP_ATTENTION_FORWARD, HEADS(2, 1, 4, 2, 64), .rate = 0.5, .row_base = 3},
    {OP_ATTENTION_FORWARD, HEADS(2, 37, 3, 3, 20)},
    {OP_ATTENTION_FORWARD, HEADS(2, 37, 4, 2, 16), .rate = 0.1, .row_base = 74},
    {OP_ATTENTION_FORWARD, HEADS(1, 65, 6, 1, 48)},
    {OP_ATTENTION_FORWARD, HEADS(1, 130, 2, 2, 64), .rate = 0.2},
    {OP_ATTENTION_FORWARD, HEADS(1, 300, 1, 1, 16)},
    {OP_ATTENTION_FORWARD, HEADS(1, 33, 2, 1, 80)},
    {OP_ATTENTION_FORWARD, HEADS(1, 64, 1, 1, 96)},
    {OP_ATTENTION_FORWARD, HEADS(1, 63, 1, 1, 112), .rate = 0.1},
    {OP_ATTENTION_FORWARD, HEADS(1, 129, 2, 1, 128)},
    {OP_ATTENTION_FORWARD, HEADS(1, 36, 4, 2, 64), .rate = 0.1, .row_base = 72},
    {OP_ATTENTION_FORWARD, HEADS(1, 132, 1, 1, 32), .rate = 0.3},
    {OP_ATTENTION_FORWARD, HEADS(1, 68, 2, 1, 128), .rate = 0.1},
    {OP_ATTENTION_FORWARD, HEADS(1, 128, 1, 1, 64)}, /* whole tiles */
    {OP_ATTENTION_FORWARD, HEADS(1, 193, 3, 1, 64)}, /* a tile that some warps do not see */
    {OP_ATTENTION_FORWARD, HEADS(1, 9, 2, 2, 6), .rate = 0.1},
    {OP_ATTENTION_BACKWARD, HEADS(12, 64, 4, 4, 32), .hot = true},
    {OP_ATTENTION_BACKWARD, HEADS(1, 1, 1, 1, 16)},
    {OP_ATTENTION_BACKWARD, HEADS(2, 1, 4, 2, 64), .rate = 0.5, .row_base = 3},
    {OP_ATTENTION_BACKWARD, HEADS(2, 37, 3, 3, 20), .without = "dbias"},
    {OP_ATTENTION_BACKWARD, HEADS(2, 37, 4, 2, 16), .rate = 0.1, .row_base = 74},
    {OP_ATTENTION_BACKWARD, HEADS(1, 65, 6, 1, 48)},
    {OP_ATTENTION_BACKWARD, HEADS(1, 130, 2, 2, 64), .rate = 0.2, .without = "dbias"},
    {OP_ATTENTION_BACKWARD, HEADS(1, 300, 1, 1, 16)},
    {OP_ATTENTION_BACKWARD, HEADS(1, 33, 2, 1, 80)},
    {OP_ATTENTION_BACKWARD, HEADS(1, 64, 1, 1, 96)},
    {OP_ATTENTION_BACKWARD, HEADS(1, 63, 1, 1, 112), .rate = 0.1},
    {OP_ATTENTION_BACKWARD, HEADS(1, 129, 2, 1, 128)},
    {OP_ATTENTION_BACKWARD, HEADS(1, 36, 4, 2, 64), .rate = 0.1, .row_base = 72},
    {OP_ATTENTION_BACKWARD, HEADS(1, 132, 1, 1, 32), .rate = 0.3},
    {OP_ATTENTION_BACKWARD, HEADS(1, 68, 2, 1, 128), .rate = 0.1},
    {OP_ATTENTION_BACKWARD, HEADS(1, 128, 1, 1, 64)}, /* whole tiles */
    {OP_ATTENTION_BACKWARD, HEADS(1, 193, 3, 1, 64)}, /* a tile that some warps do not see */
    {OP_ATTENTION_BACKWARD, HEADS(1, 9, 2, 2, 6), .rate = 0.1},
    {OP_ATTENTION_DECODE, HEADS(1, 1, 4, 4, 32), .context = 64, .hot = true},
    {OP_ATTENTION_DECODE, HEADS(1, 1, 1, 1, 16)},
    {OP_ATTENTION_DECODE, HEADS(3, 5, 4, 2, 20), .context = 40},
    {OP_ATTENTION_DECODE, HEADS(2, 37, 6, 1, 16), .context = 130},
    {OP_ATTENTION_DECODE, HEADS(2, 1, 2, 2, 128), .context = 257},
    {OP_ATTENTION_DECODE, HEADS(1, 1, 6, 2, 64), .context = 700}, /* several slices */
    {OP_ATTENTION_DECODE, HEADS(3, 1, 3, 3, 20), .context = 100},
    {OP_ATTENTION_DECODE, HEADS(2, 1, 1, 1, 48), .context = 300},

    {OP_ROTATE_FORWARD, HEADS(12, 64, 4, 4, 32), .turn = -1, .without = "position"},
    {OP_ROTATE_FORWARD, HEADS(1, 1, 1, 1, 16), .turn = 1, .without = "position rstd"},
    {OP_ROTATE_FORWARD, HEADS(3, 1, 6, 2, 64), .turn = 1, .context = 300},
    {OP_ROTATE_FORWARD, HEADS(2, 37, 3, 3, 20), .turn = -1, .without = "rstd", .context = 130},
    {OP_ROTATE_FORWARD, HEADS(2, 37, 4, 2, 20), .turn = 1, .without = "position"},
    {OP_ROTATE_FORWARD, HEADS(2, 37, 4, 2, 48), .without = "position"},
    {OP_ROTATE_FORWARD, HEADS(1, 130, 4, 1, 128), .turn = 1, .without = "position rstd"},
    {OP_ROTATE_FORWARD, HEADS(2, 65, 1, 1, 6), .turn = -1, .context = 2048},
    {OP_ROTATE_BACKWARD, HEADS(12, 64, 4, 4, 32), .turn = -1, .without = "dbias"},
    {OP_ROTATE_BACKWARD, HEADS(1, 1, 1, 1, 16), .turn = 1, .without = "rstd"},
    {OP_ROTATE_BACKWARD, HEADS(3, 1, 6, 2, 64), .turn = 1},
    {OP_ROTATE_BACKWARD, HEADS(2, 37, 3, 3, 20), .turn = -1, .without = "rstd"},
    {OP_ROTATE_BACKWARD, HEADS(2, 37, 4, 2, 20), .turn = 1},
    {OP_ROTATE_BACKWARD, HEADS(2, 37, 4, 2, 48)},
    {OP_ROTATE_BACKWARD, HEADS(1, 130, 4, 1, 128), .turn = 1, .without = "rstd dbias"},
    {OP_ROTATE_BACKWARD, HEADS(2, 65, 1, 1, 6), .turn = -1},

    {OP_SWIGLU_FORWARD, ROWS(12, 64, 344)},
    {OP_SWIGLU_FORWARD, ROWS(1, 1, 1)},
    {OP_SWIGLU_FORWARD, ROWS(3, 37, 37)},
    {OP_SWIGLU_BACKWARD, ROWS(12, 64, 344)},
    {OP_SWIGLU_BACKWARD, ROWS(1, 1, 1)},
    {OP_SWIGLU_BACKWARD, ROWS(3, 37, 37)},

    {OP_RECURRENCE_FORWARD, ROWS(64, 6, 512), .hot = true},
    {OP_RECURRENCE_FORWARD, ROWS(1, 1, 1)},
    {OP_RECURRENCE_FORWARD, ROWS(1, 5, 131)}, /* one row: decoding */
    {OP_RECURRENCE_FORWARD, ROWS(3, 5, 37)},
    {OP_RECURRENCE_FORWARD, ROWS(17, 3, 96), .in_place = true},
    {OP_RECURRENCE_FORWARD, ROWS(259, 2, 20)}, /* more rows than a product takes */
    {OP_RECURRENCE_BACKWARD, ROWS(64, 6, 512), .hot = true},
    {OP_RECURRENCE_BACKWARD, ROWS(1, 1, 1)},
    {OP_RECURRENCE_BACKWARD, ROWS(3, 5, 37)},
    {OP_RECURRENCE_BACKWARD, ROWS(17, 3, 96), .in_place = true},
    {OP_RECURRENCE_BACKWARD, ROWS(259, 2, 20)},

    {OP_ACTIVATION_FORWARD, ROWS(12, 64, 512), .activation = ACTIVATION_GELU, .hot = true},
    {OP_ACTIVATION_FORWARD, ROWS(1, 1, 1), .activation = ACTIVATION_GELU},
    {OP_ACTIVATION_FORWARD, ROWS(3, 37, 37), .activation = ACTIVATION_GELU},
    {OP_ACTIVATION_FORWARD, ROWS(3, 37, 111), .activation = ACTIVATION_RELU2},
    {OP_ACTIVATION_FORWARD, ROWS(1, 5, 20)},
    {OP_ACTIVATION_BACKWARD, ROWS(12, 64, 512), .activation = ACTIVATION_GELU, .hot = true},
    {OP_ACTIVATION_BACKWARD, ROWS(1, 1, 1), .activation = ACTIVATION_GELU},
    {OP_ACTIVATION_BACKWARD, ROWS(3, 37, 37), .activation = ACTIVATION_GELU, .in_place = true},
    {OP_ACTIVATION_BACKWARD, ROWS(3, 37, 111), .activation = ACTIVATION_RELU2},
    {OP_ACTIVATION_BACKWARD, ROWS(1, 5, 20), .activation = ACTIVATION_RELU2, .in_place = true},
    {OP_ACTIVATION_BACKWARD, ROWS(1, 5, 20)},

    {OP_DROPOUT_FORWARD, ROWS(12, 64, 128), .rate = 0.1, .hot = true},
    {OP_DROPOUT_FORWARD, ROWS(1, 37, 21), .rate = 0.5, .row_base = 37, .in_place = true},
    {OP_DROPOUT_FORWARD, ROWS(1, 3, 1), .rate = 0.1, .row_base = 5},
    {OP_DROPOUT_FORWARD, ROWS(1, 5, 20)},
    {OP_DROPOUT_BACKWARD, ROWS(12, 64, 128), .rate = 0.1, .hot = true},
    {OP_DROPOUT_BACKWARD, ROWS(1, 37, 21), .rate = 0.5, .row_base = 37, .in_place = true},
    {OP_DROPOUT_BACKWARD, ROWS(1, 3, 1), .rate = 0.1, .row_base = 5},
    {OP_DROPOUT_BACKWARD, ROWS(1, 5, 20)},

    {OP_CLASSIFIER, LOGITS(768, 65, 128), .in_place = true, .hot = true},
    {OP_CLASSIFIER, LOGITS(1, 1, 8)},
    {OP_CLASSIFIER, LOGITS(37, 11, 16)},
    {OP_CLASSIFIER, LOGITS(37, 16, 16), .without = "dlogits"},
    {OP_CLASSIFIER, LOGITS(7, 1027, 1088), .in_place = true},
    {OP_CLASSIFIER, LOGITS(3, 50257, 50304), .in_place = true},
    {OP_CLASSIFIER, LOGITS(37, 11, 16), .softcap = 5},
    {OP_CLASSIFIER, LOGITS(37, 65, 128), .softcap = 15, .in_place = true},
    {OP_CLASSIFIER, LOGITS(37, 16, 16), .softcap = 15, .without = "dlogits"},
    {OP_CLASSIFIER, LOGITS(7, 1027, 1088), .softcap = 5, .in_place = true},
    {OP_CLASSIFIER, LOGITS(3, 50257, 50304), .softcap = 15, .in_place = true},
    {OP_NEGATIVE_SAMPLING, ROWS(1024, 7, 64), .in_place = true, .hot = true},
    {OP_NEGATIVE_SAMPLING, ROWS(1, 2, 1)},
    {OP_NEGATIVE_SAMPLING, ROWS(5, 7, 37)},
    {OP_NEGATIVE_SAMPLING, ROWS(9, 6, 96), .in_place = true},
    {OP_NEGATIVE_SAMPLING, ROWS(2, 65, 130), .in_place = true}, /* more than a block of columns */
    {OP_NEGATIVE_SAMPLING, ROWS(7, 3, 600), .without = "dx"},
    {OP_LOSS_SUM, ROWS(12, 64, 0), .hot = true},
    {OP_LOSS_SUM, ROWS(1, 1, 0)},
    {OP_LOSS_SUM, ROWS(7, 1001, 0)},

    {OP_GRAD_NORM, ROWS(1, 3, 5)},
    {OP_GRAD_NORM, ROWS(37, 100, 130), .hot = true},
    {OP_ADAMW, ROWS(1, 1, 1)},
    {OP_ADAMW, ROWS(1, 37, 37), .without = "w_act"},
    {OP_ADAMW, ROWS(12, 64, 513), .hot = true},

    {OP_MUON, MATRICES(16, 128, 128), .hot = true},
    {OP_MUON, MATRICES(4, 512, 128), .hot = true},
    {OP_MUON, MATRICES(4, 128, 512), .hot = true},
    {OP_MUON, MATRICES(1, 512, 128), .hot = true},
    {OP_MUON, MATRICES(1, 1, 1)},
    {OP_MUON, MATRICES(5, 1, 37), .without = "w_act"},
    {OP_MUON, MATRICES(1, 130, 1)},
    {OP_MUON, MATRICES(3, 37, 37), .without = "w_act"},
    {OP_MUON, MATRICES(5, 24, 40)}, /* so that all of them lie on 16 bytes */
    {OP_MUON, MATRICES(4, 67, 33)},
    {OP_MUON, MATRICES(1, 33, 257)},
    {OP_MUON, MATRICES(2, 263, 131)}, /* 3 x 3 tiles, the last ones smaller */
    {OP_MUON, MATRICES(67, 6, 4)}, /* more than a launch takes */
};

/* How long a training step takes on many GPUs, before one has them: the alpha-beta model. A
 * message of S bytes takes alpha + S / beta seconds; what the passes hide of it costs nothing. */
#pragma once
#include "base.h"

/* Of one GPU and what joins it to others. */
typedef struct ScalingMachine {
    double flops_per_sec;  /* that a whole step on one GPU reaches */
    double link_sec;       /* alpha of an all-reduce within a node */
    double link_bandwidth; /* bus bandwidth of a GPU within a node, bytes/s: a ring of n passes
                              (n-1)/n of the data through it, and for an all-reduce twice that */
    double net_sec;        /* alpha that each doubling of the nodes adds */
    double net_bandwidth;  /* bytes/s between nodes that one GPU has for itself */
} ScalingMachine;

/* What one rank does in a step. */
typedef struct ScalingWork {
    int64_t ranks, nodes;  /* nodes divides ranks */
    int64_t n_micro;       /* passes of a step */
    double flops;          /* of all of them */
    double gradient_bytes; /* reduced under the last pass's backward */
    double weight_bytes;   /* gathered after the update, under the first pass's forward */
    double bucket_bytes;   /* of gradients, sent at once */
    double early_part;     /* of both, that is not the embedding's, whose gradient is whole only
                              when backward ends, and which forward begins with */
} ScalingWork;

typedef struct ScalingStep {
    double compute_sec;
    double reduce_sec, reduce_exposed; /* reduce-scatter of the gradients, and what is not hidden */
    double gather_sec, gather_exposed; /* all-gather of the weights */
    double norm_sec;                   /* all-reduce of the gradient norm: never hidden */
    double step_sec;
    double link_bytes, net_bytes; /* that a GPU sends in a step, within its node and beyond */
} ScalingStep;

/* Reduce-scatter, or all-gather, of `bytes` in n_messages, first within nodes, then between GPUs of
 * the same number:  n_messages * alpha / 2 + (g-1)/g S / link + (m-1)/m S/g / net
 * with m nodes of g GPUs. An all-reduce is both. 0 for one rank. */
double scaling_scatter_sec(const ScalingMachine *machine, int64_t ranks, int64_t nodes,
                           double bytes, double n_messages);
/* A third of a pass is forward. */
ScalingStep scaling_step(const ScalingMachine *machine, const ScalingWork *work);

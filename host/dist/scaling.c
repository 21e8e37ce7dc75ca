/* The alpha-beta model of a training step on ranks: see scaling.h. */
#include "scaling.h"
#include <math.h>

/* Of an all-reduce, however small. */
static double latency(const ScalingMachine *machine, int64_t ranks, int64_t nodes) {
    if (ranks == 1) return 0;
    return (ranks > nodes ? machine->link_sec : 0) + machine->net_sec * log2((double)nodes);
}

/* What a GPU passes on within its node, and to other nodes, of a scatter or gather of `bytes`. */
static double link_share(int64_t ranks, int64_t nodes, double bytes) {
    const double g = (double)ranks / (double)nodes;
    return (g - 1) / g * bytes;
}
static double net_share(int64_t ranks, int64_t nodes, double bytes) {
    const double g = (double)ranks / (double)nodes, m = (double)nodes;
    return (m - 1) / m * bytes / g;
}

double scaling_scatter_sec(const ScalingMachine *machine, int64_t ranks, int64_t nodes,
                           double bytes, double n_messages) {
    return n_messages * latency(machine, ranks, nodes) / 2 +
           link_share(ranks, nodes, bytes) / machine->link_bandwidth +
           net_share(ranks, nodes, bytes) / machine->net_bandwidth;
}

ScalingStep scaling_step(const ScalingMachine *machine, const ScalingWork *work) {
    const int64_t n = work->ranks, m = work->nodes;
    const double S = work->gradient_bytes, W = work->weight_bytes, early = work->early_part;
    const double messages = ceil(S / work->bucket_bytes);
    ScalingStep s = {.compute_sec = work->flops / machine->flops_per_sec};
    const double pass_sec = s.compute_sec / (double)work->n_micro;
    s.reduce_sec = scaling_scatter_sec(machine, n, m, S, messages);
    s.gather_sec = scaling_scatter_sec(machine, n, m, W, messages);
    const double reduce_early = scaling_scatter_sec(machine, n, m, early * S, early * messages);
    const double gather_late = scaling_scatter_sec(machine, n, m, early * W, early * messages);
    s.reduce_exposed = s.reduce_sec - fmin(reduce_early, pass_sec * 2 / 3);
    s.gather_exposed = s.gather_sec - fmin(gather_late, pass_sec / 3);
    s.norm_sec = latency(machine, n, m);
    s.step_sec = s.compute_sec + s.reduce_exposed + s.gather_exposed + s.norm_sec;
    s.link_bytes = link_share(n, m, S + W);
    s.net_bytes = net_share(n, m, S + W);
    return s;
}

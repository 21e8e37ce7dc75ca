/* `puck info --ranks`: a training step on GPUs that need not be here (include/scaling.h). */
#include "info.h"
#include "plugin.h"
#include "scaling.h"
#include <stdio.h>
#include <string.h>

enum { NODE_GPUS = 8, MOST_RANKS = 512 };

/* ---- what is asked ---- */

/* Nodes of NODE_GPUS, where --nodes does not say. */
static int64_t nodes_of(const Options *o, int64_t ranks) {
    return o->nodes ? o->nodes : i64_div_up(ranks, NODE_GPUS);
}

bool info_ranks_options(const Options *o, Options *rank, Error *e) {
    *rank = *o;
    if (!o->ranks)
        return !o->nodes || error_misuse(e, "--nodes", "Give --ranks too",
                                         "how many GPUs the nodes have is not known");
    const int64_t nodes = nodes_of(o, o->ranks), below = o->batch_size / o->ranks * o->ranks;
    char hint[96];
    if (o->ranks % nodes) {
        const long fewer = (long)(o->ranks / nodes * nodes), more = fewer + (long)nodes;
        if (fewer)
            snprintf(hint, sizeof hint, "%ld or %ld ranks would do", fewer, more);
        else
            snprintf(hint, sizeof hint, "%ld ranks would do", more);
        return error_misuse(e, o->nodes ? "--nodes" : "--ranks", hint,
                            "%ld nodes cannot have equal parts of %ld ranks", (long)nodes,
                            (long)o->ranks);
    }
    if (below != o->batch_size) {
        snprintf(hint, sizeof hint, "%ld would do", (long)(below + o->ranks));
        return error_misuse(e, "--batch-size", hint, "%ld ranks do not divide the batch of %ld",
                            (long)o->ranks, (long)o->batch_size);
    }
    rank->batch_size = o->batch_size / o->ranks;
    return true;
}

bool info_ranks_plan(Backend *out, const Options *o, int64_t device_bytes, Error *e) {
    if (strcmp(o->device, "auto") != 0)
        return plugin_open_plan(out, o->device, o->dtype, device_bytes, e);
    return plugin_open_plan(out, "cuda", o->dtype, device_bytes, e) ||
           plugin_open_plan(out, "emu", o->dtype, device_bytes, e) ||
           plugin_open_plan(out, "cpu", o->dtype, device_bytes, e);
}

/* ---- what is predicted ---- */

static ScalingMachine machine_of(const Options *o) {
    return (ScalingMachine){.flops_per_sec = o->gpu_tflops * 1e12,
                            .link_sec = o->link_latency * 1e-6,
                            .link_bandwidth = o->link_gbps * 1e9,
                            .net_sec = o->net_latency * 1e-6,
                            .net_bandwidth = o->net_gbps * 1e9};
}

/* Part of the parameters that is not the embedding's, of tokens and of positions. */
static double early_part(const Model *m) {
    double all = 0, late = 0;
    for (int i = 0; i < m->n_params; i++) {
        const double n = (double)tensor_count(m->params[i].w);
        all += n;
        const bool is_head = strstr(m->params[i].name, "head") != NULL;
        if (m->params[i].layer < 0 && m->params[i].w.rank == 2 && !is_head) late += n;
    }
    return 1 - late / all;
}

static ScalingWork work_of(const Options *o, const Model *m, int64_t ranks, int64_t nodes) {
    const double params = (double)model_count_params(&m->config);
    /* Those that products read. */
    const double weight = (double)dtype_bytes(m->backend->compute);
    const int64_t part = o->batch_size / ranks;
    return (ScalingWork){.ranks = ranks,
                         .nodes = nodes,
                         .n_micro = i64_max(1, part / m->use.B),
                         .flops = model_flops_per_token(&m->config, m->use.T) *
                                  (double)(part * m->use.T),
                         .gradient_bytes = 4 * params,
                         .weight_bytes = weight * params,
                         .bucket_bytes = o->bucket_mb * 1e6,
                         .early_part = early_part(m)};
}

static void set_real(json_t *object, const char *name, double value) {
    json_object_set_new(object, name, json_real(value));
}

static void set_int(json_t *object, const char *name, int64_t value) {
    json_object_set_new(object, name, json_integer(value));
}

/* A rank count's line; `one` is the step of one GPU with the whole batch. */
static void add_step(json_t *to, const Options *o, const ScalingStep *s, const ScalingWork *work,
                     double one_sec) {
    const double tokens = (double)(o->batch_size * o->context);
    const double n = (double)work->ranks;
    set_int(to, "ranks", work->ranks);
    set_int(to, "nodes", work->nodes);
    set_real(to, "step_ms", s->step_sec * 1e3);
    set_real(to, "compute_ms", s->compute_sec * 1e3);
    set_real(to, "reduce_scatter_ms", s->reduce_sec * 1e3);
    set_real(to, "reduce_scatter_waited_ms", s->reduce_exposed * 1e3);
    set_real(to, "all_gather_ms", s->gather_sec * 1e3);
    set_real(to, "all_gather_waited_ms", s->gather_exposed * 1e3);
    set_real(to, "norm_ms", s->norm_sec * 1e3);
    set_real(to, "tokens_per_sec", tokens / s->step_sec);
    set_real(to, "tokens_per_sec_per_gpu", tokens / s->step_sec / n);
    set_real(to, "efficiency", one_sec / s->step_sec / n);
    set_real(to, "sent_in_node_mb", s->link_bytes * 1e-6);
    set_real(to, "sent_between_nodes_mb", s->net_bytes * 1e-6);
}

void info_ranks_add(json_t *facts, const Options *o, const Model *m) {
    const ScalingMachine machine = machine_of(o);
    ScalingWork work = work_of(o, m, 1, 1);
    const double one_sec = scaling_step(&machine, &work).step_sec;
    work = work_of(o, m, o->ranks, nodes_of(o, o->ranks));
    ScalingStep step = scaling_step(&machine, &work);
    set_int(facts, "sequences_per_rank", o->batch_size / o->ranks);
    set_int(facts, "micro_batches", work.n_micro);
    add_step(facts, o, &step, &work, one_sec);
    set_real(facts, "memory_mb_per_gpu", (double)arena_total(&m->arena) * 1e-6);
    set_real(facts, "input_gpu_tflops", o->gpu_tflops);
    set_real(facts, "input_link_gbps", o->link_gbps);
    set_real(facts, "input_link_latency_us", o->link_latency);
    set_real(facts, "input_net_gbps", o->net_gbps);
    set_real(facts, "input_net_latency_us", o->net_latency);
    set_real(facts, "input_bucket_mb", o->bucket_mb);
    json_object_set_new(facts, "input_weights", json_string(dtype_name(m->backend->compute)));
    json_t *rows = json_array();
    const int64_t node = o->ranks / nodes_of(o, o->ranks);
    for (int64_t n = 1; n <= MOST_RANKS; n *= 2) {
        if (o->batch_size % n || (n > node && n % node)) continue;
        work = work_of(o, m, n, n > node ? n / node : 1);
        step = scaling_step(&machine, &work);
        json_t *row = json_object();
        add_step(row, o, &step, &work, one_sec);
        json_array_append_new(rows, row);
    }
    json_object_set_new(facts, "scaling", rows);
}

static double real_of(const json_t *row, const char *name) {
    return json_number_value(json_object_get(row, name));
}

void info_ranks_print(const json_t *facts) {
    size_t i;
    const json_t *row;
    printf("\nthe same batch on 1 to %d GPUs; waited: communication that the passes do not hide\n",
           MOST_RANKS);
    printf("%6s %6s %10s %10s %10s %12s %11s\n", "ranks", "nodes", "step ms", "compute", "waited",
           "tok/s", "efficiency");
    json_array_foreach(json_object_get(facts, "scaling"), i, row) {
        printf("%6.0f %6.0f %10.2f %10.2f %10.2f %12.0f %10.1f%%\n", real_of(row, "ranks"),
               real_of(row, "nodes"), real_of(row, "step_ms"), real_of(row, "compute_ms"),
               real_of(row, "step_ms") - real_of(row, "compute_ms"), real_of(row, "tokens_per_sec"),
               100 * real_of(row, "efficiency"));
    }
    putchar('\n');
}

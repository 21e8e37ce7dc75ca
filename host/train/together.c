/* What the ranks of a run must have in common: options, run folder, weights. */
#include "dist.h"
#include "trainer.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

/* Threads are a matter of the host. */
static bool may_differ(const OptionRow *row) { return strcmp(row->name, "threads") == 0; }

bool together_options(const Trainer *t, Error *e) {
    Options *first = malloc(sizeof *first);
    CHECK(first, "no memory for the options of rank 0");
    memcpy(first, t->options, sizeof *first);
    dist_broadcast(first, sizeof *first, 0);
    bool ok = true;
    for (int i = 0; ok && i < n_option_rows; i++) {
        const OptionRow *row = &option_rows[i];
        if (may_differ(row) || options_equal(first, t->options, row)) continue;
        char is[OPTION_STRING_MAX + 8], was[OPTION_STRING_MAX + 8], flag[OPTIONS_DASHED_MAX];
        options_value(t->options, row, is, sizeof is);
        options_value(first, row, was, sizeof was);
        ok = error_misuse(e, options_dashed(flag, row->name), "Give all ranks the same options",
                          "this option is %.100s here and %.100s on rank 0", is, was);
    }
    free(first);
    return dist_agree(ok, e);
}

/* Leaves some bytes there. */
static bool write_mark(const char *path, Error *e) {
    static const char block[4096];
    FILE *f = fopen(path, "wb");
    const bool ok = f && fwrite(block, sizeof block, 1, f) == 1;
    if ((f && fclose(f) != 0) || !ok)
        return error_set(e, path, "Make it writable on all hosts, with room on its disk",
                         "cannot write to the run folder: %m");
    return true;
}

/* Every rank will write its part of a checkpoint there. */
bool together_folder(const Trainer *t, Error *e) {
    if (dist_ranks() == 1) return true;
    uint64_t number = (uint64_t)time(NULL) << 20 ^ (uint64_t)getpid();
    char first[1200], own[1280];
    dist_broadcast(&number, sizeof number, 0);
    snprintf(first, sizeof first, "%s/ranks-%016lx.tmp", t->run, (unsigned long)number);
    snprintf(own, sizeof own, "%s-%d", first, dist_rank());
    bool ok = dist_agree(dist_rank() != 0 || write_mark(first, e), e);
    if (ok && access(first, F_OK) != 0)
        ok = error_set(e, t->run, "Give --run a folder that all hosts share",
                       "the run folder is not the one that rank 0 sees");
    else if (ok)
        ok = write_mark(own, e);
    ok = dist_agree(ok, e);
    unlink(own);
    if (dist_rank() == 0) unlink(first);
    return ok;
}

void train_choices(Model *m) {
    Backend *b = m->backend;
    if (dist_ranks() == 1 || !b->choose) return;
    char *text = NULL;
    if (dist_rank() == 0) {
        model_forward(m, true);
        model_backward(m);
        model_begin_step(m);
        text = strdup(b->choices(b));
    }
    int64_t size = text ? (int64_t)strlen(text) + 1 : 0;
    dist_broadcast(&size, sizeof size, 0);
    if (dist_rank() != 0) text = malloc((size_t)size);
    CHECK(text, "no memory for the choices of rank 0");
    dist_broadcast(text, size, 0);
    b->choose(b, text, true);
    free(text);
}

/* For tests: PUCK_TEST_DRIFT="1,5" changes a weight of rank 1 after step 5. */
static void inject_drift(Trainer *t) {
    const char *text = getenv("PUCK_TEST_DRIFT");
    int rank, step;
    if (!text || sscanf(text, "%d,%d", &rank, &step) != 2) return;
    if (rank != dist_rank() || step != t->state.step) return;
    const Tensor w = t->model.flat_act.data ? t->model.flat_act : t->model.flat_w;
    model_wait_gather(&t->model);
    t->backend.fill(&t->backend, w.data, 1, dtype_bytes(w.dtype), t->model.cx.stream);
}

bool together_weights(Trainer *t, Error *e) {
    enum { BLOCK = 1 << 22 };
    const int64_t every = t->options->compare_every;
    if (dist_ranks() == 1) return true;
    inject_drift(t);
    if (every == 0 || t->state.step % every != 0) return true;
    const Model *m = &t->model;
    const Tensor w = m->flat_act.data ? m->flat_act : m->flat_w;
    const int64_t size = dtype_bytes(w.dtype), n = tensor_count(w);
    char *block = malloc(BLOCK);
    XXH3_state_t *hash = XXH3_createState();
    CHECK(block && hash, "no memory to hash the weights");
    XXH3_64bits_reset(hash);
    for (int64_t at = 0; at < n; at += BLOCK / size) {
        const int64_t count = i64_min(BLOCK / size, n - at);
        model_read(m, tensor_1d((char *)w.data + at * size, w.dtype, count), block);
        XXH3_64bits_update(hash, block, (size_t)(count * size));
    }
    const uint64_t value = XXH3_64bits_digest(hash);
    XXH3_freeState(hash);
    free(block);
    return dist_same(value, "the weights", "Check that host's memory and card, and resume", e);
}

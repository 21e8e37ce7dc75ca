/* A thread that fills batches ahead of their use. */
#include "loader.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

/* The batch handed out, the one before (its copy to a device may be under way), the one being
 * filled. */
enum { SLOTS = 3, SLOT_ALIGNMENT = 64 };

struct Loader {
    LoaderConfig config;
    int64_t first, stride;
    Batch slots[SLOTS];
    pthread_t thread;
    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t changed;
    int64_t n_filled, n_taken; /* batches so far; number i is in slot i % SLOTS */
    bool stop;
};

static int64_t slot_bytes(int64_t rows) {
    return i64_round_up((4 * rows + 1) * (int64_t)sizeof(int32_t), SLOT_ALIGNMENT);
}

int64_t loader_bytes(int64_t B, int64_t T) { return SLOTS * slot_bytes(B * T); }

static void *prefetch(void *argument) {
    Loader *l = argument;
    pthread_mutex_lock(&l->mutex);
    for (;;) {
        /* One ahead: the slot of the next but one belongs to a batch that may still be read. */
        while (!l->stop && l->n_filled > l->n_taken) pthread_cond_wait(&l->changed, &l->mutex);
        if (l->stop) break;
        const int64_t i = l->n_filled;
        pthread_mutex_unlock(&l->mutex);
        loader_fill(&l->config, l->first + i * l->stride, &l->slots[i % SLOTS]);
        pthread_mutex_lock(&l->mutex);
        l->n_filled++;
        pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

Loader *loader_start(const LoaderConfig *c, int64_t first, int64_t stride, void *memory) {
    Loader *l = calloc(1, sizeof *l);
    CHECK(l, "no memory for a loader");
    l->config = *c;
    l->first = first;
    l->stride = stride;
    const int64_t rows = c->B * c->T;
    for (int i = 0; i < SLOTS; i++) {
        int32_t *at = (int32_t *)((char *)memory + i * slot_bytes(rows));
        l->slots[i].tokens = at;
        l->slots[i].targets = at + rows;
        l->slots[i].order = at + 2 * rows;
        l->slots[i].starts = at + 3 * rows;
    }
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->changed, NULL);
    /* Signals are for the main thread, whose system calls they must interrupt, but for that of this
     * thread's own reading: see file_map. */
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&l->thread, NULL, prefetch, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    CHECK(!failed, "cannot start the loader's thread: error %d", failed);
    return l;
}

const Batch *loader_next(Loader *l) {
    pthread_mutex_lock(&l->mutex);
    while (l->n_filled == l->n_taken) pthread_cond_wait(&l->changed, &l->mutex);
    const Batch *batch = &l->slots[l->n_taken++ % SLOTS];
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->mutex);
    return batch;
}

void loader_stop(Loader *l) {
    pthread_mutex_lock(&l->mutex);
    l->stop = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->mutex);
    pthread_join(l->thread, NULL);
    pthread_mutex_destroy(&l->mutex);
    pthread_cond_destroy(&l->changed);
    free(l);
}

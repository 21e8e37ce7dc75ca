/* What moves bytes between ranks: the one symbol of libpuck_mpi.so, `puck_transport`. */
#pragma once
#include "backend.h"

/* Raised by every change of this file. `abi` comes first and never moves. */
enum { TRANSPORT_ABI = 5, TRANSPORT_HOST_MAX = 64 };

typedef struct TransportRank {
    int rank, n_ranks;
    int local_rank, n_local; /* among the ranks of this host */
    char host[TRANSPORT_HOST_MAX];
} TransportRank;

/* What a rank's watching thread tells others of its main thread. */
typedef struct Beat {
    int64_t calls; /* collectives begun */
    int64_t bytes; /* of the last ... */
    char what[20]; /* ... and its name */
    int32_t waits; /* whether the main thread is in it */
    int32_t ends;  /* this rank has said why all end */
    int64_t reached; /* see dist_watch_device */
    double step_sec; /* that it has been in a training step; 0: it is in none */
} Beat;

/* Collectives as in HostServices. */
typedef struct Transport {
    int abi;
    bool (*start)(TransportRank *out, Error *e);
    void (*finish)(void);
    void (*abort)(int code); /* ends all ranks; does not return */
    void (*broadcast)(void *data, int64_t bytes, int root);
    void (*all_gather)(void *recv, const void *send, int64_t bytes);
    void (*all_reduce)(void *data, int64_t count, DType dtype);
    void (*reduce_scatter)(void *recv, const void *send, int64_t count, DType dtype);
    /* Rank 0 hears all, the others hear rank 0. Sends `own`, puts what has come to all[r] and sets
     * came[r]. Never waits; for one thread, beside the main thread's collectives. */
    void (*beat)(const Beat *own, Beat *all, bool *came);
} Transport;

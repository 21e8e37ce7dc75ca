/* What moves bytes between ranks: the one symbol of libpuck_mpi.so, `puck_transport`. */
#pragma once
#include "backend.h"

/* Raised by every change of this file. `abi` comes first and never moves. */
enum { TRANSPORT_ABI = 1, TRANSPORT_HOST_MAX = 64 };

typedef struct TransportRank {
    int rank, n_ranks;
    int local_rank, n_local; /* among the ranks of this host */
    char host[TRANSPORT_HOST_MAX];
} TransportRank;

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
} Transport;

/* libpuck_mpi.so: bytes between ranks by MPI. Sums are made here, in rank order, since MPI promises
 * none. */
#include "transport.h"
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

enum {
    SMALL_BYTES = 16 << 10, /* an all-reduce of less gathers everything and adds */
    PIECE_BYTES = 1 << 20,  /* of a sum: what each rank sends each other one at a time */
    UNANSWERED = 4,         /* beats that a rank sends to one that is silent */
    MOST_BYTES = 1 << 30    /* of one message: MPI counts in int */
};

/* Of the process, as MPI itself is. */
static int rank, n_ranks = 1;
static MPI_Request *requests; /* 2 * n_ranks */
static char *pieces;          /* n_ranks * PIECE_BYTES */

/* Beats, of the watching thread: whom this rank hears, and what is on the way from and to them. */
static struct {
    MPI_Comm comm;
    int n_peers;
    MPI_Request *heard, *sent; /* n_peers each, like the Beats */
    Beat *in, *out;
    int *unanswered; /* beats sent since the last that came */
} beats;

/* Collective, so that the beats are no messages of the main thread's. */
static void beats_start(void) {
    MPI_Comm_dup(MPI_COMM_WORLD, &beats.comm);
    const int n = beats.n_peers = rank == 0 ? n_ranks - 1 : 1;
    beats.heard = calloc((size_t)(2 * n), sizeof(MPI_Request));
    beats.in = calloc((size_t)(2 * n), sizeof(Beat));
    CHECK(beats.heard && beats.in, "no memory to hear %d ranks", n);
    beats.sent = beats.heard + n;
    beats.out = beats.in + n;
    beats.unanswered = calloc((size_t)n, sizeof(int));
    CHECK(beats.unanswered, "no memory to hear %d ranks", n);
    for (int i = 0; i < 2 * n; i++) beats.heard[i] = MPI_REQUEST_NULL;
}

static void beats_stop(void) {
    for (int i = 0; i < beats.n_peers; i++) {
        if (beats.heard[i] == MPI_REQUEST_NULL) continue;
        MPI_Cancel(&beats.heard[i]);
        MPI_Wait(&beats.heard[i], MPI_STATUS_IGNORE);
    }
    MPI_Waitall(beats.n_peers, beats.sent, MPI_STATUSES_IGNORE);
    free(beats.heard);
    free(beats.in);
    free(beats.unanswered);
    MPI_Comm_free(&beats.comm);
}

static void beat(const Beat *own, Beat *all, bool *came) {
    for (int i = 0; i < beats.n_peers; i++) {
        const int peer = rank == 0 ? i + 1 : 0;
        int done = 1;
        came[peer] = false;
        /* All that has come since the last time, of which the last counts. */
        while (done) {
            if (beats.heard[i] == MPI_REQUEST_NULL)
                MPI_Irecv(&beats.in[i], sizeof(Beat), MPI_BYTE, peer, 0, beats.comm,
                          &beats.heard[i]);
            MPI_Test(&beats.heard[i], &done, MPI_STATUS_IGNORE);
            if (done) all[peer] = beats.in[i];
            came[peer] |= done;
        }
        MPI_Test(&beats.sent[i], &done, MPI_STATUS_IGNORE);
        if (came[peer]) beats.unanswered[i] = 0;
        /* OpenMPI ends a process at once, without a word, that sends to a dead one. So rank 0 only
         * answers, and the others soon stop to ask. */
        if (!done || beats.unanswered[i] >= (rank == 0 ? 1 : UNANSWERED)) continue;
        beats.unanswered[i]++;
        beats.out[i] = *own;
        MPI_Isend(&beats.out[i], sizeof(Beat), MPI_BYTE, peer, 0, beats.comm, &beats.sent[i]);
    }
}

static bool start(TransportRank *out, Error *e) {
    int given, length;
    char name[MPI_MAX_PROCESSOR_NAME];
    MPI_Comm local;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &given) != MPI_SUCCESS)
        return error_set(e, "MPI_Init_thread", NULL, "MPI does not start");
    if (given != MPI_THREAD_MULTIPLE)
        return error_set(e, "MPI_Init_thread", "Use an MPI that was built for threads",
                         "this MPI serves one thread only");
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &n_ranks);
    MPI_Get_processor_name(name, &length);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &local);
    *out = (TransportRank){.rank = rank, .n_ranks = n_ranks};
    MPI_Comm_rank(local, &out->local_rank);
    MPI_Comm_size(local, &out->n_local);
    MPI_Comm_free(&local);
    memcpy(out->host, name, (size_t)i64_min(length, TRANSPORT_HOST_MAX - 1));
    requests = calloc((size_t)(2 * n_ranks), sizeof(MPI_Request));
    pieces = malloc((size_t)n_ranks * PIECE_BYTES);
    CHECK(requests && pieces, "no memory to exchange pieces with %d ranks", n_ranks);
    beats_start();
    return true;
}

static void finish(void) {
    beats_stop();
    free(requests);
    free(pieces);
    MPI_Finalize();
}

static void end_all(int code) { MPI_Abort(MPI_COMM_WORLD, code); }

static void broadcast(void *data, int64_t bytes, int root) {
    for (int64_t at = 0; at < bytes; at += MOST_BYTES)
        MPI_Bcast((char *)data + at, (int)i64_min(MOST_BYTES, bytes - at), MPI_BYTE, root,
                  MPI_COMM_WORLD);
}

static void all_gather(void *recv, const void *send, int64_t bytes) {
    char *const own = (char *)recv + rank * bytes;
    if (send != own) memmove(own, send, (size_t)bytes);
    if (bytes <= SMALL_BYTES) {
        MPI_Allgather(MPI_IN_PLACE, 0, MPI_BYTE, recv, (int)bytes, MPI_BYTE, MPI_COMM_WORLD);
        return;
    }
    for (int64_t at = 0; at < bytes; at += MOST_BYTES) {
        const int n = (int)i64_min(MOST_BYTES, bytes - at);
        int posted = 0;
        for (int k = 1; k < n_ranks; k++) {
            const int to = (rank + k) % n_ranks, from = (rank - k + n_ranks) % n_ranks;
            MPI_Irecv((char *)recv + from * bytes + at, n, MPI_BYTE, from, 0, MPI_COMM_WORLD,
                      &requests[posted++]);
            MPI_Isend(own + at, n, MPI_BYTE, to, 0, MPI_COMM_WORLD, &requests[posted++]);
        }
        MPI_Waitall(posted, requests, MPI_STATUSES_IGNORE);
    }
}

/* out[i] = sum over ranks of part[r][i], in rank order; out may be one of the parts. */
static void add_parts(void *out, void *const *part, int64_t n, DType dtype) {
    CHECK(dtype == DTYPE_F32 || dtype == DTYPE_F64, "sums of %s", dtype_name(dtype));
    if (dtype == DTYPE_F64) {
        for (int64_t i = 0; i < n; i++) {
            double sum = ((const double *)part[0])[i];
            for (int r = 1; r < n_ranks; r++) sum += ((const double *)part[r])[i];
            ((double *)out)[i] = sum;
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        float sum = ((const float *)part[0])[i];
        for (int r = 1; r < n_ranks; r++) sum += ((const float *)part[r])[i];
        ((float *)out)[i] = sum;
    }
}

/* Of `count` elements cut into parts of `per`, rank r's. */
static int64_t part_length(int r, int64_t per, int64_t count) {
    return i64_max(0, i64_min(per, count - r * per));
}

/* This rank's part of the sum of everyone's `data`, to out, which may be where it lies in data. */
static void reduce_part(void *out, const void *data, int64_t per, int64_t count, DType dtype) {
    const int64_t size = dtype_bytes(dtype), step = PIECE_BYTES / size;
    const int64_t own = part_length(rank, per, count);
    void **part = calloc((size_t)n_ranks, sizeof *part);
    CHECK(part, "no memory for the parts of %d ranks", n_ranks);
    for (int64_t at = 0; at < per; at += step) {
        const int64_t n = i64_max(0, i64_min(step, own - at));
        int posted = 0;
        for (int k = 1; k < n_ranks; k++) {
            const int to = (rank + k) % n_ranks, from = (rank - k + n_ranks) % n_ranks;
            const int64_t theirs = i64_max(0, i64_min(step, part_length(to, per, count) - at));
            part[from] = pieces + (int64_t)from * PIECE_BYTES;
            MPI_Irecv(part[from], (int)(n * size), MPI_BYTE, from, 0, MPI_COMM_WORLD,
                      &requests[posted++]);
            MPI_Isend((const char *)data + (to * per + at) * size, (int)(theirs * size), MPI_BYTE,
                      to, 0, MPI_COMM_WORLD, &requests[posted++]);
        }
        MPI_Waitall(posted, requests, MPI_STATUSES_IGNORE);
        part[rank] = (char *)data + (rank * per + at) * size;
        add_parts((char *)out + at * size, part, n, dtype);
    }
    free(part);
}

static void reduce_scatter(void *recv, const void *send, int64_t count, DType dtype) {
    reduce_part(recv, send, count, count * n_ranks, dtype);
}

static void reduce_small(void *data, int64_t count, DType dtype) {
    const int64_t bytes = count * dtype_bytes(dtype);
    char *all = malloc((size_t)(n_ranks * bytes));
    void **part = calloc((size_t)n_ranks, sizeof *part);
    CHECK(all && part, "no memory for the parts of %d ranks", n_ranks);
    for (int r = 0; r < n_ranks; r++) part[r] = all + r * bytes;
    all_gather(all, data, bytes);
    add_parts(data, part, count, dtype);
    free(all);
    free(part);
}

/* Every rank sums its part, then hands it to the others. */
static void all_reduce(void *data, int64_t count, DType dtype) {
    const int64_t size = dtype_bytes(dtype), per = i64_div_up(count, n_ranks);
    if (count * size <= SMALL_BYTES) {
        reduce_small(data, count, dtype);
        return;
    }
    reduce_part((char *)data + rank * per * size, data, per, count, dtype);
    for (int r = 0; r < n_ranks; r++) {
        const int64_t n = part_length(r, per, count);
        if (n > 0) broadcast((char *)data + r * per * size, n * size, r);
    }
}

extern const Transport puck_transport;
const Transport puck_transport = {.abi = TRANSPORT_ABI,
                                  .start = start,
                                  .finish = finish,
                                  .abort = end_all,
                                  .broadcast = broadcast,
                                  .all_gather = all_gather,
                                  .all_reduce = all_reduce,
                                  .reduce_scatter = reduce_scatter,
                                  .beat = beat};

/* Collectives on device tensors: sums and copies between ranks, through NCCL.
 *
 * NCCL is opened with the back end where there are several ranks, and the ranks are connected by
 * their first collective, which all make at the same point: rank 0 draws an id and hands it to the
 * others through the host. With one rank nothing of NCCL is touched, unless PUCK_ALWAYS_NCCL asks
 * for it: so the check of a single card runs this code too.
 *
 * NCCL chooses the order of a sum by the number of ranks, the links between them and the count of
 * elements; it is the same on every rank and in every run on the same machine. */
#include "common.cuh"
#include "nccl.cuh"
#include <stdio.h>
#include <stdlib.h>

struct Comm {
    Nccl nccl;
    HostServices host;
    ncclComm_t ranks; /* NULL before the first collective */
};

/* ---- failures: NCCL's own words, which name sockets and cards ---- */

static void nccl_check(const struct Comm *c, ncclResult_t result, const char *what) {
    if (result == ncclSuccess) return;
    const char *const last = c->nccl.GetLastError(c->ranks);
    CHECK(result == ncclSuccess, "%s on rank %d: %s%s%s. With NCCL_DEBUG=WARN it says more", what,
          c->host.rank, c->nccl.GetErrorString(result), last && last[0] ? ": " : "",
          last ? last : "");
}

void comm_check(Backend *b) {
    const struct Comm *const c = state_of(b)->comm;
    ncclResult_t result = ncclSuccess;
    if (!c || !c->ranks) return;
    nccl_check(c, c->nccl.CommGetAsyncError(c->ranks, &result), "CommGetAsyncError");
    nccl_check(c, result, "a collective");
}

/* ---- open, connect, close ---- */

bool comm_open(Backend *b, const HostServices *host, Error *e) {
    char why[256];
    if (host->n_ranks == 1 && !getenv("PUCK_ALWAYS_NCCL")) return true;
    struct Comm *const c = (struct Comm *)calloc(1, sizeof *c);
    CHECK(c, "no memory");
    if (nccl_load(&c->nccl, why, sizeof why)) {
        c->host = *host;
        state_of(b)->comm = c;
        return true;
    }
    free(c);
    *e = Error{};
    e->code = EXIT_FAILED;
    snprintf(e->text, sizeof e->text, "NCCL, which connects ranks, does not load: %s", why);
    snprintf(e->place, sizeof e->place, "libnccl.so.2");
    snprintf(e->hint, sizeof e->hint,
             "Install NCCL 2 for CUDA %d (libnccl2, or Python's nvidia-nccl-cu%d), or put its "
             "folder into LD_LIBRARY_PATH",
             CUDART_VERSION / 1000, CUDART_VERSION / 1000);
    return false;
}

static struct Comm *comm_connect(Backend *b) {
    struct Comm *const c = state_of(b)->comm;
    CUDA_CHECK(cudaSetDevice(state_of(b)->device));
    if (c->ranks) return c;
    ncclUniqueId id = {};
    if (c->host.rank == 0) nccl_check(c, c->nccl.GetUniqueId(&id), "GetUniqueId");
    c->host.broadcast(&id, sizeof id, 0);
    nccl_check(c, c->nccl.CommInitRank(&c->ranks, c->host.n_ranks, id, c->host.rank),
               "connecting the ranks");
    return c;
}

void comm_close(Backend *b) {
    struct Comm *const c = state_of(b)->comm;
    ncclResult_t result = ncclSuccess;
    if (!c) return;
    if (c->ranks) { /* after a failure the orderly way would wait for ranks that are gone */
        c->nccl.CommGetAsyncError(c->ranks, &result);
        if (result == ncclSuccess)
            c->nccl.CommDestroy(c->ranks);
        else
            c->nccl.CommAbort(c->ranks);
    }
    free(c);
    state_of(b)->comm = NULL;
}

/* ---- collectives: Backend says what they do; with one rank the sum of all is one's own ---- */

static ncclDataType_t type_of(Tensor t) {
    switch (t.dtype) {
    case DTYPE_F64: return ncclFloat64;
    case DTYPE_F32: return ncclFloat32;
    case DTYPE_BF16: return ncclBfloat16;
    case DTYPE_I32: return ncclInt32;
    case DTYPE_U8: return ncclUint8;
    default: CHECK(false, "ranks do not exchange %s", dtype_name(t.dtype)); return ncclUint8;
    }
}

int comm_ranks(const Backend *b) {
    const struct Comm *const c = state_of(b)->comm;
    return c ? c->host.n_ranks : 1;
}

int comm_rank(const Backend *b) {
    const struct Comm *const c = state_of(b)->comm;
    return c ? c->host.rank : 0;
}

/* `large` has a part for every rank, each of `small`'s size. */
static void check_parts(const Backend *b, Tensor small, Tensor large) {
    const int64_t n_ranks = comm_ranks(b);
    CHECK(small.dtype == large.dtype && tensor_count(large) == n_ranks * tensor_count(small),
          "%ld %s for %ld ranks, and %ld %s", (long)tensor_count(large), dtype_name(large.dtype),
          (long)n_ranks, (long)tensor_count(small), dtype_name(small.dtype));
}

static void move_own(Backend *b, Tensor to, Tensor from, Stream *s) {
    if (to.data != from.data) b->copy(b, to.data, from.data, tensor_bytes(to), COPY_ON_DEVICE, s);
}

static cudaStream_t stream_for(const Backend *b, Stream *s) {
    return s ? (cudaStream_t)s : state_of(b)->stream;
}

void comm_all_reduce(Backend *b, Tensor data, Stream *s) {
    if (!state_of(b)->comm) return;
    const struct Comm *const c = comm_connect(b);
    nccl_check(c,
               c->nccl.AllReduce(data.data, data.data, (size_t)tensor_count(data), type_of(data),
                                 ncclSum, c->ranks, stream_for(b, s)),
               "all_reduce");
    comm_check(b);
}

void comm_reduce_scatter(Backend *b, Tensor recv, Tensor send, Stream *s) {
    check_parts(b, recv, send);
    if (!state_of(b)->comm) return move_own(b, recv, send, s);
    const struct Comm *const c = comm_connect(b);
    nccl_check(c,
               c->nccl.ReduceScatter(send.data, recv.data, (size_t)tensor_count(recv),
                                     type_of(recv), ncclSum, c->ranks, stream_for(b, s)),
               "reduce_scatter");
    comm_check(b);
}

void comm_all_gather(Backend *b, Tensor recv, Tensor send, Stream *s) {
    check_parts(b, send, recv);
    if (!state_of(b)->comm) return move_own(b, recv, send, s);
    const struct Comm *const c = comm_connect(b);
    nccl_check(c,
               c->nccl.AllGather(send.data, recv.data, (size_t)tensor_count(send), type_of(send),
                                 c->ranks, stream_for(b, s)),
               "all_gather");
    comm_check(b);
}

void comm_broadcast(Backend *b, Tensor data, int root, Stream *s) {
    if (!state_of(b)->comm) return;
    const struct Comm *const c = comm_connect(b);
    nccl_check(c,
               c->nccl.Broadcast(data.data, data.data, (size_t)tensor_count(data), type_of(data),
                                 root, c->ranks, stream_for(b, s)),
               "broadcast");
    comm_check(b);
}

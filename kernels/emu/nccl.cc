/* NCCL for the emulator: the ranks are processes of one host, joined by sockets to the one that
 * drew the id, rank 0. It compares the calls of all, adds in rank order, and hands out the results.
 *
 * A collective is two pieces of work of its stream. The exchange waits for the other ranks, and
 * runs when it is submitted (Operation::meets); what the stream was told to wait for runs first, so
 * a missing wait is seen: the ranks exchange old data. The delivery writes the results as late as
 * other work of the stream, and after later exchanges; until then they are NaN. */
#include "nccl.cuh"
#include "stream.h"
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <algorithm>
#include <vector>

struct ncclComm {
    int rank, n_ranks;
    std::vector<int> socket; /* at rank 0 by rank; elsewhere one, to rank 0 */
    long n_calls = 0;
    ncclResult_t error = ncclSuccess;
};

namespace {

enum Kind { ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER, BROADCAST };
const char *const kind_names[] = {"ncclAllReduce", "ncclReduceScatter", "ncclAllGather",
                                  "ncclBroadcast"};

/* What ranks must agree on: no padding, since it is compared as bytes. */
struct Call {
    int32_t kind, type, root, unused;
    int64_t count, number;
};

/* A rank's greeting. */
struct Hello {
    int32_t rank, n_ranks;
};

char last_error[256];
int listener = -1; /* of the id that this process drew last */

ncclResult_t fail(ncclResult_t result, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
ncclResult_t fail(ncclResult_t result, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_error, sizeof last_error, format, arguments);
    va_end(arguments);
    return result;
}

/* ---- sockets ---- */

bool send_all(int to, const void *data, size_t bytes) {
    const char *at = static_cast<const char *>(data);
    while (bytes) {
        const ssize_t n = send(to, at, bytes, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n;
        bytes -= (size_t)n;
    }
    return true;
}

bool receive_all(int from, void *data, size_t bytes) {
    char *at = static_cast<char *>(data);
    while (bytes) {
        const ssize_t n = recv(from, at, bytes, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n;
        bytes -= (size_t)n;
    }
    return true;
}

/* The address in an id is one that the kernel has drawn, and no file. */
socklen_t id_read(const ncclUniqueId &id, sockaddr_un *address) {
    *address = {};
    address->sun_family = AF_UNIX;
    const size_t n = (unsigned char)id.internal[0];
    memcpy(address->sun_path, id.internal + 1, std::min(n, sizeof address->sun_path));
    return (socklen_t)(offsetof(sockaddr_un, sun_path) + n);
}

bool accept_all(ncclComm *c) {
    c->socket.assign((size_t)c->n_ranks, -1);
    for (int i = 1; i < c->n_ranks; i++) {
        Hello hello;
        const int peer = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        if (peer < 0 || !receive_all(peer, &hello, sizeof hello)) return false;
        if (hello.n_ranks != c->n_ranks || hello.rank < 1 || hello.rank >= c->n_ranks ||
            c->socket[(size_t)hello.rank] >= 0)
            return false;
        c->socket[(size_t)hello.rank] = peer;
    }
    return true;
}

bool connect_to_first(ncclComm *c, const ncclUniqueId &id) {
    sockaddr_un address;
    const socklen_t length = id_read(id, &address);
    const Hello hello = {c->rank, c->n_ranks};
    const int peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    c->socket.assign(1, peer);
    return connect(peer, reinterpret_cast<const sockaddr *>(&address), length) == 0 &&
           send_all(peer, &hello, sizeof hello);
}

void close_sockets(ncclComm *c) {
    for (const int s : c->socket)
        if (s >= 0) close(s);
}

/* ---- elements ---- */

size_t type_bytes(int type) {
    switch (type) {
    case ncclUint8: return 1;
    case ncclBfloat16: return 2;
    case ncclInt32:
    case ncclFloat32: return 4;
    case ncclFloat64: return 8;
    }
    return 0;
}
const char *type_name(int type) {
    switch (type) {
    case ncclUint8: return "u8";
    case ncclBfloat16: return "bf16";
    case ncclInt32: return "i32";
    case ncclFloat32: return "f32";
    case ncclFloat64: return "f64";
    }
    return "elements of another type";
}

template <typename T> void add_as(void *to, const void *from, size_t n) {
    T *const sum = static_cast<T *>(to);
    for (size_t i = 0; i < n; i++) sum[i] = (T)(sum[i] + static_cast<const T *>(from)[i]);
}

/* to += from; bf16 is rounded at each rank, as on the way from card to card. */
void add(void *to, const void *from, size_t n, int type) {
    switch (type) {
    case ncclUint8: return add_as<uint8_t>(to, from, n);
    case ncclInt32: return add_as<int32_t>(to, from, n);
    case ncclFloat32: return add_as<float>(to, from, n);
    case ncclFloat64: return add_as<double>(to, from, n);
    }
    __nv_bfloat16 *const sum = static_cast<__nv_bfloat16 *>(to);
    const __nv_bfloat16 *const other = static_cast<const __nv_bfloat16 *>(from);
    for (size_t i = 0; i < n; i++)
        sum[i] = __float2bfloat16_rn(__bfloat162float(sum[i]) + __bfloat162float(other[i]));
}

/* ---- a collective in a stream ---- */

/* What the two pieces share. */
struct Collective {
    ncclComm *c;
    Kind kind;
    const void *send;
    void *recv;
    size_t count;
    int type, root;
    std::vector<char> result;

    size_t bytes(size_t n) const { return n * type_bytes(type); }
    size_t send_bytes() const {
        return bytes(kind == REDUCE_SCATTER ? count * (size_t)c->n_ranks : count);
    }
    size_t recv_bytes() const {
        return bytes(kind == ALL_GATHER ? count * (size_t)c->n_ranks : count);
    }
    bool gives(int rank) const { return kind != BROADCAST || rank == root; }

    bool exchange();
    bool lead(const Call &call);
    bool compare(const Call &call) const;
};

/* True if all ranks make the same call; stops the program if they do not. */
bool Collective::compare(const Call &call) const {
    bool same = true;
    std::vector<Call> calls((size_t)c->n_ranks, call);
    for (size_t r = 1; r < calls.size(); r++) {
        if (!receive_all(c->socket[r], &calls[r], sizeof calls[r])) return false;
        same = same && !memcmp(&calls[r], &call, sizeof call);
    }
    if (same) return true;
    fprintf(stderr, "emu: the ranks make different calls:\n");
    for (size_t r = 0; r < calls.size(); r++)
        fprintf(stderr, "emu:   rank %zu: %s of %ld %s from %d, its collective %ld\n", r,
                kind_names[calls[r].kind & 3], (long)calls[r].count, type_name(calls[r].type),
                calls[r].root, (long)calls[r].number);
    abort();
}

/* Rank 0's part. False: a rank is gone. */
bool Collective::lead(const Call &call) {
    const size_t ranks = (size_t)c->n_ranks, own = send_bytes();
    std::vector<char> data(own * ranks); /* what each gives */
    if (!compare(call)) return false;
    if (gives(0)) memcpy(data.data(), send, own);
    for (size_t r = 1; r < ranks; r++)
        if (gives((int)r) && !receive_all(c->socket[r], data.data() + r * own, own)) return false;
    if (kind == ALL_REDUCE || kind == REDUCE_SCATTER)
        for (size_t r = 1; r < ranks; r++)
            add(data.data(), data.data() + r * own, own / type_bytes(type), type);
    const char *const from = data.data() + (kind == BROADCAST ? (size_t)root * own : 0);
    const size_t step = kind == REDUCE_SCATTER ? recv_bytes() : 0;
    for (size_t r = 1; r < ranks; r++)
        if (!send_all(c->socket[r], from + r * step, recv_bytes())) return false;
    result.assign(from, from + recv_bytes());
    return true;
}

bool Collective::exchange() {
    const Call call = {kind, type, root, 0, (int64_t)count, ++c->n_calls};
    if (c->error != ncclSuccess) return false;
    if (c->rank == 0) return lead(call);
    const int first = c->socket[0];
    result.resize(recv_bytes());
    return send_all(first, &call, sizeof call) &&
           (!gives(c->rank) || send_all(first, send, send_bytes())) &&
           receive_all(first, result.data(), recv_bytes());
}

using emu::Range;
struct Exchange : emu::Operation {
    std::shared_ptr<Collective> collective;
    bool meets() const override { return true; }
    bool touches(Range late) const override {
        const Collective *const w = collective.get();
        return overlap({w->send, w->send_bytes()}, late) ||
               overlap({w->recv, w->recv_bytes()}, late);
    }
    void run() override {
        Collective *const w = collective.get();
        if (!w->exchange()) {
            w->c->error = fail(ncclRemoteError, "a rank is gone, at %s of %zu %s",
                               kind_names[w->kind], w->count, type_name(w->type));
            w->result.assign(w->recv_bytes(), (char)emu::FRESH_BYTE);
        }
        memset(w->recv, emu::FRESH_BYTE, w->recv_bytes());
        emu::check_host_write(w->recv, w->recv_bytes(), true);
    }
};

struct Deliver : emu::Operation {
    std::shared_ptr<Collective> collective;
    Range delivers() const override { return {collective->recv, collective->recv_bytes()}; }
    void run() override {
        const Collective *const w = collective.get();
        memcpy(w->recv, w->result.data(), w->result.size());
        emu::check_host_write(w->recv, w->result.size(), false);
    }
};

/* Memory of the device, and either apart or as the collective allows in place. */
bool memory_is_right(const Collective &w) {
    const char *const send = static_cast<const char *>(w.send);
    const char *const recv = static_cast<const char *>(w.recv);
    const size_t own = (size_t)w.c->rank;
    if (!emu::device_holds(send, w.send_bytes()) || !emu::device_holds(recv, w.recv_bytes()))
        return false;
    if (send + w.send_bytes() <= recv || recv + w.recv_bytes() <= send) return true;
    return w.kind == REDUCE_SCATTER ? recv == send + own * w.recv_bytes()
           : w.kind == ALL_GATHER   ? send == recv + own * w.send_bytes()
                                    : send == recv;
}

ncclResult_t submit(const Collective &work, cudaStream_t stream) {
    if (!work.c || !type_bytes(work.type) || work.root < 0 || work.root >= work.c->n_ranks)
        return fail(ncclInvalidArgument, "no communicator, type or root");
    if (!memory_is_right(work))
        return fail(ncclInvalidArgument, "%s of %zu %s: not memory of the device, or overlapping",
                    kind_names[work.kind], work.count, type_name(work.type));
    if (!work.count) return ncclSuccess;
    auto exchange = std::make_shared<Exchange>();
    auto deliver = std::make_shared<Deliver>();
    exchange->collective = deliver->collective = std::make_shared<Collective>(work);
    if (emu::stream_submit(stream, exchange) || emu::stream_submit(stream, deliver))
        return fail(ncclUnhandledCudaError, "%s", cudaGetErrorString(cudaGetLastError()));
    return ncclSuccess;
}

} // namespace

extern "C" {

/* ---- communicators ---- */

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    socklen_t length = sizeof address.sun_family; /* asks for any free address */
    if (listener >= 0) close(listener);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr *const any = reinterpret_cast<sockaddr *>(&address);
    if (listener < 0 || bind(listener, any, length) || listen(listener, SOMAXCONN))
        return fail(ncclSystemError, "no socket: %s", strerror(errno));
    length = sizeof address;
    getsockname(listener, any, &length);
    *id = {};
    id->internal[0] = (char)(length - offsetof(sockaddr_un, sun_path));
    memcpy(id->internal + 1, address.sun_path, (size_t)id->internal[0]);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *out, int n_ranks, ncclUniqueId id, int rank) {
    if (emu::stream_capturing()) return fail(ncclInvalidUsage, "ranks connect outside captures");
    if (rank < 0 || rank >= n_ranks || (rank == 0 && listener < 0))
        return fail(ncclInvalidUsage, "rank 0 is not the process that drew the id");
    ncclComm *const c = new ncclComm;
    c->rank = rank;
    c->n_ranks = n_ranks;
    const bool ok = rank == 0 ? accept_all(c) : connect_to_first(c, id);
    if (rank == 0) {
        close(listener);
        listener = -1;
    }
    if (!ok) {
        fail(ncclSystemError, "rank %d of %d is not joined: are all on this host? %s", rank,
             n_ranks, strerror(errno));
        close_sockets(c);
        delete c;
        return ncclSystemError;
    }
    *out = c;
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t c) {
    emu::stream_run_all();
    return ncclCommAbort(c);
}

ncclResult_t ncclCommAbort(ncclComm_t c) {
    close_sockets(c);
    delete c;
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *error) {
    *error = c->error;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result) {
    switch (result) {
    case ncclSuccess: return "no error";
    case ncclSystemError: return "a call of the system failed";
    case ncclRemoteError: return "another process has ended or cannot be reached";
    case ncclInvalidArgument: return "an argument is wrong";
    case ncclInvalidUsage: return "a call at the wrong place";
    default: return "another error of NCCL's";
    }
}
const char *ncclGetLastError(ncclComm_t) { return last_error; }

/* ---- collectives ---- */

ncclResult_t ncclAllReduce(const void *send, void *recv, size_t count, ncclDataType_t type,
                           ncclRedOp_t, ncclComm_t c, cudaStream_t stream) {
    return submit({c, ALL_REDUCE, send, recv, count, type, 0, {}}, stream);
}
ncclResult_t ncclReduceScatter(const void *send, void *recv, size_t count, ncclDataType_t type,
                               ncclRedOp_t, ncclComm_t c, cudaStream_t stream) {
    return submit({c, REDUCE_SCATTER, send, recv, count, type, 0, {}}, stream);
}
ncclResult_t ncclAllGather(const void *send, void *recv, size_t count, ncclDataType_t type,
                           ncclComm_t c, cudaStream_t stream) {
    return submit({c, ALL_GATHER, send, recv, count, type, 0, {}}, stream);
}
ncclResult_t ncclBroadcast(const void *send, void *recv, size_t count, ncclDataType_t type,
                           int root, ncclComm_t c, cudaStream_t stream) {
    return submit({c, BROADCAST, send, recv, count, type, root, {}}, stream);
}
} // extern "C"

/* kernels/cuda/nccl.cu opens the library; here it is linked in. PUCK_EMU_NO_NCCL: there is none. */
bool nccl_load(Nccl *nccl, char *why, size_t size) {
    if (getenv("PUCK_EMU_NO_NCCL")) {
        snprintf(why, size, "PUCK_EMU_NO_NCCL is set");
        return false;
    }
#define NCCL_TAKE(name) nccl->name = nccl##name;
    NCCL_FUNCTIONS(NCCL_TAKE)
#undef NCCL_TAKE
    return true;
}

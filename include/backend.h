/* The device contract: what a back end (cpu, cuda, emu) gives the host, and what it gets from it.
 *
 * cpu is linked into puck. The others are shared objects named libpuck_NAME.so with one exported
 * symbol, `puck_plugin`, opened at run time by host/core/plugin.c. A plugin calls the host only
 * through HostServices. Nothing here names a CUDA type. */
#pragma once
#include "tensor.h"

/* Raised by every change of this file or of ops.h. A plugin with another number is refused. */
enum { PUCK_ABI = 10 };

/* Callbacks from the back end into the host. The struct lives as long as the call of open: a back
 * end keeps a copy. Collectives here work on host memory, over all ranks, in rank order (so the sum
 * has the same bits on every rank); with one rank they return at once. */
typedef struct HostServices {
    int rank, n_ranks, local_rank;
    int n_threads; /* for back ends that run on host threads */
    void (*log)(int level, const char *text);
    void (*fatal)(const char *text); /* does not return */
    void (*all_reduce)(void *data, int64_t count, DType dtype);
    /* recv gets this rank's count elements of the sum of everyone's n_ranks * count */
    void (*reduce_scatter)(void *recv, const void *send, int64_t count, DType dtype);
    void (*all_gather)(void *recv, const void *send, int64_t count, DType dtype);
    void (*broadcast)(void *data, int64_t bytes, int root);
} HostServices;

/* Everything a memory plan or a choice of kernel may depend on. Fields that are not known are 0. */
typedef struct DeviceProperties {
    char name[128];
    int64_t memory_bytes;
    int64_t memory_free; /* once the device is open */
    int64_t memory_own;  /* that a run takes of it beside what `alloc` gives, from opening it on */
    int n_units;               /* CPU threads in use, or streaming multiprocessors */
    int compute_capability;    /* 90 for 9.0; 0 on a CPU */
    int64_t shared_bytes;      /* opt-in shared memory per block */
    double peak_flops;         /* per second, in `compute`'s dtype */
    double copy_bytes_per_sec; /* read + written */
    uint64_t card; /* which of all cards it is; 0: something that ranks may share */
} DeviceProperties;

/* What a plan that counts memory_own may need: what is free, and what of memory_own opening has
 * taken already. That looks like other programs' memory, so all that is taken counts as it, up to
 * memory_own: exact on a device that is otherwise empty; beside others a plan can pass that leaves
 * no room for what the device takes later, but none is refused that would fit. */
static inline int64_t device_room(const DeviceProperties *p) {
    return p->memory_free + i64_min(p->memory_bytes - p->memory_free, p->memory_own);
}

typedef struct Stream Stream; /* ordered queue of work; NULL is the back end's default stream */
typedef struct Event Event;
typedef struct Graph Graph; /* a captured sequence of operations */

typedef enum CopyKind { COPY_TO_DEVICE, COPY_TO_HOST, COPY_ON_DEVICE } CopyKind;

struct Ops;
typedef struct Backend {
    const char *name; /* "cpu", "cuda", "emu" */
    DeviceProperties properties;
    DType compute; /* dtype of activations and of the weights that products read: "act" in ops.h */
    DType master;  /* of master weights, gradients, moments, statistics: "f32" in ops.h; f64 in
                      the double build of the cpu back end */
    bool captures; /* capture_begin .. graph_replay work; otherwise every step runs eagerly */
    bool host_memory; /* device pointers are host pointers */
    const struct Ops *ops;
    void *state; /* the back end's own */

    /* NULL if there is not that much. Fresh memory is zero. */
    void *(*alloc)(struct Backend *, int64_t bytes);
    void (*free)(struct Backend *, void *);
    void *(*alloc_pinned)(struct Backend *, int64_t bytes);
    void (*free_pinned)(struct Backend *, void *);
    void (*copy)(struct Backend *, void *to, const void *from, int64_t bytes, CopyKind, Stream *);
    void (*fill)(struct Backend *, void *to, int byte, int64_t bytes, Stream *);

    Stream *(*stream_create)(struct Backend *);
    void (*stream_destroy)(struct Backend *, Stream *);
    /* Later work waits for the event. In a capture, one that was recorded outside it is waited for
     * by every replay, as it was recorded last before that. */
    void (*stream_wait)(struct Backend *, Stream *, Event *);
    void (*stream_finish)(struct Backend *, Stream *);        /* the host waits for the stream */
    Event *(*event_create)(struct Backend *);
    void (*event_destroy)(struct Backend *, Event *);
    void (*event_record)(struct Backend *, Event *, Stream *);
    void (*event_finish)(struct Backend *, Event *); /* the host waits for the event */

    /* Between begin and end, operations on the stream are recorded instead of run. */
    void (*capture_begin)(struct Backend *, Stream *);
    Graph *(*capture_end)(struct Backend *, Stream *);
    void (*graph_replay)(struct Backend *, Graph *, Stream *);
    void (*graph_destroy)(struct Backend *, Graph *);

    /* Over all ranks, on device tensors, summed in an order that does not depend on timing. The
     * rank's own part of the larger tensor may be the smaller one. */
    void (*all_reduce)(struct Backend *, Tensor data, Stream *);
    void (*reduce_scatter)(struct Backend *, Tensor recv, Tensor send, Stream *);
    void (*all_gather)(struct Backend *, Tensor recv, Tensor send, Stream *);
    void (*broadcast)(struct Backend *, Tensor data, int root, Stream *);

    /* Choices that the back end made by timing, such as the algorithms of matrix products, as text
     * that is kept with the run: with the same choices two runs have the same bits. `choices` may
     * be called any time, its text is valid until the next call; `choose` takes such a text, but
     * for what was chosen for another device or library. Of several ranks only rank 0 times, and
     * none after `choose` with `last`: the host hands rank 0's choices to all, and what these lack
     * is the library's first. NULL where nothing is chosen so. */
    const char *(*choices)(struct Backend *);
    void (*choose)(struct Backend *, const char *text, bool last);

    void (*close)(struct Backend *);
} Backend;

/* The one symbol of a plugin. `abi` comes first and never moves. */
typedef struct Plugin {
    int abi;          /* PUCK_ABI of the headers it was built with */
    const char *name; /* "cuda" */
    /* Opens device number `device`, to compute in `compute`: DTYPE_F32, DTYPE_BF16, or DTYPE_COUNT
     * for what suits the device best. False if no device answers or it cannot compute so; the Error
     * says why (no driver, no card). With device -1 none is touched: the back end is for memory
     * plans alone, of a card that need not be there, and only compute, master, properties,
     * ops->scratch and close may be used. */
    bool (*open)(Backend *out, const HostServices *host, int device, DType compute, Error *e);
} Plugin;

#ifdef __cplusplus
extern "C" {
#endif

/* The back end that is always there, kernels/cpu/backend.c. Its kernels are built for the lowest
 * processor that puck runs on (base) and, on x86-64, for 512-bit vectors (wide) and for matrix
 * tiles beside them (tiles, Intel's AMX). backend_open_cpu takes the best that the processor has,
 * backend_cpu_best; the f64 twin is built for checks only. */
typedef enum CpuBuild { CPU_BASE, CPU_WIDE, CPU_TILES } CpuBuild;
CpuBuild backend_cpu_best(void);
bool backend_open_cpu(Backend *out, const HostServices *host, Error *e);
bool backend_open_cpu_base(Backend *out, const HostServices *host, Error *e);
bool backend_open_cpu_wide(Backend *out, const HostServices *host, Error *e);
bool backend_open_cpu_tiles(Backend *out, const HostServices *host, Error *e);
bool backend_open_cpu_f64(Backend *out, const HostServices *host, Error *e);
#ifdef __cplusplus
}
#endif

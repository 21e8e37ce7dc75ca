/* NCCL as a table of functions, so that the library is opened only where there are ranks, and so
 * that the emulator can give its own. */
#pragma once
#include <stddef.h>
#if __has_include(<nccl.h>)
#include <nccl.h>
#else /* it is no part of the toolkit: the emulator's header has all that is used here */
#include "../emu/include/nccl.h"
#endif

#define NCCL_FUNCTIONS(each)                                                                       \
    each(GetUniqueId) each(CommInitRank) each(CommDestroy) each(CommAbort)                         \
        each(CommGetAsyncError) each(GetErrorString) each(GetLastError) each(AllReduce)            \
            each(ReduceScatter) each(AllGather) each(Broadcast)

typedef struct Nccl {
#define NCCL_MEMBER(name) decltype(&nccl##name) name;
    NCCL_FUNCTIONS(NCCL_MEMBER)
#undef NCCL_MEMBER
} Nccl;

/* False with the reason (one clause) if there is no library, or a function is missing in it. */
bool nccl_load(Nccl *nccl, char *why, size_t size);

/* Ranks: several processes that train one model, started by mpirun or srun.
 *
 * host/dist/dist.c finds the launcher in the environment and opens libpuck_mpi.so (host/dist/mpi.c)
 * under one with more than one rank. Otherwise there is one rank, no MPI is loaded, and every call
 * here returns at once. All collectives must be called by every rank, in the same order, from the
 * main thread; sums are in rank order, so they have the same bits on every rank. */
#pragma once
#include "backend.h"

/* Whether a launcher has started this process as one of several. */
bool dist_launched(void);
/* For an Error that all launched processes find before they are connected: empties it on all but
 * rank 0. Returns false. */
bool dist_refuse(Error *e);
/* Connects the ranks, if there are any, and hands their collectives to the back ends. Misuse: there
 * are several, but this build has no libpuck_mpi.so, or srun was not told to start MPI ranks. */
bool dist_start(Error *e);
/* Disconnects them, before the process ends with `code`. A failure that the others do not know of
 * (it did not come out of dist_agree) ends them too, at once. Returns code. */
int dist_finish(int code);

int dist_rank(void);  /* of this process; rank 0 writes and prints */
int dist_ranks(void); /* 1 without a launcher */

/* Ends a part of the work that can fail: true if it was `ok` on all ranks. Else false on all, with
 * the Error of the first that failed, which it names; it is empty on all but rank 0, so that it is
 * printed once. */
bool dist_agree(bool ok, Error *e);
/* Fails on all ranks, naming those whose value is not rank 0's: "WHAT differ from rank 0's". */
bool dist_same(uint64_t value, const char *what, const char *hint, Error *e);
/* Fails on all ranks if two have the same card (DeviceProperties.card) and it is not 0, naming
 * them. */
bool dist_own_card(uint64_t card, Error *e);
/* Around a training step. It takes about as long every time, so a rank that does not come out is
 * stuck, and the job ends. Disks and terminals may make it wait outside: the step goes on after
 * dist_leave_step(false). */
void dist_enter_step(void);
void dist_leave_step(bool ends);
/* Where a device writes how far it has come: n numbers in host memory, which grow alike on all
 * ranks. Of ranks that are stuck in one step, it is the one with the least sum that is. NULL: no
 * more. */
void dist_watch_device(const int32_t *marks, int n);
/* For a signal's handler, see host/dist/watch.h. */
void dist_hurry(void);
/* Largest value of all ranks. */
int dist_max(int value);
double dist_sum(double value);
/* From rank `root` to all. */
void dist_broadcast(void *data, int64_t bytes, int root);
/* recv gets `bytes` from every rank, in rank order. */
void dist_all_gather(void *recv, const void *send, int64_t bytes);

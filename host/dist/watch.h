/* A thread in every rank that ends the job when another rank is dead, stopped, out of reach or
 * stuck, and says which one and in which collective. */
#pragma once
#include "transport.h"

/* Collective. Returns the transport to use from now on: the same, seen by the watching thread. */
const Transport *watch_start(const Transport *transport, const TransportRank *self);
/* Collective: nobody is watched when it returns. */
void watch_stop(void);
/* See dist_enter_step. */
void watch_enter_step(void);
void watch_leave_step(bool ends);
/* See dist_watch_device. */
void watch_device(const int32_t *marks, int n);
/* For a signal's handler: a launcher that has lost a rank sends SIGTERM to the others, and kills
 * them some seconds later. Until then they say which. */
void watch_hurry(void);

/* What `puck info --ranks` adds, private to info.c and info_ranks.c. */
#pragma once
#include "config.h"
#include "model.h"
#include <jansson.h>

/* With --ranks: the options of one rank alone, its part of the batch. Misuse: ranks that do not
 * divide the batch, nodes that do not divide the ranks, --nodes without --ranks. */
bool info_ranks_options(const Options *o, Options *rank, Error *e);
/* A plan for a GPU, whether there is one here or not: CUDA's, else the emulator's, which is the
 * same, else the CPU's in f32. */
bool info_ranks_plan(Backend *out, const Options *o, int64_t device_bytes, Error *e);
/* Adds what is predicted for --ranks, and for 1 to 512 ranks under "scaling", of a model planned
 * for one rank; then the inputs of the prediction. */
void info_ranks_add(json_t *facts, const Options *o, const Model *m);
/* The table "scaling". */
void info_ranks_print(const json_t *facts);

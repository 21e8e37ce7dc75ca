/* Scalars for TensorBoard: an append-only file of checksummed protobuf records. */
#pragma once
#include "base.h"

typedef struct TfEvents TfEvents;

/* Makes FOLDER/events.out.tfevents.TIME.HOST.PID.N, a new file for every call. NULL with an Error
 * if it cannot. */
TfEvents *tfevents_open(const char *folder, Error *e);
/* Appends one value, whole or not at all; it is in the file when this returns. `wall_time` is in
 * seconds since 1970. */
bool tfevents_scalar(TfEvents *t, int64_t step, const char *tag, double value, double wall_time,
                     Error *e);
/* `t` may be NULL. */
void tfevents_close(TfEvents *t);

/* Learning rate as a pure function of the step. */
#pragma once
#include "base.h"

typedef enum ScheduleKind {
    SCHEDULE_COSINE,
    SCHEDULE_LINEAR,
    SCHEDULE_CONSTANT,
    SCHEDULE_WSD
} ScheduleKind;

typedef struct Schedule {
    ScheduleKind kind;
    double peak, minimum;
    int64_t warmup, steps;
    double decay_fraction; /* wsd: the last part of the steps, which decays linearly */
} Schedule;

/* Rate of step `step`, counted from 0. Warm-up: peak * (step+1)/(warmup+1), as nanoGPT has it; then
 * the decay reaches `minimum` at `steps`. */
double schedule_lr(const Schedule *s, int64_t step);

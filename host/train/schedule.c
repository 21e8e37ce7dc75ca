/* Learning rate schedules. Cosine with warm-up as nanoGPT computes it, so its recipes carry
 * over. */
#include "schedule.h"
#include <math.h>

double schedule_lr(const Schedule *s, int64_t step) {
    const double peak = s->peak, fall = s->peak - s->minimum;
    if (step < s->warmup) return peak * (double)(step + 1) / (double)(s->warmup + 1);
    if (s->kind == SCHEDULE_CONSTANT) return peak;
    if (step >= s->steps) return s->minimum;

    /* The decay runs over [start, steps); progress is in [0, 1). */
    double start = (double)s->warmup;
    if (s->kind == SCHEDULE_WSD) start = fmax(start, (double)s->steps * (1.0 - s->decay_fraction));
    if ((double)step < start) return peak;
    const double progress = ((double)step - start) / ((double)s->steps - start);
    if (s->kind == SCHEDULE_COSINE)
        return s->minimum + fall * 0.5 * (1.0 + cos(3.141592653589793 * progress));
    return peak - fall * progress;
}

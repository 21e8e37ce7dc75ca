/* Curves of runs: read from metrics.jsonl, drawn as SVG. */
#include "plot.h"
#include "svg.h"
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Points of a curve that is drawn; of a longer one, means of neighbours. */
enum { POINTS_MAX = 800 };

typedef struct Curve {
    double *x, *y; /* NaN where a value was not finite */
    int64_t n, room;
} Curve;

typedef enum CurveKind { CURVE_TRAIN, CURVE_VAL, CURVE_RATE, CURVE_KINDS } CurveKind;

/* Of a line that has this field, the curve's next point. */
static const char *const curve_fields[CURVE_KINDS] = {"train_loss", "val_loss", "lr"};

typedef struct RunCurves {
    Curve curve[CURVE_KINDS];
} RunCurves;

static void curve_add(Curve *c, double x, double y) {
    if (c->n == c->room) {
        c->room = i64_max(256, 2 * c->room);
        c->x = realloc(c->x, (size_t)c->room * sizeof *c->x);
        c->y = realloc(c->y, (size_t)c->room * sizeof *c->y);
        CHECK(c->x && c->y, "no memory for %ld points", (long)c->room);
    }
    c->x[c->n] = x;
    c->y[c->n++] = y;
}

/* Means of neighbours, so that a long run stays a small file; NaN where none of them is finite. */
static void curve_shorten(Curve *c) {
    const int64_t group = i64_div_up(c->n, POINTS_MAX), n = c->n;
    c->n = 0;
    for (int64_t first = 0; first < n; first += group) {
        const int64_t size = i64_min(group, n - first);
        double x = 0, y = 0;
        int64_t finite = 0;
        for (int64_t i = first; i < first + size; i++) {
            x += c->x[i];
            if (!isfinite(c->y[i])) continue;
            y += c->y[i];
            finite++;
        }
        c->x[c->n] = x / (double)size;
        c->y[c->n++] = finite ? y / (double)finite : NAN;
    }
}

static bool damaged(const char *path, int64_t line, const char *what, Error *e) {
    char place[1300];
    snprintf(place, sizeof place, "%s:%ld", path, (long)line);
    return error_set(e, place, "Delete the line, or name another run", "the line %s", what);
}

static bool read_line(RunCurves *r, PlotRun *found, json_t *line, bool over_seconds,
                      const char *path, int64_t number, Error *e) {
    const json_t *step = json_object_get(line, "step");
    const json_t *sec = json_object_get(line, "elapsed_sec");
    if (!json_is_integer(step)) return damaged(path, number, "has no step", e);
    if (over_seconds && !json_is_number(sec)) return damaged(path, number, "has no time", e);
    found->steps = json_integer_value(step);
    const double x = json_number_value(over_seconds ? sec : step);
    for (int k = 0; k < CURVE_KINDS; k++) {
        const json_t *field = json_object_get(line, curve_fields[k]);
        const double value = json_is_number(field) ? json_number_value(field) : NAN;
        if (!field) continue;
        curve_add(&r->curve[k], x, value);
        if (k == CURVE_TRAIN && isfinite(value)) found->train_loss = value;
        if (k != CURVE_VAL || !isfinite(value) || value >= found->best_loss) continue;
        found->best_loss = value;
        found->best_step = found->steps;
    }
    return true;
}

static bool read_lines(RunCurves *r, PlotRun *found, const char *text, int64_t bytes,
                       bool over_seconds, const char *path, Error *e) {
    int64_t number = 0;
    for (int64_t at = 0; at < bytes; number++) {
        const char *end = memchr(text + at, '\n', (size_t)(bytes - at));
        if (!end) break; /* a crash cut it short */
        json_t *line = json_loadb(text + at, (size_t)(end - text - at), 0, NULL);
        const bool ok = json_is_object(line)
                            ? read_line(r, found, line, over_seconds, path, number + 1, e)
                            : damaged(path, number + 1, "is no JSON object", e);
        json_decref(line);
        if (!ok) return false;
        at = end + 1 - text;
    }
    return true;
}

static bool read_run(RunCurves *r, PlotRun *found, const char *run, bool over_seconds, Error *e) {
    char path[1200];
    int64_t bytes;
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    *found = (PlotRun){.name = run, .train_loss = NAN, .best_loss = INFINITY};
    char *text = file_read(path, &bytes, e);
    if (!text) {
        snprintf(e->hint, sizeof e->hint, "Name the folder of a run of `puck train`");
        return false;
    }
    const bool ok = read_lines(r, found, text, bytes, over_seconds, path, e);
    free(text);
    if (!ok) return false;
    if (!isfinite(found->best_loss)) found->best_loss = NAN;
    if (isfinite(found->train_loss) || isfinite(found->best_loss)) return true;
    return error_set(e, path, "Train it for some steps; --log-every says how often it writes",
                     "the run has no loss yet");
}

/* ---- drawing ---- */

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The range of the losses. A model that knows nothing yet has a loss that would flatten all that
 * follows: where the highest twentieth is far above the rest, it runs out of the frame. */
static void fit_losses(SvgAxis *a, const RunCurves *runs, int n) {
    Curve all = {0};
    for (int i = 0; i < n; i++)
        for (int k = 0; k <= CURVE_VAL; k++)
            for (int64_t j = 0; j < runs[i].curve[k].n; j++)
                if (isfinite(runs[i].curve[k].y[j])) curve_add(&all, 0, runs[i].curve[k].y[j]);
    qsort(all.y, (size_t)all.n, sizeof *all.y, by_value);
    const double low = all.y[0], most = all.y[all.n - 1], usual = all.y[all.n - 1 - all.n / 20];
    const double high = fmin(most, low + 1.5 * (usual - low));
    const double room = high > low ? 0.05 * (high - low) : 0.5;
    a->low = low - room;
    a->high = high + room;
    free(all.x);
    free(all.y);
}

/* The ranges of steps or seconds, from 0, and of learning rates. */
static void fit_others(SvgAxis *x, SvgAxis *rate, const RunCurves *runs, int n) {
    for (int i = 0; i < n; i++)
        for (int k = 0; k < CURVE_KINDS; k++) {
            const Curve *c = &runs[i].curve[k];
            for (int64_t j = 0; j < c->n; j++) {
                x->high = fmax(x->high, c->x[j]);
                if (k == CURVE_RATE) rate->high = fmax(rate->high, c->y[j] * 1.08);
            }
        }
    if (x->high <= 0) x->high = 1;
    if (rate->high <= 0) rate->high = 1;
}

static void draw_run(FILE *out, const SvgFrame *losses, const SvgFrame *rates, const RunCurves *r,
                     const char *x_name, int colour) {
    const Curve *train = &r->curve[CURVE_TRAIN], *val = &r->curve[CURVE_VAL];
    const Curve *rate = &r->curve[CURVE_RATE];
    svg_line(out, losses, train->x, train->y, train->n, colour, SVG_THIN);
    svg_line(out, losses, val->x, val->y, val->n, colour, SVG_BOLD);
    for (int64_t j = 0; j < val->n; j++) {
        char hover[96];
        snprintf(hover, sizeof hover, "%.4f at %.10g %s", val->y[j], val->x[j], x_name);
        if (isfinite(val->y[j]) && val->y[j] <= losses->y.high)
            svg_point(out, losses, val->x[j], val->y[j], colour, hover);
    }
    svg_line(out, rates, rate->x, rate->y, rate->n, colour, SVG_BOLD);
}

/* The last part of a run's path; the whole where that is none. */
static const char *short_name(const char *run) {
    const char *slash = strrchr(run, '/');
    return slash && slash[1] ? slash + 1 : run;
}

/* What a run's loss is a mean over. */
static const char *unit_of(const char *run) {
    Settings s;
    Error ignored;
    options_defaults(&s);
    if (!checkpoint_read_options(run, &s, &ignored)) return "token";
    return strcmp(s.options.task, "classify") == 0    ? "text"
           : strcmp(s.options.model, "ngram") == 0    ? "n-gram"
           : strcmp(s.options.model, "skipgram") == 0 ? "word"
                                                      : "token";
}

static void label_losses(char *label, size_t size, const PlotRun *found, int n) {
    const char *unit = unit_of(found[0].name);
    bool same = true;
    for (int i = 1; i < n; i++) same = same && strcmp(unit, unit_of(found[i].name)) == 0;
    snprintf(label, size, same ? "loss, nats per %s" : "loss, nats", unit);
}

static void draw(FILE *out, const RunCurves *runs, const PlotRun *found, int n, bool over_seconds) {
    enum { WIDTH = 820, LEGEND = 44, ROW = 20, LOSSES = 330, GAP = 36, RATES = 90 };
    const char *x_name = over_seconds ? "seconds" : "steps";
    const double top = LEGEND + ROW * (n + 1);
    SvgFrame losses = {.left = 84, .right = WIDTH - 28, .top = top, .bottom = top + LOSSES};
    char label[64];
    label_losses(label, sizeof label, found, n);
    losses.y.label = label;
    fit_losses(&losses.y, runs, n);
    SvgFrame rates = losses;
    rates.top = losses.bottom + GAP;
    rates.bottom = rates.top + RATES;
    rates.x.label = over_seconds ? "seconds of training" : "steps";
    rates.y = (SvgAxis){.label = "learning rate"};
    fit_others(&rates.x, &rates.y, runs, n);
    losses.x.high = rates.x.high;

    svg_begin(out, WIDTH, (int)rates.bottom + 52, n > 1 ? "Losses of the runs" : "Loss of the run");
    for (int i = 0; i < n; i++) {
        svg_legend(out, losses.left, LEGEND + ROW * i, i, SVG_BOLD, short_name(found[i].name));
        if (isnan(found[i].best_loss)) continue;
        char best[96];
        const int length = snprintf(best, sizeof best, "lowest validation loss %.4f, step %ld",
                                    found[i].best_loss, (long)found[i].best_step);
        svg_text(out, losses.right, LEGEND + ROW * i, SVG_END, i, best, length);
    }
    svg_legend(out, losses.left, LEGEND + ROW * n, 0, SVG_THIN,
               "training, each logged step's batch");
    svg_legend(out, losses.left + 300, LEGEND + ROW * n, 0, SVG_BOLD,
               "validation, estimated on the way");
    svg_axes(out, &losses);
    svg_axes(out, &rates);
    for (int i = 0; i < n; i++) draw_run(out, &losses, &rates, &runs[i], x_name, i);
    svg_end(out);
}

bool plot_losses(const char *const *names, int n, bool over_seconds, FILE *out, PlotRun *found,
                 Error *e) {
    RunCurves runs[PLOT_RUNS_MAX] = {0};
    CHECK(n > 0 && n <= PLOT_RUNS_MAX, "%d runs", n);
    bool ok = true;
    for (int i = 0; ok && i < n; i++) ok = read_run(&runs[i], &found[i], names[i], over_seconds, e);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < CURVE_KINDS; k++) curve_shorten(&runs[i].curve[k]);
    if (ok) draw(out, runs, found, n, over_seconds);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < CURVE_KINDS; k++) {
            free(runs[i].curve[k].x);
            free(runs[i].curve[k].y);
        }
    return ok;
}

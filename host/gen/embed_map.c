/* A map of words: vectors brought to two dimensions, drawn with labels that do not overlap. */
#include "embed.h"
#include "svg.h"
#include "utf8.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE_WIDTH = 1000, PAGE_HEIGHT = 760, PCA_STEPS = 300 };

/* ---- principal components ---- */

static double *new_numbers(int64_t n) {
    double *numbers = calloc((size_t)n, sizeof *numbers);
    CHECK(numbers, "no memory for %ld numbers", (long)n);
    return numbers;
}

/* place[i] = x_i . v;  next = sum_i place[i] x_i */
static void project(const double *x, int64_t n, int64_t C, const double *v, double *place,
                    double *next) {
    memset(next, 0, (size_t)C * sizeof *next);
    for (int64_t i = 0; i < n; i++) {
        place[i] = 0;
        for (int64_t c = 0; c < C; c++) place[i] += x[i * C + c] * v[c];
        for (int64_t c = 0; c < C; c++) next[c] += place[i] * x[i * C + c];
    }
}

/* The direction in which centred rows differ most, by power iteration; places of the rows on it,
 * which are then taken out of x. Returns its share of `total`, the sum of squares at first. */
static double take_component(double *x, int64_t n, int64_t C, double total, double *place) {
    double *v = new_numbers(2 * C), *next = v + C, found = 0;
    for (int64_t c = 0; c < C; c++) v[c] = 1 + (double)(c * 7919 % 101) / 101;
    for (int step = 0; step < PCA_STEPS; step++) {
        double length = 0;
        for (int64_t c = 0; c < C; c++) length += v[c] * v[c];
        for (int64_t c = 0; c < C; c++) v[c] /= length > 0 ? sqrt(length) : 1;
        project(x, n, C, v, place, next);
        if (step < PCA_STEPS - 1) memcpy(v, next, (size_t)C * sizeof *v);
    }
    for (int64_t i = 0; i < n; i++) {
        found += place[i] * place[i];
        for (int64_t c = 0; c < C; c++) x[i * C + c] -= place[i] * v[c];
    }
    free(v);
    return total > 0 ? found / total : 0;
}

/* Places of the words on the two components; `share`: of the variance. */
static void place_by_pca(const Embedding *m, const int32_t *ids, int64_t n, double *x, double *y,
                         double share[2]) {
    const int64_t C = m->width;
    double *rows = new_numbers(n * C), total = 0;
    for (int64_t c = 0; c < C; c++) {
        double mean = 0;
        for (int64_t i = 0; i < n; i++) mean += m->unit[ids[i] * C + c] / (double)n;
        for (int64_t i = 0; i < n; i++) {
            rows[i * C + c] = m->unit[ids[i] * C + c] - mean;
            total += rows[i * C + c] * rows[i * C + c];
        }
    }
    share[0] = take_component(rows, n, C, total, x);
    share[1] = take_component(rows, n, C, total, y);
    free(rows);
}

/* ---- t-SNE (van der Maaten and Hinton 2008), exact ---- */

enum { TSNE_STEPS = 600, TSNE_EARLY = 150 };

/* Probabilities of row i's neighbours, with the width at which they have the perplexity asked. */
static void neighbours_of(const double *distance, int64_t n, int64_t i, double perplexity,
                          double *p) {
    double beta = 1, low = 0, high = DBL_MAX;
    for (int step = 0; step < 60; step++) {
        double sum = 0, weighted = 0;
        for (int64_t k = 0; k < n; k++) {
            p[k] = k == i ? 0 : exp(-beta * distance[k]);
            sum += p[k];
            weighted += p[k] * distance[k];
        }
        sum = sum > 0 ? sum : 1e-300;
        for (int64_t k = 0; k < n; k++) p[k] /= sum;
        const double entropy = log(sum) + beta * weighted / sum;
        if (entropy > log(perplexity)) low = beta;
        else high = beta;
        beta = high == DBL_MAX ? 2 * beta : (low + high) / 2;
    }
}

static double *make_affinities(const Embedding *m, const int32_t *ids, int64_t n,
                               double perplexity) {
    double *p = new_numbers(n * n), *distance = new_numbers(n);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < n; k++) /* of unit vectors, squared; above 0 by rounding alone */
            distance[k] = fmax(0, 2 - 2 * embed_cosine(m, ids[i], ids[k]));
        neighbours_of(distance, n, i, perplexity, p + i * n);
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < i; k++)
            p[i * n + k] = p[k * n + i] = (p[i * n + k] + p[k * n + i]) / (2 * (double)n);
    free(distance);
    return p;
}

/* The gradient of the Kullback-Leibler divergence; q holds n * n numbers of work. */
static void add_forces(const double *p, double exaggeration, const double *at, int64_t n, double *q,
                       double *grad) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < i; k++) {
            const double dx = at[2 * i] - at[2 * k], dy = at[2 * i + 1] - at[2 * k + 1];
            q[i * n + k] = 1 / (1 + dx * dx + dy * dy);
            sum += 2 * q[i * n + k];
        }
    memset(grad, 0, (size_t)(2 * n) * sizeof *grad);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < i; k++) {
            const double w = q[i * n + k];
            const double force = 4 * (exaggeration * p[i * n + k] - w / sum) * w;
            for (int d = 0; d < 2; d++) {
                const double part = force * (at[2 * i + d] - at[2 * k + d]);
                grad[2 * i + d] += part;
                grad[2 * k + d] -= part;
            }
        }
}

static void place_by_tsne(const Embedding *m, const int32_t *ids, int64_t n, double perplexity,
                          double *x, double *y) {
    double share[2], *p = make_affinities(m, ids, n, perplexity), *q = new_numbers(n * n);
    double *at = new_numbers(8 * n), *grad = at + 2 * n, *speed = at + 4 * n, *gain = at + 6 * n;
    place_by_pca(m, ids, n, x, y, share); /* a start that is always the same */
    for (int64_t i = 0; i < n; i++) {
        at[2 * i] = 1e-2 * x[i];
        at[2 * i + 1] = 1e-2 * y[i];
        gain[2 * i] = gain[2 * i + 1] = 1;
    }
    const double rate = fmax(10, (double)n / 12);
    for (int step = 0; step < TSNE_STEPS; step++) {
        const double momentum = step < TSNE_EARLY ? 0.5 : 0.8;
        add_forces(p, step < TSNE_EARLY ? 12 : 1, at, n, q, grad);
        for (int64_t i = 0; i < 2 * n; i++) {
            gain[i] = (grad[i] > 0) != (speed[i] > 0) ? gain[i] + 0.2 : fmax(0.01, gain[i] * 0.8);
            speed[i] = momentum * speed[i] - rate * gain[i] * grad[i];
            at[i] += speed[i];
        }
    }
    for (int64_t i = 0; i < n; i++) {
        x[i] = at[2 * i];
        y[i] = at[2 * i + 1];
    }
    free(p);
    free(q);
    free(at);
}

/* ---- the picture ---- */

typedef struct Box {
    double left, top, right, bottom;
} Box;

static bool overlaps(Box a, Box b) {
    return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

/* The first of the places around a dot where its label covers no other label and no dot. */
static bool find_place(const SvgFrame *f, Box *boxes, int64_t n_boxes, double x, double y,
                       double width, Box *place) {
    static const double towards[][2] = {{1, 0}, {-1, 0}, {0, -1}, {0, 1},
                                        {1, -1}, {-1, -1}, {1, 1}, {-1, 1}};
    for (int i = 0; i < COUNT_OF(towards); i++) {
        const double left = towards[i][0] > 0   ? x + 6
                            : towards[i][0] < 0 ? x - 6 - width
                                                : x - width / 2;
        const double top = y - 8 + 13 * towards[i][1];
        *place = (Box){left, top, left + width, top + 16};
        bool is_free = left > f->left && left + width < f->right + 10 && top > f->top &&
                       top + 16 < f->bottom;
        for (int64_t k = 0; is_free && k < n_boxes; k++) is_free = !overlaps(*place, boxes[k]);
        if (is_free) return true;
    }
    return false;
}

/* Writes a word beside its dot, and adds its box. False if there is no place. */
static bool draw_label(const SvgFrame *f, Box *boxes, int64_t n_boxes, double x, double y,
                       const char *word, FILE *out) {
    const size_t bytes = strlen(word);
    size_t characters = 0;
    for (size_t k = 0; k < bytes; k++) characters += utf8_starts(word[k]);
    Box at;
    if (!find_place(f, boxes, n_boxes, x, y, 7.9 * (double)characters + 2, &at)) return false;
    boxes[n_boxes] = at;
    const SvgAnchor anchor = at.left > x ? SVG_START : at.right < x ? SVG_END : SVG_MIDDLE;
    const double from = anchor == SVG_START ? at.left
                        : anchor == SVG_END ? at.right
                                            : (at.left + at.right) / 2;
    svg_text(out, from, at.top + 12, anchor, -1, word, (int64_t)bytes);
    return true;
}

/* An axis around the values, with room for labels. */
static SvgAxis axis_of(const double *value, int64_t n, const char *label, bool bare) {
    double low = value[0], high = value[0];
    for (int64_t i = 1; i < n; i++) {
        low = fmin(low, value[i]);
        high = fmax(high, value[i]);
    }
    const double room = high > low ? 0.06 * (high - low) : 1;
    return (SvgAxis){low - room, high + room, label, bare};
}

int64_t embed_draw_map(const Embedding *m, const int32_t *ids, int64_t n, const EmbedMap *map,
                       FILE *out) {
    double *x = new_numbers(2 * n), *y = x + n, share[2];
    char labels[2][96], title[256];
    if (map->tsne) {
        place_by_tsne(m, ids, n, map->perplexity, x, y);
        snprintf(labels[0], sizeof labels[0],
                 "t-SNE, perplexity %g: near is alike, far says little", map->perplexity);
        labels[1][0] = 0;
    } else {
        place_by_pca(m, ids, n, x, y, share);
        for (int k = 0; k < 2; k++)
            snprintf(labels[k], sizeof labels[k],
                     "%s principal component (%.0f %% of the variance)", k ? "second" : "first",
                     100 * share[k]);
    }
    const SvgFrame f = {70, 44, PAGE_WIDTH - 40, PAGE_HEIGHT - 60,
                        axis_of(x, n, labels[0], map->tsne),
                        axis_of(y, n, map->tsne ? NULL : labels[1], map->tsne)};
    snprintf(title, sizeof title, "%ld words of %s", (long)n, map->name);
    svg_begin(out, PAGE_WIDTH, PAGE_HEIGHT, title);
    svg_axes(out, &f);
    Box *boxes = calloc((size_t)(2 * n), sizeof *boxes);
    CHECK(boxes, "no memory for %ld labels", (long)n);
    int64_t n_boxes = n;
    for (int64_t i = 0; i < n; i++) {
        const double px = svg_x(&f, x[i]), py = svg_y(&f, y[i]);
        boxes[i] = (Box){px - 4, py - 4, px + 4, py + 4};
    }
    for (int64_t i = 0; map->arrows && i + 1 < n; i += 2)
        svg_arrow(out, &f, x[i], y[i], x[i + 1], y[i + 1], 1);
    for (int64_t i = 0; i < n; i++) {
        char *word = embed_word(m, ids[i]);
        svg_point(out, &f, x[i], y[i], 0, word);
        n_boxes += draw_label(&f, boxes, n_boxes, svg_x(&f, x[i]), svg_y(&f, y[i]), word, out);
        free(word);
    }
    svg_end(out);
    free(boxes);
    free(x);
    return n_boxes - n;
}

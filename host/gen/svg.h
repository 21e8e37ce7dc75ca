/* A small writer of SVG pictures: axes with ticks, lines, points, labels, a legend. Text, axes and
 * background follow the reader's light or dark page; a series has one of SVG_COLOURS, which read on
 * both. Lengths are pixels, y downwards; texts are UTF-8, and what is none becomes U+FFFD. */
#pragma once
#include "base.h"
#include <stdio.h>

enum { SVG_COLOURS = 8 };

typedef struct SvgAxis {
    double low, high;
    const char *label; /* with its unit; NULL: no label */
    bool bare;         /* without ticks: the numbers mean nothing, as in a map */
} SvgAxis;

/* A rectangle of the picture, and the values that its edges stand for. */
typedef struct SvgFrame {
    double left, top, right, bottom;
    SvgAxis x, y;
} SvgFrame;

/* SVG_THIN is for noisy values behind SVG_BOLD ones. */
typedef enum SvgStroke { SVG_THIN, SVG_BOLD } SvgStroke;
typedef enum SvgAnchor { SVG_START, SVG_MIDDLE, SVG_END } SvgAnchor;

void svg_begin(FILE *out, int width, int height, const char *title);
void svg_end(FILE *out);

/* Frame, grid, ticks at round numbers, and the labels of both axes. */
void svg_axes(FILE *out, const SvgFrame *f);
/* Where a value lies in the picture. An axis of one value has it in the middle. */
double svg_x(const SvgFrame *f, double x);
double svg_y(const SvgFrame *f, double y);

/* Joins n points. A NaN breaks the line; what lies outside the frame is cut off. */
void svg_line(FILE *out, const SvgFrame *f, const double *x, const double *y, int64_t n, int colour,
              SvgStroke stroke);
/* A line that ends a little before the second point, with a head there. */
void svg_arrow(FILE *out, const SvgFrame *f, double x0, double y0, double x1, double y1,
               int colour);
/* A dot, with a text that shows where the pointer rests on it, or NULL. */
void svg_point(FILE *out, const SvgFrame *f, double x, double y, int colour, const char *hover);
/* n bytes of text at a place of the picture. `colour` -1 is that of plain text. */
void svg_text(FILE *out, double x, double y, SvgAnchor anchor, int colour, const char *text,
              int64_t n);
/* One entry: a piece of line, then its name. */
void svg_legend(FILE *out, double x, double y, int colour, SvgStroke stroke, const char *name);

/* Text as XML and HTML want it: < > & " escaped, control characters and non-UTF-8 as U+FFFD. */
void svg_escape(FILE *out, const char *text, int64_t n);

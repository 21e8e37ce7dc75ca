#include "svg.h"
#include "show.h"
#include <math.h>
#include <string.h>

/* Light, then dark: the same hue, readable on white and on near-black. */
static const char *const colours[SVG_COLOURS][2] = {
    {"#1f77d0", "#58a6ff"}, {"#d9720b", "#f0a04b"}, {"#2a8a46", "#56d364"}, {"#c0392b", "#ff7b72"},
    {"#7d4fc4", "#bc8cff"}, {"#0f7f82", "#39c5cf"}, {"#b5467e", "#ff80bf"}, {"#6b6b00", "#d2c057"}};

static void write_colours(FILE *out, int theme) {
    for (int i = 0; i < SVG_COLOURS; i++)
        fprintf(out, ".f%d{fill:%s}.s%d{stroke:%s}", i, colours[i][theme], i, colours[i][theme]);
}

void svg_begin(FILE *out, int width, int height, const char *title) {
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
            "height=\"%d\">\n<style>\n"
            "text{font:13px system-ui,'DejaVu Sans',sans-serif}.title{font-weight:bold;"
            "font-size:15px}\n.page{fill:#ffffff}.text{fill:#424a53}"
            ".axis{stroke:#8c959f;fill:none}.grid{stroke:#8c959f;stroke-opacity:.3;fill:none}\n"
            ".thin{stroke-width:1.2;stroke-opacity:.6;fill:none}"
            ".bold{stroke-width:2.4;fill:none;stroke-linejoin:round}\n",
            width, height, width, height);
    write_colours(out, 0);
    fprintf(out, "\n@media(prefers-color-scheme:dark){.page{fill:#0d1117}.text{fill:#c9d1d9}\n");
    write_colours(out, 1);
    fprintf(out, "}\n</style>\n<rect width=\"%d\" height=\"%d\" class=\"page\"/>\n", width, height);
    fprintf(out, "<text x=\"16\" y=\"24\" class=\"text title\">");
    svg_escape(out, title, (int64_t)strlen(title));
    fprintf(out, "</text>\n");
}

void svg_end(FILE *out) { fprintf(out, "</svg>\n"); }

void svg_escape(FILE *out, const char *text, int64_t n) {
    Utf8Writer w = {.out = out};
    for (int64_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)text[i];
        const char *name = c == '<'   ? "&lt;"
                           : c == '>' ? "&gt;"
                           : c == '&' ? "&amp;"
                           : c == '"' ? "&quot;"
                                      : NULL;
        if (c < 0x20 && c != '\n' && c != '\t') name = "\xEF\xBF\xBD";
        if (!name) {
            show_byte(&w, c);
            continue;
        }
        show_finish(&w); /* half a character before it */
        fputs(name, out);
    }
    show_finish(&w);
}

static double place(const SvgAxis *a, double value, double from, double to) {
    const double share = a->high > a->low ? (value - a->low) / (a->high - a->low) : 0.5;
    return from + share * (to - from);
}

double svg_x(const SvgFrame *f, double x) { return place(&f->x, x, f->left, f->right); }
double svg_y(const SvgFrame *f, double y) { return place(&f->y, y, f->bottom, f->top); }

/* The round distance (1, 2 or 5 times a power of ten) that makes at most `most` ticks. */
static double tick_step(const SvgAxis *a, int most) {
    const double raw = (a->high - a->low) / most, power = pow(10, floor(log10(raw)));
    return power * (raw <= power ? 1 : raw <= 2 * power ? 2 : raw <= 5 * power ? 5 : 10);
}

static void write_path(FILE *out, const char *style, double x0, double y0, double x1, double y1) {
    fprintf(out, "<path class=\"%s\" d=\"M%.1f %.1fL%.1f %.1f\"/>\n", style, x0, y0, x1, y1);
}

/* Grid and numbers of one axis. */
static void write_ticks(FILE *out, const SvgFrame *f, bool is_x) {
    const SvgAxis *a = is_x ? &f->x : &f->y;
    if (a->bare || !(a->high > a->low)) return;
    const double length = is_x ? f->right - f->left : f->bottom - f->top;
    const double step = tick_step(a, (int)(length / (is_x ? 90 : 40)) + 1);
    const double first = ceil(a->low / step - 1e-9), last = floor(a->high / step + 1e-9);
    for (int i = 0; i <= last - first; i++) {
        char text[32];
        const double value = (first + i) * step + 0.0; /* no -0 */
        const int n = snprintf(text, sizeof text, "%.10g", value);
        if (is_x) {
            const double x = svg_x(f, value);
            write_path(out, "grid", x, f->top, x, f->bottom);
            svg_text(out, x, f->bottom + 18, SVG_MIDDLE, -1, text, n);
        } else {
            const double y = svg_y(f, value);
            write_path(out, "grid", f->left, y, f->right, y);
            svg_text(out, f->left - 7, y + 4, SVG_END, -1, text, n);
        }
    }
}

void svg_axes(FILE *out, const SvgFrame *f) {
    write_ticks(out, f, true);
    write_ticks(out, f, false);
    write_path(out, "axis", f->left, f->bottom, f->right, f->bottom);
    write_path(out, "axis", f->left, f->top, f->left, f->bottom);
    if (f->x.label)
        svg_text(out, (f->left + f->right) / 2, f->bottom + 38, SVG_MIDDLE, -1, f->x.label,
                 (int64_t)strlen(f->x.label));
    if (!f->y.label) return;
    const double y = (f->top + f->bottom) / 2;
    fprintf(out,
            "<text transform=\"translate(17 %.1f)rotate(-90)\" text-anchor=\"middle\" "
            "class=\"text\">",
            y);
    svg_escape(out, f->y.label, (int64_t)strlen(f->y.label));
    fprintf(out, "</text>\n");
}

void svg_line(FILE *out, const SvgFrame *f, const double *x, const double *y, int64_t n, int colour,
              SvgStroke stroke) {
    const double width = f->right - f->left, height = f->bottom - f->top;
    /* An inner svg cuts off what lies outside it. */
    fprintf(out,
            "<svg x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
            "viewBox=\"%.1f %.1f %.1f %.1f\"><path class=\"%s s%d\" d=\"",
            f->left, f->top, width, height, f->left, f->top, width, height,
            stroke == SVG_BOLD ? "bold" : "thin", colour % SVG_COLOURS);
    bool joined = false;
    for (int64_t i = 0; i < n; i++) {
        const bool is_point = isfinite(x[i]) && isfinite(y[i]);
        if (is_point)
            fprintf(out, "%c%.1f %.1f", joined ? 'L' : 'M', svg_x(f, x[i]), svg_y(f, y[i]));
        joined = is_point;
    }
    fprintf(out, "\"/></svg>\n");
}

void svg_arrow(FILE *out, const SvgFrame *f, double x0, double y0, double x1, double y1,
               int colour) {
    enum { GAP = 7, HEAD = 8, HALF = 4 };
    const double dx = svg_x(f, x1) - svg_x(f, x0), dy = svg_y(f, y1) - svg_y(f, y0);
    const double length = hypot(dx, dy);
    if (length < 2 * GAP) return; /* the dots touch */
    const double ux = dx / length, uy = dy / length;
    const double x = svg_x(f, x1) - GAP * ux, y = svg_y(f, y1) - GAP * uy;
    const double base_x = x - HEAD * ux, base_y = y - HEAD * uy;
    fprintf(out,
            "<path class=\"thin s%d\" d=\"M%.1f %.1fL%.1f %.1fM%.1f %.1fL%.1f %.1fL%.1f %.1f\"/>\n",
            colour % SVG_COLOURS, svg_x(f, x0) + GAP * ux, svg_y(f, y0) + GAP * uy, x, y,
            base_x - HALF * uy, base_y + HALF * ux, x, y, base_x + HALF * uy, base_y - HALF * ux);
}

void svg_point(FILE *out, const SvgFrame *f, double x, double y, int colour, const char *hover) {
    fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" class=\"f%d\">", svg_x(f, x),
            svg_y(f, y), colour % SVG_COLOURS);
    if (hover) {
        fprintf(out, "<title>");
        svg_escape(out, hover, (int64_t)strlen(hover));
        fprintf(out, "</title>");
    }
    fprintf(out, "</circle>\n");
}

void svg_text(FILE *out, double x, double y, SvgAnchor anchor, int colour, const char *text,
              int64_t n) {
    static const char *const anchors[] = {"start", "middle", "end"};
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"", x, y, anchors[anchor]);
    if (colour < 0)
        fprintf(out, "text\">");
    else
        fprintf(out, "f%d\">", colour % SVG_COLOURS);
    svg_escape(out, text, n);
    fprintf(out, "</text>\n");
}

void svg_legend(FILE *out, double x, double y, int colour, SvgStroke stroke, const char *name) {
    fprintf(out, "<path class=\"%s s%d\" d=\"M%.1f %.1fh22\"/>\n",
            stroke == SVG_BOLD ? "bold" : "thin", colour % SVG_COLOURS, x, y - 4);
    svg_text(out, x + 29, y, SVG_START, -1, name, (int64_t)strlen(name));
}

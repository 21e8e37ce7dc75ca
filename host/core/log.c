/* Log, progress line and the two error channels. */
#include "log.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of the process, as its standard error is. */
static LogLevel minimum_level = LOG_INFO, raised_level = LOG_DEBUG;
static bool progress_shown; /* a progress line without its newline is on the terminal */

void log_set_level(LogLevel level) { minimum_level = level; }
void log_raise_level(LogLevel level) { raised_level = level; }
static bool is_dropped(LogLevel level) { return level < minimum_level || level < raised_level; }

void log_write(LogLevel level, const char *format, ...) {
    if (is_dropped(level)) return;
    static const char *const prefix[] = {"debug: ", "", "warning: ", "error: "};
    log_progress_end();
    va_list args;
    va_start(args, format);
    fputs(prefix[level], stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

void log_progress(const char *format, ...) {
    if (is_dropped(LOG_INFO)) return;
    const bool terminal = isatty(STDERR_FILENO);
    va_list args;
    va_start(args, format);
    if (terminal) fputs("\r\033[K", stderr); /* back to column 0, erase the line */
    vfprintf(stderr, format, args);
    if (!terminal) fputc('\n', stderr);
    fflush(stderr);
    va_end(args);
    progress_shown = terminal;
}

void log_progress_end(void) {
    if (!progress_shown) return;
    fputc('\n', stderr);
    progress_shown = false;
}

static void fill_error(Error *e, int code, const char *place, const char *hint, const char *format,
                       va_list args) {
    e->code = code;
    vsnprintf(e->text, sizeof e->text, format, args);
    snprintf(e->place, sizeof e->place, "%s", place ? place : "");
    snprintf(e->hint, sizeof e->hint, "%s", hint ? hint : "");
}

bool error_set(Error *e, const char *place, const char *hint, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fill_error(e, EXIT_FAILED, place, hint, format, args);
    va_end(args);
    return false;
}

bool error_misuse(Error *e, const char *place, const char *hint, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fill_error(e, EXIT_MISUSE, place, hint, format, args);
    va_end(args);
    return false;
}

void error_print(const Error *e) {
    char line[sizeof *e];
    if (!e->text[0]) return;
    log_progress_end();
    const size_t length = strlen(e->hint);
    const bool ended = length == 0 || strchr(".?!", e->hint[length - 1]);
    snprintf(line, sizeof line, "%s%s%s%s%s%s%s", e->text, e->place[0] ? " (" : "", e->place,
             e->place[0] ? ")" : "", length ? ". " : "", e->hint, ended ? "" : ".");
    /* A name or what a file holds could break the line, or move a terminal's cursor. */
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127) *c = '?';
    fprintf(stderr, "puck: %s\n", line);
}

_Noreturn void check_failed(const char *file, int line, const char *expression, const char *format,
                            ...) {
    log_progress_end();
    va_list args;
    va_start(args, format);
    fprintf(stderr, "puck: check failed at %s:%d: %s: ", file, line, expression);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

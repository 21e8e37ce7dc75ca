/* Levelled log on stderr. Results go to stdout, everything else goes through here. */
#pragma once
#include "base.h"

typedef enum LogLevel { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR } LogLevel;

/* Messages below the level are dropped; --quiet sets WARNING, --verbose sets DEBUG. */
void log_set_level(LogLevel level);
/* Drops what is below this level whatever log_set_level says: for a process that is one of several
 * and not the one that speaks. */
void log_raise_level(LogLevel level);
void log_write(LogLevel level, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, __VA_ARGS__)

/* The progress line: redrawn in place on a terminal, a plain line otherwise. Any log_write ends
 * it. */
void log_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_progress_end(void);

/* time.c: seconds of a clock that only goes forward. */
double time_now(void);

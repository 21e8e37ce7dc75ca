/* What CHECK calls when it fails, for programs that are kernels alone. */
#pragma once
#include "base.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

extern "C" void check_failed(const char *file, int line, const char *expression, const char *format,
                             ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: %s: ", file, line, expression);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    abort();
}

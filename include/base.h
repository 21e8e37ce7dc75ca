/* The bottom of the tree: fixed-width types, the two error channels, small helpers.
 *
 * Two kinds of failure, never mixed (docs: README, "Errors"):
 *   - The user's mistakes and the world's (flag, file, disk, memory) return false with an Error:
 *     one sentence, the place, a remedy. main() prints it once and exits with its code.
 *   - A broken invariant of the program stops at CHECK, which is always compiled in. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* These headers are also read as C++, by the CUDA sources. */
#ifdef __cplusplus
#define NORETURN [[noreturn]]
extern "C" {
#else
#define NORETURN _Noreturn
#endif
/* Small functions that kernels use too. */
#ifdef __CUDACC__
#define HOST_DEVICE __host__ __device__
#else
#define HOST_DEVICE
#endif

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_MISUSE = 2, EXIT_PREEMPTED = 75 };

/* Filled by the function that found the fault; every caller on the way up just returns false. */
typedef struct Error {
    int code;        /* exit code: EXIT_FAILED or EXIT_MISUSE */
    char text[512];  /* what is wrong, one sentence without a full stop */
    char place[512]; /* file:line, file, or flag; empty if there is none */
    char hint[512];  /* what the user can do about it; empty if there is nothing */
} Error;

/* Both return false, so that a function can end with `return error_set(...)`. `place` and `hint`
 * may be NULL. error_set: the world failed (exit 1). error_misuse: the user asked wrongly (exit
 * 2). */
bool error_set(Error *e, const char *place, const char *hint, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
bool error_misuse(Error *e, const char *place, const char *hint, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* "puck: TEXT (PLACE). HINT" on stderr. An Error without text was told already. */
void error_print(const Error *e);

/* Each linked object (the program, a plugin) defines it once: print and abort(). */
NORETURN void check_failed(const char *file, int line, const char *expression, const char *format,
                           ...) __attribute__((format(printf, 4, 5)));
#ifdef __cplusplus
}
#endif

/* CHECK(n > 0, "n is %d", n): the message is a format and its arguments. */
#define CHECK(condition, ...)                                                                      \
    ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition, __VA_ARGS__))

#define COUNT_OF(array) ((int64_t)(sizeof(array) / sizeof((array)[0])))

static inline HOST_DEVICE int64_t i64_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline HOST_DEVICE int64_t i64_max(int64_t a, int64_t b) { return a > b ? a : b; }
/* For a >= 0 and b > 0. */
static inline HOST_DEVICE int64_t i64_div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline HOST_DEVICE int64_t i64_round_up(int64_t a, int64_t b) {
    return i64_div_up(a, b) * b;
}

/* The program: finds the subcommand and runs it. */
#include "backend.h"
#include "cmd.h"
#include "dist.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* In the order of cmd_names. */
static int (*const run[])(int argc, char **argv) = {cmd_train, cmd_generate, cmd_eval, cmd_tokenize,
                                                    cmd_info,  cmd_bench,    cmd_plot, cmd_embed,
                                                    cmd_classify, cmd_help};

/* An illegal instruction would say nothing: name what the build needs and this processor has
 * not. */
static bool check_processor(Error *e) {
    const char *missing = NULL;
#ifdef __AVX2__
    if (!__builtin_cpu_supports("avx2")) missing = "AVX2";
#endif
#ifdef __BMI2__
    if (!__builtin_cpu_supports("bmi2")) missing = "BMI2";
#endif
#ifdef __FMA__
    if (!__builtin_cpu_supports("fma")) missing = "FMA";
#endif
#ifdef __AVX512F__
    if (!__builtin_cpu_supports("avx512f")) missing = "AVX-512";
#endif
    if (!missing) return true;
    return error_set(e, NULL, "Build it on this machine with `make clean && make ARCH=native`",
                     "this build of puck needs a processor with %s", missing);
}

static int unknown_command(const char *name) {
    Error e;
    char hint[128] = "`puck help` lists the commands";
    const char *nearest = options_nearest(name, cmd_names());
    if (nearest) snprintf(hint, sizeof hint, "Did you mean `puck %s`?", nearest);
    error_misuse(&e, NULL, hint, "there is no command \"%.64s\"", name);
    return cmd_fail(&e);
}

/* Started as several ranks, the other commands would do the same work as often. */
static bool check_ranks(const char *name, Error *e) {
    static const char *const on_ranks[] = {"train", "bench", "help"};
    if (!dist_launched()) return true;
    for (int i = 0; i < COUNT_OF(on_ranks); i++)
        if (!strcmp(on_ranks[i], name)) return true;
    error_misuse(e, NULL, "Start it without mpirun or srun", "puck %s runs as one process", name);
    return dist_refuse(e);
}

static int run_command(int argc, char **argv) {
    if (argc < 2) {
        cmd_overview();
        return EXIT_DONE;
    }
    const char *name = argv[1];
    if (!strcmp(name, "-V") || !strcmp(name, "--version")) {
        printf("puck %s (ABI %d)\n", PUCK_VERSION, PUCK_ABI);
        return EXIT_DONE;
    }
    if (!strcmp(name, "-h") || !strcmp(name, "--help")) name = "help";
    Error e;
    for (int i = 0; i < COUNT_OF(run); i++) {
        if (strcmp(cmd_names()[i], name) != 0) continue;
        if (check_ranks(name, &e)) return run[i](argc - 1, argv + 1);
        return cmd_fail(&e);
    }
    return unknown_command(name);
}

/* A file opened while a standard stream is closed would take its number, and the log would go into
 * it. What stands in for the stream fails as it did: it is open the other way round. */
static void guard_streams(void) {
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0) open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int main(int argc, char **argv) {
    Error e;
    guard_streams();
    signal(SIGXFSZ, SIG_IGN); /* a limit on the size of files is then told as a full disk is */
    if (!check_processor(&e)) return cmd_fail(&e);
    const int code = run_command(argc, argv);
    /* A full disk behind a redirection shows only here. */
    if (fflush(stdout) == 0 && !ferror(stdout)) return code;
    error_set(&e, "standard output", "Is the disk full?", "the result could not be written");
    return code == EXIT_DONE ? cmd_fail(&e) : code;
}

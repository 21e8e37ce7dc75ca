/* A save that is cut off at every call that changes the disk, and one that meets a full disk at
 * every byte. This program's own write, fsync, rename ... stand in for the library's: they count,
 * and at a chosen call end the process or fail. */
#include "log.h"
#include "tiny.h"
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

typedef enum Fault { FAULT_NONE, FAULT_KILL, FAULT_FAIL } Fault;

static struct {
    Fault fault;
    int64_t calls, at; /* calls so far, and which one (from 1) is hit */
    int64_t budget;    /* bytes that the disk still takes; -1: no limit */
    int error;         /* FAULT_FAIL: errno */
    bool halve;        /* FAULT_KILL: every other write is a short one */
    bool no_exchange;  /* the file system cannot exchange two names */
} disk = {.budget = -1};

enum { KILLED = 99 };

/* Whether this call is to fail: from the chosen call on all but deletions. A disk stays full. */
static bool hit(bool deletion) {
    if (disk.fault == FAULT_NONE) return false;
    disk.calls++;
    if (disk.fault == FAULT_KILL && disk.calls == disk.at) _exit(KILLED);
    if (disk.fault != FAULT_FAIL || disk.calls < disk.at || deletion) return false;
    errno = disk.error;
    return true;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t n) {
    if (hit(false)) return -1;
    if (disk.budget >= 0) {
        if (disk.budget == 0) {
            errno = ENOSPC;
            return -1;
        }
        if ((int64_t)n > disk.budget) n = (size_t)disk.budget; /* a short write first */
        disk.budget -= (int64_t)n;
    } else if (disk.fault == FAULT_KILL && n > 1 && (disk.halve = !disk.halve)) {
        n /= 2; /* so that the process also ends within a file's data */
    }
    return REAL(write)(fd, data, n);
}

int fsync(int fd) { return hit(false) ? -1 : (void)fd, 0; }
int mkdir(const char *path, mode_t mode) { return hit(false) ? -1 : REAL(mkdir)(path, mode); }
int rename(const char *from, const char *to) { return hit(false) ? -1 : REAL(rename)(from, to); }
int symlink(const char *to, const char *path) { return hit(false) ? -1 : REAL(symlink)(to, path); }
int unlink(const char *path) { return hit(true) ? -1 : REAL(unlink)(path); }
int rmdir(const char *path) { return hit(true) ? -1 : REAL(rmdir)(path); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    if (hit(false)) return -1;
    if (!disk.no_exchange) return REAL(renameat2)(a, from, b, to, flags);
    errno = EINVAL;
    return -1;
}

static Tiny tiny, have; /* to save, and what a folder holds */
static Tokenizer tokenizer;
static const char *run;
static const ModelConfig smallest = {.vocab = 2,
                                     .context = 2,
                                     .layers = 1,
                                     .heads = 1,
                                     .channels = 2,
                                     .hidden = 8,
                                     .bias = false,
                                     .norm_eps = 1e-5};

static int setup(void **state) {
    scratch_setup(state);
    log_set_level(LOG_ERROR);
    tiny_tokenizer(&tokenizer);
    tiny_open(&tiny, &smallest, true);
    tiny_open(&have, &smallest, true);
    run = scratch_path("run");
    return 0;
}

static int teardown(void **state) {
    tiny_close(&tiny);
    tiny_close(&have);
    tokenizer_free(&tokenizer);
    return scratch_teardown(state);
}

static bool save(int64_t step, uint64_t seed, Error *e) {
    Settings s;
    const TrainState state = tiny_state(step);
    options_defaults(&s);
    tiny_fill(&tiny, seed);
    return checkpoint_save(run, &tiny.m, &tokenizer, &s.options, &state, 2, e);
}

static int link_one(const char *path, const struct stat *info, int kind, struct FTW *at) {
    (void)info, (void)at;
    char to[600], target[64] = "";
    snprintf(to, sizeof to, "%s%s", run, path + strlen(scratch_path("start")));
    if (kind == FTW_D) return mkdir(to, 0777);
    if (kind != FTW_SL) return link(path, to);
    return readlink(path, target, sizeof target - 1) < 0 || symlink(target, to) != 0;
}

/* The run before every attempt: steps 10 (best), 20 and 30, each of the seed of its number. It is
 * made once and then linked, file by file: no save may change a file in place. */
static void begin(void) {
    const char *start = scratch_path("start");
    Error e;
    scratch_remove(run);
    if (access(start, F_OK) != 0) {
        assert_true(save(10, 10, &e));
        assert_true(checkpoint_mark_best(run, 10, &e));
        assert_true(save(20, 20, &e));
        assert_true(save(30, 30, &e));
        assert_int_equal(rename(run, start), 0);
    }
    assert_int_equal(nftw(start, link_one, 16, FTW_PHYS), 0);
}

/* Whether a folder verifies and holds exactly the weights and moments of this seed. */
static bool holds(const char *folder, uint64_t seed) {
    Error e;
    tiny_fill(&tiny, seed);
    return checkpoint_verify(folder, &e) && checkpoint_read_weights(folder, &have.m, &e) &&
           checkpoint_read_optim(folder, &have.m, &e) && tiny_same(&tiny, &have);
}

static bool leftovers(void) {
    DIR *dir = opendir(scratch_path("run/ckpt"));
    bool any = false;
    for (struct dirent *d; (d = readdir(dir));) any |= strstr(d->d_name, ".tmp") != NULL;
    closedir(dir);
    return any;
}

/* One save, of a new step or of one that is there. */
typedef struct Attempt {
    int64_t step;
    uint64_t seed;
    bool mark; /* instead: point best at `step` */
} Attempt;

static bool perform(const Attempt *a, Error *e) {
    return a->mark ? checkpoint_mark_best(run, a->step, e) : save(a->step, a->seed, e);
}

static const Attempt attempts[] = {{40, 40, false}, {30, 31, false}, {20, 0, true}};

/* What must be true after an attempt that came to nothing or to something, but not to an end. */
static void check_whole(const Attempt *a, int64_t n) {
    char folder[600];
    Error e;
    if (!checkpoint_find(run, folder, sizeof folder, &e)) fail_msg("call %ld: none found", (long)n);
    const bool old = strstr(folder, "30") && holds(folder, 30);
    const bool new = !a->mark &&strtol(strstr(folder, "step-") + 5, NULL, 10) ==
                     a->step &&holds(folder, a->seed);
    if (!old && !new) fail_msg("call %ld: %s holds neither", (long)n, folder);
    /* best and latest point at something whole at every moment */
    const char *best = scratch_path("run/ckpt/best"), *latest = scratch_path("run/ckpt/latest");
    if (!holds(best, 10) && !(a->mark && holds(best, 20))) fail_msg("call %ld: best", (long)n);
    if (!holds(latest, 30) && !holds(latest, a->seed)) fail_msg("call %ld: latest", (long)n);
}

/* The process ends at the n-th call, for every n; afterwards all is whole, and a save cleans up. */
static void test_killed(void **state) {
    (void)state;
    for (int64_t i = 0; i < COUNT_OF(attempts); i++) {
        const Attempt *a = &attempts[i];
        int64_t n = 1;
        for (bool killed = true; killed; n++) {
            begin();
            const pid_t child = fork();
            if (child == 0) {
                Error e;
                disk.fault = FAULT_KILL;
                disk.at = n;
                _exit(perform(a, &e) ? 0 : 1);
            }
            int status;
            assert_int_equal(waitpid(child, &status, 0), child);
            assert_true(WIFEXITED(status));
            killed = WEXITSTATUS(status) == KILLED;
            if (!killed) assert_int_equal(WEXITSTATUS(status), 0);
            check_whole(a, n);
            if (!leftovers()) continue;
            Error e;
            if (!save(50, 50, &e)) fail_msg("call %ld: %s (%s)", (long)n, e.text, e.place);
            assert_false(leftovers());
            assert_true(holds(scratch_path("run/ckpt/latest"), 50));
        }
        assert_in_range(n, a->mark ? 4 : 60, 1000); /* the calls were seen */
    }
}

/* What is there before an attempt and must be there, whole, after it has failed. */
static void check_after_failure(const Attempt *a, const Error *e, int64_t n) {
    assert_int_equal(e->code, EXIT_FAILED);
    assert_true(e->text[0] && e->place[0] && e->hint[0]);
    check_whole(a, n);
    assert_true(holds(scratch_path("run/ckpt/step-00000010"), 10));
    if (leftovers()) fail_msg("call %ld: a leftover", (long)n);
}

/* The n-th call and all after it fail (a deletion never does), for every n. */
static void test_failing_calls(void **state) {
    (void)state;
    for (int64_t i = 0; i < COUNT_OF(attempts); i++) {
        bool failed = true;
        int64_t n = 1;
        for (begin(); failed; n++) {
            Error e = {0};
            disk.fault = FAULT_FAIL;
            disk.error = n % 2 ? ENOSPC : EIO;
            disk.calls = 0;
            disk.at = n;
            failed = !perform(&attempts[i], &e);
            disk.fault = FAULT_NONE;
            if (failed) check_after_failure(&attempts[i], &e, n);
            char folder[600];
            if (checkpoint_find(run, folder, sizeof folder, &e) && !holds(folder, 30)) begin();
        }
        assert_in_range(n, attempts[i].mark ? 3 : 25, 1000);
    }
}

/* A disk that is full after so many bytes, from none to all that a save writes. */
static void test_full_disk(void **state) {
    (void)state;
    begin();
    bool failed = true;
    int64_t bytes = 0;
    for (; failed; bytes += bytes < 64 ? 1 : 29) {
        Error e = {0};
        disk.budget = bytes;
        failed = !save(40, 40, &e);
        disk.budget = -1;
        if (!failed) break;
        assert_non_null(strstr(e.text, "No space left"));
        check_after_failure(&(Attempt){40, 40, false}, &e, bytes);
        assert_true(holds(scratch_path("run/ckpt/latest"), 30));
    }
    assert_in_range(bytes, 3000, 100000);
    assert_true(holds(scratch_path("run/ckpt/latest"), 40));
}

/* Where two names cannot be exchanged, a step saved again still takes its folder's place. */
static void test_no_exchange(void **state) {
    (void)state;
    Error e;
    begin();
    disk.no_exchange = true;
    assert_true(save(30, 31, &e));
    disk.no_exchange = false;
    assert_true(holds(scratch_path("run/ckpt/step-00000030"), 31));
    assert_true(holds(scratch_path("run/ckpt/step-00000020"), 20));
    assert_false(leftovers());
}

/* A pipe in the place of FILE.tmp says when the file is open, and holds its writer. */
static void test_signal(void **state) {
    (void)state;
    static const char bytes[1 << 20];
    Error e;
    int status;
    assert_int_equal(mkfifo("file.tmp", 0666), 0);
    const pid_t child = fork();
    if (child == 0) {
        file_write_atomic("file", bytes, sizeof bytes, &e);
        _exit(0);
    }
    const int pipe = open("file.tmp", O_RDONLY); /* waits for the writer */
    assert_int_equal(kill(child, SIGTERM), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    close(pipe);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    assert_int_equal(access("file.tmp", F_OK), -1);
    assert_int_equal(access("file", F_OK), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_failing_calls),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_no_exchange),
        cmocka_unit_test(test_signal),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

/* Opening back ends: by path, beside the program, by the loader's search; versions; --device
 * auto. */
#include "plugin.h"
#include <dlfcn.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char program[PATH_MAX], folder[PATH_MAX]; /* this program; a scratch folder */

/* build/tests/core/libpuck_NAME.so, made from plugin_null.c. */
static const char *library(const char *name) {
    static char path[2 * PATH_MAX];
    snprintf(path, sizeof path, "%.*s/libpuck_%s.so", (int)(strrchr(program, '/') - program),
             program, name);
    return path;
}

static void shell(const char *format, ...) {
    char command[8 * PATH_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    assert_int_equal(system(command), 0);
}

/* What a fresh process says on opening `device`: the loader reads its search path at start only. */
static char *say(const char *search, const char *run, const char *device) {
    static char text[4096];
    char command[8 * PATH_MAX];
    snprintf(command, sizeof command, "LD_LIBRARY_PATH='%s' '%s' --open %s 2>&1", search, run,
             device);
    FILE *out = popen(command, "r");
    assert_non_null(out);
    text[fread(text, 1, sizeof text - 1, out)] = '\0';
    assert_int_equal(pclose(out), 0);
    return text;
}

static int open_and_say(const char *device) {
    Backend b;
    Error e;
    if (!plugin_open(&b, device, "auto", 3, &e)) {
        printf("refused %d: %s (%s)\n", e.code, e.text, e.place);
        return 0;
    }
    printf("opened %s with %d\n", b.name, b.properties.n_units);
    b.close(&b);
    return 0;
}

static void test_open_by_path(void **state) {
    (void)state;
    Backend b;
    Error e;
    assert_true(plugin_open(&b, library("null"), "auto", 5, &e));
    assert_string_equal(b.name, "null");
    assert_int_equal(b.properties.n_units, 5);
    b.close(&b);
}

static void test_other_abi_is_refused(void **state) {
    (void)state;
    Backend b;
    Error e;
    char expected[128];
    assert_false(plugin_open(&b, library("old"), "auto", 1, &e));
    snprintf(expected, sizeof expected, "the back end speaks ABI %d, this puck speaks ABI %d",
             PUCK_ABI - 1, PUCK_ABI);
    assert_string_equal(e.text, expected);
    assert_string_equal(e.place, library("old"));
    assert_int_equal(e.code, EXIT_FAILED);
}

static void test_no_plugin(void **state) {
    (void)state;
    Backend b;
    Error e;
    Dl_info info;
    assert_int_not_equal(dladdr((void *)(uintptr_t)_cmocka_run_group_tests, &info), 0);
    assert_false(plugin_open(&b, info.dli_fname, "auto", 1, &e));
    assert_string_equal(e.text, "this library is no back end of puck: it has no puck_plugin");
    assert_false(plugin_open(&b, "/nowhere/libpuck_x.so", "auto", 1, &e));
    assert_non_null(strstr(e.text, "the back end does not load"));
    assert_false(plugin_open(&b, program, "auto", 1, &e)); /* a program is no library */
    assert_int_equal(e.code, EXIT_FAILED);
}

static void test_unknown_devices(void **state) {
    (void)state;
    static const char *const wrong[] = {"cudo",    "gpu",     "",           "cuda:", "cuda:x",
                                        "cuda:-1", "cuda:1x", "cuda:12345", "CPU",   "cpu:0"};
    Backend b;
    Error e;
    for (int i = 0; i < COUNT_OF(wrong); i++) {
        assert_false(plugin_open(&b, wrong[i], "auto", 1, &e));
        assert_int_equal(e.code, EXIT_MISUSE);
        assert_string_equal(e.place, "--device");
    }
    assert_false(plugin_open(&b, "cudo", "auto", 1, &e));
    assert_string_equal(e.text, "there is no device \"cudo\"");
    assert_string_equal(e.hint, "Did you mean cuda?");
}

static void test_auto(void **state) {
    (void)state;
    const char *text = say(folder, program, "auto"); /* nothing there */
    assert_non_null(strstr(text, "opened cpu with 3"));
    assert_non_null(strstr(text, "device cpu: "));
    assert_non_null(strstr(text, "(auto: no cuda, as there is no libpuck_cuda.so)"));

    shell("cp '%s' '%s/libpuck_cuda.so'", library("null"), folder);
    text = say(folder, program, "auto"); /* found by the loader's search */
    assert_non_null(strstr(text, "null opened: 1 4, rank 0 of 1"));
    assert_non_null(strstr(text, "device cuda: Null device (auto: it answers)"));
    assert_non_null(strstr(text, "opened null with 3"));

    shell("cp '%s' '%s/libpuck_cuda.so'", library("old"), folder);
    text = say(folder, program, "auto");
    assert_non_null(strstr(text, "opened cpu with 3"));
    assert_non_null(strstr(text, "ABI"));
    text = say(folder, program, "cuda"); /* asked for by name: no falling back */
    assert_non_null(strstr(text, "refused 1: the back end speaks ABI"));
}

static void test_cards(void **state) {
    (void)state;
    shell("cp '%s' '%s/libpuck_cuda.so'", library("null"), folder);
    assert_non_null(strstr(say(folder, program, "cuda:0"), "opened null"));
    assert_non_null(strstr(say(folder, program, "cuda:1"), "refused 1: card 1 does not answer"));
    assert_non_null(strstr(say(folder, program, "emu"), "refused 1: the back end does not load"));
}

static void test_beside_the_program(void **state) {
    (void)state;
    char copy[2 * PATH_MAX];
    snprintf(copy, sizeof copy, "%s/copy_of_test", folder);
    shell("cp '%s' '%s'", program, copy);
    shell("cp '%s' '%s/libpuck_emu.so'", library("null"), folder);
    assert_non_null(strstr(say("", copy, "emu"), "opened null"));
    assert_non_null(strstr(say("", program, "emu"), "refused 1"));
}

static void test_plan(void **state) {
    (void)state;
    Backend b;
    Error e;
    assert_true(plugin_open_plan(&b, library("null"), "auto", 80000000000, &e));
    assert_string_equal(b.name, "null");
    assert_int_equal(b.properties.memory_free, 80000000000);
    assert_null(b.properties.name[0] ? b.properties.name : NULL); /* no device was asked */
    b.close(&b);
    assert_true(plugin_open_plan(&b, "cpu", "f32", 1000, &e));
    assert_int_equal(b.properties.memory_bytes, 1000);
    b.close(&b);
    assert_false(plugin_open_plan(&b, "cpu", "bf16", 1000, &e));
    assert_string_equal(e.place, "--dtype");
    assert_false(plugin_open_plan(&b, "cudo", "auto", 1000, &e));
    assert_string_equal(e.place, "--device");
    assert_false(plugin_open_plan(&b, "/nowhere/libpuck_x.so", "auto", 1000, &e));
    assert_non_null(strstr(e.text, "the back end does not load"));
}

static void test_dtypes(void **state) {
    (void)state;
    Backend b;
    Error e;
    assert_false(plugin_open(&b, "cpu", "bf16", 1, &e));
    assert_string_equal(e.text, "the cpu back end computes in f32, not in bf16");
    assert_int_equal(e.code, EXIT_MISUSE);
    assert_false(plugin_open(&b, library("null"), "bf16", 1, &e));
    assert_string_equal(e.text, "card 0 has no bf16");
    assert_true(plugin_open(&b, library("null"), "f32", 1, &e));
    b.close(&b);
}

static void test_threads(void **state) {
    (void)state;
    assert_int_equal(plugin_threads(1), 1);
    assert_int_equal(plugin_threads(7), 7);
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    assert_int_equal(plugin_threads(0), CPU_COUNT(&all));
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all)) CPU_SET(i, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(plugin_threads(0), 1);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

static int make_folder(void **state) {
    (void)state;
    const char *parent = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/test_plugin_XXXXXX", parent ? parent : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    shell("rm -r '%s'", folder);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "--open")) return open_and_say(argv[2]);
    if (readlink("/proc/self/exe", program, sizeof program - 1) < 0) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_by_path),
        cmocka_unit_test(test_other_abi_is_refused),
        cmocka_unit_test(test_no_plugin),
        cmocka_unit_test(test_unknown_devices),
        cmocka_unit_test(test_auto),
        cmocka_unit_test(test_cards),
        cmocka_unit_test(test_beside_the_program),
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_dtypes),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

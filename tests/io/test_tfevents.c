/* TensorBoard events: the golden bytes of the format, varints, errors. */
#include "tfevents.h"
#include "scratch.h"
#include <dirent.h>
#include <sys/stat.h>
#include <time.h>

/* The clock of this program stands, so that the version record is known. */
time_t time(time_t *out) {
    if (out) *out = 1700000000;
    return 1700000000;
}

static const char version[] =
    "1800000000000000a37f4b220900000040fc54d9411a0d627261696e2e4576656e743a32eced8f9d";
static const char scalar[] = "200000000000000029eda9500900004040fc54d941100a2a130a110a0a74726169"
                             "6e2f6c6f73731500002040a6466f5b";

/* Bytes of the only event file of a folder, as hexadecimal digits. */
static char *events_hex(const char *folder) {
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    char path[512] = "";
    for (struct dirent *d; (d = readdir(dir));)
        if (strncmp(d->d_name, "events.out.tfevents.1700000000.", 31) == 0)
            snprintf(path, sizeof path, "%s/%.200s", folder, d->d_name);
    closedir(dir);
    assert_true(path[0]);
    int64_t n;
    char *bytes = file_get(path, &n), *hex = malloc(2 * (size_t)n + 1);
    hex[0] = 0;
    for (int64_t i = 0; i < n; i++) sprintf(hex + 2 * i, "%02x", (unsigned char)bytes[i]);
    free(bytes);
    return hex;
}

static void test_golden(void **state) {
    (void)state;
    Error e;
    TfEvents *t = tfevents_open(scratch, &e);
    assert_non_null(t);
    char *hex = events_hex(scratch);
    assert_string_equal(hex, version);
    free(hex);
    assert_true(tfevents_scalar(t, 10, "train/loss", 2.5, 1700000001, &e));
    hex = events_hex(scratch); /* there before the file is closed */
    assert_memory_equal(hex, version, strlen(version));
    assert_string_equal(hex + strlen(version), scalar);
    free(hex);
    tfevents_close(t);
}

/* Steps of one, two and ten bytes as varints. */
static void test_steps(void **state) {
    (void)state;
    Error e;
    const struct {
        int64_t step;
        const char *hex;
    } cases[] = {
        {0, "1000"},
        {127, "107f"},
        {128, "108001"},
        {300, "10ac02"},
        {INT64_MAX, "10ffffffffffffffff7f"},
        {-1, "10ffffffffffffffffff01"},
    };
    for (int64_t i = 0; i < COUNT_OF(cases); i++) {
        const char *folder = scratch_path("steps");
        assert_int_equal(mkdir(folder, 0777), 0);
        TfEvents *t = tfevents_open(folder, &e);
        assert_true(tfevents_scalar(t, cases[i].step, "x", 1, 0, &e));
        tfevents_close(t);
        char *hex = events_hex(folder);
        /* length and its checksum, then the wall time with its key */
        const char *at = hex + strlen(version) + 2 * (8 + 4 + 9);
        assert_memory_equal(at, cases[i].hex, strlen(cases[i].hex));
        free(hex);
        scratch_remove(folder);
    }
}

static void test_errors(void **state) {
    (void)state;
    Error e = {0};
    assert_null(tfevents_open(scratch_path("nowhere"), &e));
    assert_int_equal(e.code, EXIT_FAILED);
    tfevents_close(NULL);
    TfEvents *a = tfevents_open(scratch, &e), *b = tfevents_open(scratch, &e);
    assert_true(a && b); /* two of one second and one process: two files */
    tfevents_close(a);
    tfevents_close(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}

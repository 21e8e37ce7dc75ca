/* safetensors: exact bytes, every check of the reader, damage at every byte and header bit. */
#include "safetensors.h"
#include "scratch.h"
#include <jansson.h>
#include <malloc.h>
#include <math.h>

/* A file of this header (its length in front) and n bytes of data, counting up. */
static int64_t put_raw(const char *path, const char *header, int64_t header_bytes, int64_t n) {
    const int64_t total = 8 + header_bytes + n;
    char *bytes = malloc((size_t)total);
    const uint64_t length = (uint64_t)header_bytes;
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, (size_t)header_bytes);
    for (int64_t i = 0; i < n; i++) bytes[8 + header_bytes + i] = (char)i;
    file_put(path, bytes, total);
    free(bytes);
    return total;
}

/* A matrix, a scalar, an empty tensor and a vector of bytes; the reader's model of a file. */
static const float matrix[6] = {1, -2, 3.5f, 0, 5, 6};
static const int32_t scalar = -7;
static const uint8_t vector[3] = {1, 2, 255};

static void put_sample(const char *path) {
    Error e;
    SafetensorsWriter *w = safetensors_create(path, &e);
    assert_non_null(w);
    safetensors_metadata(w, "format", "pt");
    safetensors_declare(w, "m", DTYPE_F32, 2, (int64_t[]){2, 3});
    safetensors_declare(w, "\"s\"", DTYPE_I32, 0, NULL);
    safetensors_declare(w, "none", DTYPE_BF16, 3, (int64_t[]){4, 0, 9});
    safetensors_declare(w, "v", DTYPE_U8, 1, (int64_t[]){3});
    assert_true(safetensors_begin(w, &e));
    assert_true(safetensors_write(w, matrix, 8, &e)); /* one tensor in two pieces */
    assert_true(safetensors_write(w, matrix + 2, 16, &e));
    assert_true(safetensors_write(w, &scalar, 4, &e));
    assert_true(safetensors_write(w, vector, 3, &e));
    assert_true(safetensors_finish(w, &e));
}

static void test_exact_bytes(void **state) {
    (void)state;
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"m\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
        "\"\\\"s\\\"\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[24,28]},"
        "\"none\":{\"dtype\":\"BF16\",\"shape\":[4,0,9],\"data_offsets\":[28,28]},"
        "\"v\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[28,31]}}";
    const int64_t padded = i64_round_up((int64_t)strlen(header), 8);
    put_sample(scratch_path("exact"));
    int64_t n;
    char *bytes = file_get(scratch_path("exact"), &n);
    assert_int_equal(n, 8 + padded + 31);
    assert_int_equal(*(const uint64_t *)(const void *)bytes, padded);
    assert_memory_equal(bytes + 8, header, strlen(header));
    for (int64_t i = (int64_t)strlen(header); i < padded; i++) assert_int_equal(bytes[8 + i], ' ');
    assert_memory_equal(bytes + 8 + padded, matrix, 24);
    assert_memory_equal(bytes + 8 + padded + 24, &scalar, 4);
    assert_memory_equal(bytes + 8 + padded + 28, vector, 3);
    free(bytes);
}

static void check_entry(const SafetensorsFile *f, const char *name, DType dtype, int rank,
                        const int64_t *dim, const void *data, int64_t bytes) {
    const SafetensorsEntry *t = safetensors_find(f, name);
    assert_non_null(t);
    assert_int_equal(t->dtype, dtype);
    assert_int_equal(t->rank, rank);
    for (int i = 0; i < rank; i++) assert_int_equal(t->dim[i], dim[i]);
    assert_int_equal(t->bytes, bytes);
    assert_memory_equal(t->data, data, (size_t)bytes);
}

static void test_round_trip(void **state) {
    (void)state;
    SafetensorsFile f;
    Error e;
    put_sample(scratch_path("sample"));
    assert_true(safetensors_open(&f, scratch_path("sample"), &e));
    assert_int_equal(f.n_entries, 4);
    check_entry(&f, "m", DTYPE_F32, 2, (int64_t[]){2, 3}, matrix, 24);
    check_entry(&f, "\"s\"", DTYPE_I32, 0, NULL, &scalar, 4);
    check_entry(&f, "none", DTYPE_BF16, 3, (int64_t[]){4, 0, 9}, "", 0);
    check_entry(&f, "v", DTYPE_U8, 1, (int64_t[]){3}, vector, 3);
    assert_null(safetensors_find(&f, "M"));
    safetensors_close(&f);
}

static void test_abandon(void **state) {
    (void)state;
    Error e;
    SafetensorsWriter *w = safetensors_create(scratch_path("abandoned"), &e);
    safetensors_declare(w, "m", DTYPE_F32, 1, (int64_t[]){2});
    assert_true(safetensors_begin(w, &e));
    safetensors_abandon(w);
    assert_int_equal(access(scratch_path("abandoned"), F_OK), -1);
    assert_null(safetensors_create(scratch_path("missing/file"), &e));
    assert_int_equal(e.code, EXIT_FAILED);
}

#define T(name, dtype, shape, first, last)                                                         \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" first "," last  \
    "]}"

/* One header a fault, and words of the message that it must get. */
static const struct {
    const char *header;
    int64_t data;
    const char *says;
} faults[] = {
    {"{" T("a", "F32", "[1]", "0", "4") "," T("a", "F32", "[1]", "4", "8") "}", 8, "duplicate"},
    {"{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "5", "9") "}", 9, "hole"},
    {"{" T("a", "F32", "[1]", "4", "8") "}", 8, "hole"},
    {"{" T("a", "F32", "[2]", "0", "8") "," T("b", "F32", "[1]", "4", "8") "}", 8, "overlap"},
    {"{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "0", "4") "}", 4, "overlap"},
    {"{" T("a", "F32", "[0]", "4", "0") "}", 4, "impossible data_offsets"},
    {"{" T("a", "F32", "[1]", "-4", "0") "}", 0, "impossible data_offsets"},
    {"{" T("a", "F32", "[1]", "0", "4.0") "}", 4, "impossible data_offsets"},
    {"{" T("a", "F32", "[1]", "0,4", "4") "}", 4, "impossible data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4]}}", 4,
     "impossible data_offsets"},
    {"{" T("a", "F32", "[1]", "0", "3") "}", 3, "do not agree"},
    {"{" T("a", "F32", "[2,2]", "0", "12") "}", 12, "do not agree"},
    {"{" T("a", "F32", "[4611686018427387904]", "0", "0") "}", 0, "do not agree"},
    {"{" T("a", "F32", "[4294967296,4294967296]", "0", "0") "}", 0, "impossible shape"},
    {"{" T("a", "F32", "[4294967296,4294967296,0]", "0", "0") "}", 0, "impossible shape"},
    {"{" T("a", "F32", "[-1]", "0", "4") "}", 4, "impossible shape"},
    {"{" T("a", "F32", "[1.0]", "0", "4") "}", 4, "impossible shape"},
    {"{" T("a", "F32", "[\"1\"]", "0", "4") "}", 4, "impossible shape"},
    {"{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, "more than 8 dimensions"},
    {"{" T("a", "F32", "1", "0", "4") "}", 4, "needs dtype, shape and data_offsets"},
    {"{" T("a", "F31", "[1]", "0", "4") "}", 4, "unknown dtype F31"},
    {"{" T("a", "f32", "[1]", "0", "4") "}", 4, "unknown dtype f32"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "needs dtype, shape and data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4,
     "needs dtype, shape and data_offsets"},
    {"{\"a\":[]}", 0, "needs dtype, shape and data_offsets"},
    {"{" T("a", "F32", "[2]", "0", "8") "}", 4, "beyond the file"},
    {"{" T("a", "F32", "[1]", "0", "4") "}", 5, "1 bytes follow"},
    {"{}", 1, "1 bytes follow"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "more than strings"},
    {"{\"__metadata__\":[]}", 0, "not an object"},
    {"{" T("a", "F32", "[1e400]", "0", "4") "}", 4, "JSON is broken"},
    {"{" T("a", "F32", "[9223372036854775808]", "0", "4") "}", 4, "JSON is broken"},
    {"{" T("a\xff", "F32", "[1]", "0", "4") "}", 4, "JSON is broken"},
    {"{" T("a\\u0000", "F32", "[1]", "0", "4") "}", 4, "JSON is broken"},
    {"{" T("a", "F32", "[1]", "0", "4") "}x", 4, "JSON is broken"},
    {"{" T("a", "F32", "[1]", "0", "4") ",}", 4, "JSON is broken"},
    {"\xef\xbb\xbf{}", 0, "header is no JSON"},
    {"[]", 0, "header is no JSON"},
    {" {}", 0, "header is no JSON"},
};

static void test_faults(void **state) {
    (void)state;
    const char *path = scratch_path("fault");
    for (int64_t i = 0; i < COUNT_OF(faults); i++) {
        SafetensorsFile f;
        Error e = {0};
        put_raw(path, faults[i].header, (int64_t)strlen(faults[i].header), faults[i].data);
        if (safetensors_open(&f, path, &e)) fail_msg("accepted: %s", faults[i].header);
        if (!strstr(e.text, faults[i].says)) fail_msg("%s: %s", faults[i].header, e.text);
        assert_string_equal(e.place, path);
        assert_int_equal(e.code, EXIT_FAILED);
    }
}

/* Lengths of the header that no file can have, files that are no files, deep nesting. */
static void test_bad_files(void **state) {
    (void)state;
    static const uint64_t lengths[] = {0, 1, 3, 100000001, 1ull << 31, 1ull << 63, UINT64_MAX};
    SafetensorsFile f;
    Error e;
    const char *path = scratch_path("length");
    for (int64_t i = 0; i < COUNT_OF(lengths); i++) {
        char bytes[10] = "........{}";
        memcpy(bytes, &lengths[i], 8);
        file_put(path, bytes, 10);
        assert_false(safetensors_open(&f, path, &e));
    }
    file_put(path, "", 0);
    assert_false(safetensors_open(&f, path, &e));
    assert_false(safetensors_open(&f, scratch, &e));
    assert_false(safetensors_open(&f, scratch_path("nowhere"), &e));
    assert_non_null(strstr(e.text, "No such file"));

    enum { DEPTH = 100000 };
    char *deep = malloc(DEPTH + 6);
    memcpy(deep, "{\"a\":", 5);
    memset(deep + 5, '[', DEPTH);
    put_raw(path, deep, DEPTH + 5, 0);
    assert_false(safetensors_open(&f, path, &e));
    free(deep);
}

/* What a reader must accept: offsets in another order than names, spaces, no tensors. */
static void test_accepted(void **state) {
    (void)state;
    SafetensorsFile f;
    Error e;
    const char *path = scratch_path("good");
    const char *two = "{" T("b", "U8", "[2]", "3", "5") ", " T("a", "BOOL", "[3]", "0", "3") "} ";
    put_raw(path, two, (int64_t)strlen(two), 5);
    assert_true(safetensors_open(&f, path, &e));
    assert_int_equal(f.n_entries, 2);
    assert_string_equal(f.entries[0].name, "a"); /* in order of offset */
    assert_string_equal(f.entries[0].dtype_text, "BOOL");
    assert_int_equal(f.entries[0].dtype, DTYPE_COUNT);
    float none;
    assert_false(safetensors_read_f32(&f.entries[0], 0, 0, &none));
    assert_int_equal(*(const uint8_t *)f.entries[1].data, 3);
    safetensors_close(&f);
    put_raw(path, "{}      ", 8, 0);
    assert_true(safetensors_open(&f, path, &e));
    assert_int_equal(f.n_entries, 0);
    safetensors_close(&f);
}

static void test_cut(void **state) {
    (void)state;
    int64_t n;
    put_sample(scratch_path("whole"));
    char *bytes = file_get(scratch_path("whole"), &n);
    const char *path = scratch_path("cut");
    for (int64_t cut = 0; cut < n; cut++) {
        SafetensorsFile f;
        Error e = {0};
        file_put(path, bytes, cut);
        assert_false(safetensors_open(&f, path, &e));
        assert_true(e.text[0]);
    }
    free(bytes);
}

/* A flipped bit of the header is refused, or changes no more than a name, metadata, or the shape of
 * a tensor without elements. */
static void test_flipped(void **state) {
    (void)state;
    int64_t n;
    put_sample(scratch_path("whole"));
    char *bytes = file_get(scratch_path("whole"), &n);
    SafetensorsFile good, f;
    Error e;
    assert_true(safetensors_open(&good, scratch_path("whole"), &e));
    const char *path = scratch_path("flipped");
    int accepted = 0;
    for (int64_t bit = 0; bit < 8 * (n - 31); bit++) {
        bytes[bit / 8] ^= (char)(1 << bit % 8);
        file_put(path, bytes, n);
        bytes[bit / 8] ^= (char)(1 << bit % 8);
        if (!safetensors_open(&f, path, &e)) continue;
        accepted++;
        assert_int_equal(f.n_entries, good.n_entries);
        for (int i = 0; i < f.n_entries; i++) {
            const SafetensorsEntry *a = &f.entries[i], *b = &good.entries[i];
            assert_string_equal(a->dtype_text, b->dtype_text);
            assert_int_equal(a->rank, b->rank);
            assert_int_equal(a->bytes, b->bytes);
            if (a->bytes) assert_memory_equal(a->dim, b->dim, sizeof a->dim); /* else 5*0 is 4*0 */
            assert_memory_equal(a->data, b->data, (size_t)a->bytes);
        }
        safetensors_close(&f);
    }
    assert_in_range(accepted, 1, 8 * 30); /* letters of the names and of the metadata */
    safetensors_close(&good);
    free(bytes);
}

/* Every f16 and bf16 against its definition, f64 rounded, at odd addresses. */
static void test_read_f32(void **state) {
    (void)state;
    enum { N = 65536 };
    const char *path = scratch_path("floats");
    static uint16_t all[N];
    for (int i = 0; i < N; i++) all[i] = (uint16_t)i;
    const double doubles[3] = {1.0 / 3, -1e300, 5e-324};
    /* clang-format off */
    static const char header[] =
        "{" T("byte", "U8", "[1]", "0", "1") ","
        T("f16", "F16", "[65536]", "1", "131073") ","
        T("bf16", "BF16", "[65536]", "131073", "262145") ","
        T("f64", "F64", "[3]", "262145", "262169") "}";
    /* clang-format on */
    FILE *out = fopen(path, "wb");
    const uint64_t length = sizeof header - 1;
    fwrite(&length, 8, 1, out);
    fwrite(header, length, 1, out);
    fputc(0, out);
    fwrite(all, 2, N, out);
    fwrite(all, 2, N, out);
    fwrite(doubles, 8, 3, out);
    fclose(out);
    SafetensorsFile f;
    Error e;
    assert_true(safetensors_open(&f, path, &e));
    static float half[N], brain[N];
    float wide[2];
    assert_true(safetensors_read_f32(safetensors_find(&f, "f16"), 0, N, half));
    assert_true(safetensors_read_f32(safetensors_find(&f, "bf16"), 0, N, brain));
    assert_true(safetensors_read_f32(safetensors_find(&f, "f64"), 1, 2, wide));
    for (int i = 0; i < N; i++) {
        const int exponent = i >> 10 & 31, fraction = i & 1023;
        double want = exponent == 31 ? (fraction ? NAN : INFINITY)
                      : exponent     ? ldexp(1024 + fraction, exponent - 25)
                                     : ldexp(fraction, -24);
        if (i >> 15) want = -want;
        const float expected = (float)want;
        if (isnan(want))
            assert_true(isnan(half[i]));
        else
            assert_memory_equal(&half[i], &expected, 4);
        const uint32_t bits = (uint32_t)i << 16;
        assert_memory_equal(&brain[i], &bits, 4);
    }
    assert_true(wide[0] == -INFINITY && wide[1] == 0.0f);
    safetensors_close(&f);
}

static size_t live, peak;

static void *counting_malloc(size_t n) {
    void *p = malloc(n);
    live += malloc_usable_size(p);
    if (live > peak) peak = live;
    return p;
}

static void counting_free(void *p) {
    live -= malloc_usable_size(p);
    free(p);
}

/* Headers made of nothing but structure: the tree stays below 32 times the file and a mebibyte. */
static void test_memory(void **state) {
    (void)state;
    static const char *const pieces[] = {
        "[],", "{},", "0,", "\"\",", "[[],", "{\"\":[],", "\"a\":", "[0,0,0,0,0,0,0,0,0],", "1.5,"};
    const char *path = scratch_path("dense");
    json_set_alloc_funcs(counting_malloc, counting_free);
    for (int64_t i = 0; i < COUNT_OF(pieces); i++) {
        enum { SIZE = 1 << 20 };
        const int64_t n = (int64_t)strlen(pieces[i]);
        char *text = malloc(SIZE + 16);
        int64_t at = (int64_t)sprintf(text, "{\"a\":[");
        while (at + n < SIZE) at += (int64_t)sprintf(text + at, "%s", pieces[i]);
        live = peak = 0;
        put_raw(path, text, at, 0);
        SafetensorsFile f;
        Error e;
        assert_false(safetensors_open(&f, path, &e));
        if (peak > 32 * (size_t)at + (1 << 20)) fail_msg("%s: %zu bytes", pieces[i], peak);
        assert_int_equal(live, 0);
        free(text);
    }
    json_set_alloc_funcs(malloc, free);
}

/* The densest file that is right, tensors of nothing, must be read, within bounds. */
static void test_many_tensors(void **state) {
    (void)state;
    enum { N = 20000 };
    char *text = malloc(N * 64), *at = text;
    *at++ = '{';
    for (int i = 0; i < N; i++)
        at += sprintf(at, "%s" T("%d", "U8", "[0]", "0", "0"), i ? "," : "", i);
    *at++ = '}';
    const char *path = scratch_path("many");
    put_raw(path, text, at - text, 0);
    json_set_alloc_funcs(counting_malloc, counting_free);
    live = peak = 0;
    SafetensorsFile f;
    Error e;
    assert_true(safetensors_open(&f, path, &e));
    json_set_alloc_funcs(malloc, free);
    assert_int_equal(f.n_entries, N);
    const size_t all = peak + N * (sizeof(SafetensorsEntry) + 32);
    assert_true(all < 32 * (size_t)(at - text) + (1 << 20));
    assert_non_null(safetensors_find(&f, "19999"));
    safetensors_close(&f);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact_bytes),  cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_abandon),      cmocka_unit_test(test_faults),
        cmocka_unit_test(test_bad_files),    cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_cut),          cmocka_unit_test(test_flipped),
        cmocka_unit_test(test_read_f32),     cmocka_unit_test(test_memory),
        cmocka_unit_test(test_many_tensors),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}

/* The options table: parsing, printing, config files, presets. */
#include "config.h"
#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "rng.h"

static bool parse(Settings *s, int command, Error *e, const char *const *arguments) {
    char *argv[64] = {"puck"};
    int argc = 1;
    for (; arguments[argc - 1]; argc++) argv[argc] = (char *)arguments[argc - 1];
    bool help = false;
    const bool ok = options_parse(s, command, argc, argv, &help, e);
    assert_false(help);
    return ok;
}
#define PARSE(s, command, e, ...) parse(s, command, e, (const char *const[]){__VA_ARGS__, NULL})
#define ASSERT_MISUSE(command, text_, place_, hint_, ...)                                          \
    do {                                                                                           \
        Settings bad;                                                                              \
        Error error;                                                                               \
        assert_false(PARSE(&bad, command, &error, __VA_ARGS__));                                   \
        assert_int_equal(error.code, EXIT_MISUSE);                                                 \
        assert_string_equal(error.text, text_);                                                    \
        assert_string_equal(error.place, place_);                                                  \
        assert_string_equal(error.hint, hint_);                                                    \
    } while (0)

static char *written(const Options *o, int command, size_t *bytes) {
    char *text = NULL;
    FILE *out = open_memstream(&text, bytes);
    options_write_file(o, command, out);
    fclose(out);
    return text;
}

/* A value that is not the default: number k of a few awkward ones. */
static void vary(Settings *s, const OptionRow *row, int k) {
    char text[OPTION_STRING_MAX];
    Error e;
    const double part =
        (double)rng_uniform(7, 0, rng_site(RNG_TEST, row - option_rows), (uint64_t)k);
    const double value = row->minimum + (row->maximum - row->minimum) * part / 3;
    static const char *const strings[] = {"a b",
                                          "quote \" back \\ slash",
                                          "new\nline\ttab",
                                          "# no comment",
                                          " ends in a space ",
                                          "\x01\x7f",
                                          "\xc3\xa4\xe2\x82\xac",
                                          "'[x]'",
                                          "",
                                          "="};
    switch (row->type) {
    case TYPE_BOOL: strcpy(text, k % 2 ? "true" : "false"); break;
    case TYPE_INT: snprintf(text, sizeof text, "%.0f", value); break;
    case TYPE_FLOAT: snprintf(text, sizeof text, "%.17g", value); break;
    case TYPE_STRING:
        snprintf(text, sizeof text, "%s", row->choices ? row->choices : strings[k]);
        if (row->choices) text[strcspn(text, "|")] = '\0';
        break;
    }
    assert_true(options_set(s, row->name, text, FROM_FLAG, row->name, &e));
}

static void test_every_row_reads_back(void **state) {
    (void)state;
    static Settings a, b;
    Error e;
    int n = 0;
    for (int k = 0; k < 10; k++)
        for (int i = 0; i < n_option_rows; i++, n++) {
            const OptionRow *row = &option_rows[i];
            char text[OPTION_STRING_MAX];
            options_defaults(&a);
            vary(&a, row, k);
            options_value(&a.options, row, text, sizeof text);
            options_defaults(&b);
            assert_true(options_set(&b, row->name, text, FROM_FLAG, "here", &e));
            for (int j = 0; j < n_option_rows; j++)
                assert_true(options_equal(&a.options, &b.options, &option_rows[j]));
            assert_memory_equal(&a.options, &b.options, sizeof a.options);
            assert_int_equal(options_source(&b, row->name), FROM_FLAG);
        }
    assert_int_equal(n, 10 * n_option_rows);
}

static void test_file_reads_back(void **state) {
    (void)state;
    static Settings a, b;
    Error e;
    for (int k = 0; k < 10; k++) {
        options_defaults(&a);
        options_defaults(&b);
        for (int i = 0; i < n_option_rows; i++) {
            const OptionRow *row = &option_rows[i];
            if (row->kind != OPTION_ACTION && strcmp(row->name, "preset") != 0) vary(&a, row, k);
        }
        strcpy(a.options.preset, k % 2 ? "gpt2-xl" : ""); /* all its values are overwritten */
        size_t bytes;
        char *text = written(&a.options, CMD_ALL, &bytes);
        if (!options_read_text(&b, "config.toml", text, bytes, &e))
            fail_msg("%s %s", e.text, e.place);
        assert_memory_equal(&a.options, &b.options, sizeof a.options);
        free(text);
    }
}

static void test_floats_keep_their_bits(void **state) {
    (void)state;
    static Settings s;
    const OptionRow *row = options_find("lr");
    const double hard[] = {0.1, 1.0 / 3, DBL_MIN, 5e-324, 1e-8, 99.999999999999986, 0.3 - 0.1, 0};
    Error e;
    options_defaults(&s);
    for (int i = 0; i < 1000; i++) {
        const double value =
            i < COUNT_OF(hard) ? hard[i] : exp(rng_normal(3, 0, RNG_TEST, (uint64_t)i)) / 10;
        char text[64];
        s.options.lr = value;
        options_value(&s.options, row, text, sizeof text);
        s.options.lr = -1;
        assert_true(options_set(&s, "lr", text, FROM_FLAG, "--lr", &e));
        assert_memory_equal(&s.options.lr, &value, sizeof value);
    }
    s.options.lr = 0.0006;
    char text[64];
    options_value(&s.options, row, text, sizeof text);
    assert_string_equal(text, "0.0006");
}

static void test_flag_forms(void **state) {
    (void)state;
    static Settings s;
    Error e;
    assert_true(PARSE(&s, CMD_TRAIN, &e, "--batch-size", "3", "--micro_batch=2", "--no-bias",
                      "--fresh", "--lr=5e-4", "--run", "a b"));
    assert_int_equal(s.options.batch_size, 3);
    assert_int_equal(s.options.micro_batch, 2);
    assert_false(s.options.bias);
    assert_true(s.options.fresh);
    assert_true(s.options.lr == 5e-4);
    assert_string_equal(s.options.run, "a b");
    assert_int_equal(options_source(&s, "batch-size"), FROM_FLAG);
    assert_int_equal(options_source(&s, "steps"), FROM_DEFAULT);

    assert_true(PARSE(&s, CMD_TRAIN, &e, "--bias=false", "--steps", "1", "--steps", "2"));
    assert_false(s.options.bias);
    assert_int_equal(s.options.steps, 2);

    assert_true(PARSE(&s, CMD_GENERATE, &e, "-p", "-- said he", "-n", "5"));
    assert_string_equal(s.options.prompt, "-- said he");
    assert_int_equal(s.options.tokens, 5);
    assert_true(PARSE(&s, CMD_GENERATE, &e, "--max_new_tokens=6", "--prompt=--stop", "--no-json"));
    assert_int_equal(s.options.tokens, 6);
    assert_string_equal(s.options.prompt, "--stop");
    assert_true(PARSE(&s, CMD_GENERATE, &e, "--max-new-tokens", "7", "--prompt="));
    assert_int_equal(s.options.tokens, 7);
}

static void test_positional(void **state) {
    (void)state;
    static Settings s;
    Error e;
    assert_true(PARSE(&s, CMD_TOKENIZE, &e, "--input", "a", "b", "--input=-", "-", "--", "--c"));
    const char *const expected[] = {"a", "b", "-", "-", "--c"};
    assert_int_equal(s.n_positional, 5);
    for (int i = 0; i < 5; i++) assert_string_equal(s.positional[i], expected[i]);
    ASSERT_MISUSE(CMD_TRAIN, "`puck train` takes no such argument", "steps",
                  "Options begin with --, and values with spaces stand in quotes", "steps", "4");
    char *argv[300] = {"tokenize"};
    for (int i = 1; i < 300; i++) argv[i] = "file";
    bool help;
    assert_false(options_parse(&s, CMD_TOKENIZE, 300, argv, &help, &e));
    assert_string_equal(e.text, "there are more than 256 arguments");
}

static void test_help_is_asked(void **state) {
    (void)state;
    static Settings s;
    Error e;
    bool help;
    char *asked[] = {"train", "--nonsense", "--lr", "x", "-h"};
    assert_true(options_parse(&s, CMD_TRAIN, 5, asked, &help, &e));
    assert_true(help);
    char *value[] = {"generate", "--prompt", "-h"};
    assert_true(options_parse(&s, CMD_GENERATE, 3, value, &help, &e));
    assert_false(help);
    assert_string_equal(s.options.prompt, "-h");
}

static void test_unknown_flags(void **state) {
    (void)state;
    ASSERT_MISUSE(CMD_TRAIN, "`puck train` has no such option", "--layer", "Did you mean --layers?",
                  "--layer", "3");
    ASSERT_MISUSE(CMD_TRAIN, "`puck train` has no such option", "--batchsize",
                  "Did you mean --batch-size?", "--batchsize=3");
    ASSERT_MISUSE(CMD_GENERATE, "`puck generate` has no such option", "--temp",
                  "Did you mean --temperature?", "--temp", "1");
    ASSERT_MISUSE(CMD_TRAIN, "`puck train` has no such option", "--xyzzyx",
                  "`puck train --help` lists the options", "--xyzzyx");
    ASSERT_MISUSE(CMD_TRAIN, "`puck train` has no such option", "-x",
                  "`puck train --help` lists the options", "-x");
    ASSERT_MISUSE(CMD_TRAIN, "`puck train` has no such option", "--no-lr",
                  "`puck train --help` lists the options", "--no-lr");
    ASSERT_MISUSE(CMD_TRAIN, "`puck train` does not take this option", "--top-k",
                  "These take it: puck generate", "--top-k", "3");
    ASSERT_MISUSE(CMD_TRAIN, "`puck train` does not take this option", "-p",
                  "These take it: puck generate", "-p", "3");
}

static void test_missing_values(void **state) {
    (void)state;
    ASSERT_MISUSE(CMD_TRAIN, "this option needs a value", "--lr", "", "--lr");
    ASSERT_MISUSE(CMD_TRAIN, "this option needs a value", "--run",
                  "A value that looks like a flag goes after a =", "--run", "--fresh");
    ASSERT_MISUSE(CMD_TRAIN, "a --no- option takes no value", "--no-bias", "", "--no-bias=true");
    ASSERT_MISUSE(CMD_TRAIN, "bias must be true or false, not \"yes\"", "--bias", "", "--bias=yes");
}

static void test_numbers_are_strict(void **state) {
    (void)state;
    static const char *const no_int[] = {"",
                                         " 1",
                                         "1 ",
                                         "1x",
                                         "0x10",
                                         "1e3",
                                         "1.0",
                                         "--1",
                                         "-1",
                                         "+",
                                         "0",
                                         "257",
                                         "99999999999999999999",
                                         "nan",
                                         "-"};
    for (int i = 0; i < COUNT_OF(no_int); i++) {
        char text[128];
        snprintf(text, sizeof text, "layers must be a whole number from 1 to 256, not \"%s\"",
                 no_int[i]);
        ASSERT_MISUSE(CMD_TRAIN, text, "--layers", "", "--layers", no_int[i]);
    }
    static const char *const no_float[] = {"",    " 0.5", "0.5 ", "0.5x", "0x1p-3",
                                           "nan", "inf",  "-0.1", "0.96", "1e999",
                                           "e",   "1e",   ".",    "NAN",  "0,5"};
    for (int i = 0; i < COUNT_OF(no_float); i++) {
        char text[128];
        snprintf(text, sizeof text, "dropout must be a number from 0 to 0.95, not \"%s\"",
                 no_float[i]);
        ASSERT_MISUSE(CMD_TRAIN, text, "--dropout", "", "--dropout", no_float[i]);
    }
    ASSERT_MISUSE(CMD_TRAIN, "schedule must be one of cosine|linear|constant|wsd, not \"cos\"",
                  "--schedule", "", "--schedule", "cos");
    ASSERT_MISUSE(CMD_TRAIN, "schedule must be one of cosine|linear|constant|wsd, not \"\"",
                  "--schedule", "", "--schedule=");
}

/* Both ends of every range are allowed, the next number beyond is not. */
static void test_ranges(void **state) {
    (void)state;
    static Settings s;
    Error e;
    int n = 0;
    options_defaults(&s);
    for (int i = 0; i < n_option_rows; i++) {
        const OptionRow *row = &option_rows[i];
        if (row->type != TYPE_INT && row->type != TYPE_FLOAT) continue;
        const double ends[2] = {row->minimum, row->maximum};
        for (int k = 0; k < 2; k++) {
            char text[64];
            const double beyond = row->type == TYPE_INT
                                      ? ends[k] + (k ? 1 : -1)
                                      : nextafter(ends[k], k ? INFINITY : -INFINITY);
            snprintf(text, sizeof text, "%.17g", ends[k]);
            assert_true(options_set(&s, row->name, text, FROM_FLAG, "here", &e));
            snprintf(text, sizeof text, row->type == TYPE_INT ? "%.0f" : "%.17g", beyond);
            assert_false(options_set(&s, row->name, text, FROM_FLAG, "here", &e));
            assert_int_equal(e.code, EXIT_MISUSE);
            n++;
        }
    }
    assert_true(n > 50);
}

static void test_long_strings(void **state) {
    (void)state;
    static Settings s;
    Error e;
    char text[OPTION_STRING_MAX + 1];
    memset(text, 'x', sizeof text);
    text[OPTION_STRING_MAX] = '\0';
    options_defaults(&s);
    assert_false(options_set(&s, "run", text, FROM_FLAG, "--run", &e));
    assert_string_equal(e.text, "the value of run is longer than 1023 bytes");
    assert_string_equal(s.options.run, "");
    text[OPTION_STRING_MAX - 1] = '\0';
    assert_true(options_set(&s, "run", text, FROM_FLAG, "--run", &e));
    assert_string_equal(s.options.run, text);
    /* What a message repeats of it is short, printable and whole characters. */
    ASSERT_MISUSE(CMD_TRAIN, "there is no preset \"a?\xc3\xa4\"", "--preset",
                  "`puck info` lists the presets", "--preset", "a\x1b\xc3\xa4");
    for (int lead = 0; lead < 3; lead++) {
        char cut[300];
        strcpy(cut, "xxx");
        for (int i = 0; i < 99; i++) memcpy(cut + lead + 2 * i, "\xc3\xa4", 3);
        assert_false(options_set(&s, "steps", cut, FROM_FLAG, "--steps", &e));
        assert_true(strlen(e.text) < 160);
        const char *dots = strstr(e.text, "...\"");
        assert_non_null(dots);
        assert_memory_equal(dots - 2, "\xc3\xa4", 2);
    }
}

static void test_nearest(void **state) {
    (void)state;
    static const char *const names[] = {"layers", "learn", "batch_size", "lr", NULL};
    assert_string_equal(options_nearest("layer", names), "layers");
    assert_string_equal(options_nearest("batch-siez", names), "batch_size");
    assert_string_equal(options_nearest("bat", names), "batch_size");
    assert_string_equal(options_nearest("l", names), "lr");
    assert_null(options_nearest("xy", names));
    assert_null(options_nearest("", names));
    assert_null(options_nearest("entirely-different", names));
    char long_name[2000];
    memset(long_name, 'l', sizeof long_name);
    long_name[sizeof long_name - 1] = '\0';
    assert_null(options_nearest(long_name, names));
}

static bool read_text(Settings *s, const char *text, Error *e) {
    options_defaults(s);
    return options_read_text(s, "my.toml", text, strlen(text), e);
}

static void test_config_text(void **state) {
    (void)state;
    static Settings s;
    Error e;
    assert_true(
        read_text(&s,
                  "\xef\xbb\xbf# first\r\n\n  layers=3 # three\r\nlr\t= 2e-3\n"
                  "batch-size = 7\r\n\r\nbias = false\nschedule = wsd\ndata = \"a # b\\t\\u00e4\"\n"
                  "run = 'C:\\x'",
                  &e));
    assert_int_equal(s.options.layers, 3);
    assert_true(s.options.lr == 2e-3);
    assert_int_equal(s.options.batch_size, 7);
    assert_false(s.options.bias);
    assert_string_equal(s.options.schedule, "wsd");
    assert_string_equal(s.options.data, "a # b\t\xc3\xa4");
    assert_string_equal(s.options.run, "C:\\x");
    assert_int_equal(options_source(&s, "layers"), FROM_FILE);
    assert_true(read_text(&s, "", &e));
    assert_true(read_text(&s, "data = \"a\tb\"", &e));
    assert_string_equal(s.options.data, "a\tb");
    assert_true(read_text(&s, "data = \"\\U0001F600\\u20AC\\\"\\\\\\b\\f\\n\\r\"", &e));
    assert_string_equal(s.options.data, "\xf0\x9f\x98\x80\xe2\x82\xac\"\\\b\f\n\r");
}

static void test_config_faults(void **state) {
    (void)state;
    static const struct {
        const char *text, *place, *message;
    } faults[] = {
        {"layers = 3\n\nlayres = 4\n", "my.toml:3", "there is no option \"layres\""},
        {"fresh = true", "my.toml:1", "fresh is no setting of a run"},
        {"steps = 1\nsteps = 1", "my.toml:2", "steps is set twice"},
        {"batch_size = 1\nbatch-size = 1", "my.toml:2", "batch-size is set twice"},
        {"\n[model]\n", "my.toml:2", "config files have no sections"},
        {"layers", "my.toml:1", "this is no `key = value` line"},
        {"= 3", "my.toml:1", "this is no `key = value` line"},
        {"\"layers\" = 3", "my.toml:1", "this is no `key = value` line"},
        {"layers =", "my.toml:1", "layers has no value"},
        {"layers = # 3", "my.toml:1", "layers has no value"},
        {"layers = 3 4", "my.toml:1", "the line goes on after the value of layers"},
        {"data = a b", "my.toml:1", "the line goes on after the value of data"},
        {"data = [\"a\"]", "my.toml:1", "the line goes on after the value of data"},
        {"data = \"a\" b", "my.toml:1", "the line goes on after the value of data"},
        {"data = \"a", "my.toml:1", "the value of data has no closing quote"},
        {"data = 'a\nb'", "my.toml:1", "the value of data has no closing quote"},
        {"data = \"\\x\"", "my.toml:1", "the value of data has an escape that TOML does not know"},
        {"data = \"\\u12\"", "my.toml:1",
         "the value of data has an escape that TOML does not know"},
        {"data = \"\\u0000\"", "my.toml:1",
         "the value of data has an escape that TOML does not know"},
        {"data = \"\\ud800\"", "my.toml:1",
         "the value of data has an escape that TOML does not know"},
        {"data = \"\\U00110000\"", "my.toml:1",
         "the value of data has an escape that TOML does not know"},
        {"data = \"\\", "my.toml:1", "the value of data has an escape that TOML does not know"},
        {"data = \"\x01\"", "my.toml:1", "the value of data has a control character in it"},
        {"layers = 0", "my.toml:1", "layers must be a whole number from 1 to 256, not \"0\""},
        {"steps = 3\npreset = gpt3", "my.toml:2", "there is no preset \"gpt3\""},
    };
    static Settings s;
    for (int i = 0; i < COUNT_OF(faults); i++) {
        Error e;
        assert_false(read_text(&s, faults[i].text, &e));
        assert_string_equal(e.text, faults[i].message);
        assert_string_equal(e.place, faults[i].place);
        assert_int_equal(e.code, EXIT_MISUSE);
    }
    Error e;
    assert_false(read_text(&s, "layres = 4\n", &e));
    assert_string_equal(e.hint, "Did you mean layers?");
    char nul[] = "layers = 3\0\n";
    assert_false(options_read_text(&s, "my.toml", nul, sizeof nul - 1, &e));
}

/* Every cut and every flipped bit of a file reads or is refused with a place; nothing crashes. */
static void test_damaged_config(void **state) {
    (void)state;
    static Settings s;
    options_defaults(&s);
    strcpy(s.options.data, "a\"\\\n\x01 b");
    strcpy(s.options.preset, "gpt2");
    size_t bytes;
    char *text = written(&s.options, CMD_ALL, &bytes);
    Error e;
    int64_t n_read = 0, n_refused = 0;
    for (size_t cut = 0; cut <= bytes; cut++) {
        char *copy = malloc(cut + 1); /* exact, so that a checker sees a step beyond */
        memcpy(copy, text, cut);
        if (options_read_text(&s, "cut", copy, cut, &e))
            n_read++;
        else
            n_refused += !strncmp(e.place, "cut:", 4);
        free(copy);
    }
    assert_int_equal(n_read + n_refused, bytes + 1);
    assert_true(n_read > 30 && n_refused > 30);
    n_read = n_refused = 0;
    for (size_t bit = 0; bit < 8 * bytes; bit++) {
        text[bit / 8] ^= (char)(1 << bit % 8);
        if (options_read_text(&s, "bit", text, bytes, &e))
            n_read++;
        else
            n_refused += !strncmp(e.place, "bit:", 4);
        text[bit / 8] ^= (char)(1 << bit % 8);
    }
    assert_int_equal(n_read + n_refused, 8 * bytes);
    assert_true(n_read > 100 && n_refused > 100);
    free(text);
}

static void test_precedence(void **state) {
    (void)state;
    static Settings s;
    Error e;
    char folder[] = "/tmp/test_options_XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/c.toml", folder);
    FILE *file = fopen(path, "w");
    fputs("layers = 5\npreset = \"shakespeare-gpt2\"\nlr = 0.5\n", file);
    fclose(file);

    assert_true(PARSE(&s, CMD_TRAIN, &e, "--lr", "0.25", "--config", path));
    assert_int_equal(s.options.channels, 384); /* the file's preset */
    assert_int_equal(s.options.layers, 5);     /* the file, though its preset says 6 below */
    assert_true(s.options.lr == 0.25);
    assert_int_equal(options_source(&s, "channels"), FROM_PRESET);
    assert_int_equal(options_source(&s, "layers"), FROM_FILE);
    assert_int_equal(options_source(&s, "lr"), FROM_FLAG);
    assert_string_equal(s.options.preset, "shakespeare-gpt2");

    assert_true(PARSE(&s, CMD_TRAIN, &e, "--config", path, "--preset", "gpt2"));
    assert_int_equal(s.options.channels, 768); /* a flag's preset wins */
    assert_int_equal(s.options.layers, 5);
    assert_string_equal(s.options.preset, "gpt2");

    assert_false(PARSE(&s, CMD_TRAIN, &e, "--config", folder));
    assert_int_equal(e.code, EXIT_FAILED);
    assert_string_equal(e.text, "the config file cannot be read: Is a directory");
    unlink(path);
    assert_false(PARSE(&s, CMD_TRAIN, &e, "--config", path));
    assert_string_equal(e.text, "the config file cannot be read: No such file or directory");
    assert_string_equal(e.place, path);
    rmdir(folder);
}

static void test_presets(void **state) {
    (void)state;
    static Settings s;
    Error e;
    int n = 0;
    for (; preset_name(n); n++) {
        options_defaults(&s);
        assert_true(preset_apply(&s, preset_name(n), &e));
        assert_int_equal(s.options.channels % s.options.heads, 0);
        assert_int_equal(options_source(&s, "layers"), FROM_PRESET);
    }
    assert_int_equal(n, 13);
    ASSERT_MISUSE(CMD_TRAIN, "there is no preset \"shakespear-gpt2\"", "--preset",
                  "Did you mean shakespeare-gpt2?", "--preset", "shakespear-gpt2");
    assert_true(PARSE(&s, CMD_TRAIN, &e, "--preset=shakespeare-cpu-gpt2"));
    const Options *o = &s.options;
    assert_true(o->layers == 4 && o->heads == 4 && o->channels == 128 && o->context == 64);
    assert_true(o->batch_size == 12 && o->steps == 2000 && o->warmup == 100 && !o->bias);
    assert_true(o->lr == 1e-3 && o->min_lr == 1e-4 && o->beta1 == 0.9 && o->beta2 == 0.99);
    assert_true(o->weight_decay == 0.1 && o->clip == 1 && o->dropout == 0 && o->adam_eps == 1e-8);
    assert_string_equal(o->order, "shuffle");
    assert_string_equal(o->schedule, "cosine");
    assert_string_equal(o->tokenizer, "char");
}

static void test_choices(void **state) {
    (void)state;
    char text[16];
    assert_int_equal(options_choice("positions", "learned"), 0);
    assert_int_equal(options_choice("positions", "none"), 3);
    assert_int_equal(options_choice("positions", "rotar"), -1);
    assert_int_equal(options_choice("positions", ""), -1);
    assert_string_equal(options_choice_text("positions", 2, text, sizeof text), "rotary-reversed");
    assert_string_equal(options_choice_text("positions", 3, text, sizeof text), "none");
    assert_string_equal(options_choice_text("positions", 0, text, 4), "lea");
}

/* Every option of a command stands in its help, once. */
static void test_help_is_complete(void **state) {
    (void)state;
    for (int bit = 1; bit < CMD_ALL; bit <<= 1) {
        char *text = NULL;
        size_t bytes;
        FILE *out = open_memstream(&text, &bytes);
        options_help(bit, out);
        fclose(out);
        const char *options = strstr(text, "\n\nOptions, with [default; range or choices]:\n");
        assert_non_null(options);
        assert_ptr_equal(strstr(text, "usage: puck "), text);
        for (int i = 0; i < n_option_rows; i++) {
            char flag[64];
            const bool no = option_rows[i].type == TYPE_BOOL && option_rows[i].initial[0] == 't';
            snprintf(flag, sizeof flag, "--%s%s", no ? "[no-]" : "", option_rows[i].name);
            for (char *c = flag; *c; c++)
                if (*c == '_') *c = '-';
            strcat(flag, option_rows[i].type == TYPE_BOOL ? "  " : " ");
            const char *found = strstr(options, flag);
            assert_int_equal(found != NULL, (option_rows[i].commands & bit) != 0);
            if (found) assert_null(strstr(found + 1, flag));
        }
        for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
            assert_true(strlen(line) <= 100 && line[strlen(line) - 1] != ' ');
        free(text);
    }
}

static void test_bytes(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {
        {"1", 1}, {"1k", 1000}, {"80G", 80000000000}, {"1.5M", 1500000}, {"2T", 2000000000000}};
    static const char *const bad[] = {"",    "G",    "-1G", "1GB",           "0", "nan", "inf",
                                      "1e3", "0x10", " 1",  "9999999999999T"};
    Error e;
    int64_t bytes;
    for (int i = 0; i < COUNT_OF(good); i++) {
        assert_true(options_bytes(good[i].text, "--device-memory", &bytes, &e));
        assert_int_equal(bytes, good[i].bytes);
    }
    for (int i = 0; i < COUNT_OF(bad); i++) {
        assert_false(options_bytes(bad[i], "--device-memory", &bytes, &e));
        assert_int_equal(e.code, EXIT_MISUSE);
        assert_string_equal(e.place, "--device-memory");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row_reads_back),
        cmocka_unit_test(test_file_reads_back),
        cmocka_unit_test(test_floats_keep_their_bits),
        cmocka_unit_test(test_flag_forms),
        cmocka_unit_test(test_positional),
        cmocka_unit_test(test_help_is_asked),
        cmocka_unit_test(test_unknown_flags),
        cmocka_unit_test(test_missing_values),
        cmocka_unit_test(test_numbers_are_strict),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_long_strings),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_config_text),
        cmocka_unit_test(test_config_faults),
        cmocka_unit_test(test_damaged_config),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_help_is_complete),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Checkpoints: what a save holds, what it keeps, and that damage is seen. */
#include "log.h"
#include "safetensors.h"
#include "tiny.h"
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* Thousands of saves of this program need not reach the disk. */
int fsync(int fd) {
    (void)fd;
    return 0;
}

static Tiny tiny;
static Tokenizer tokenizer;
static Options options;

static int setup(void **state) {
    scratch_setup(state);
    log_set_level(LOG_ERROR); /* damage is made on purpose */
    Settings s;
    options_defaults(&s);
    options = s.options;
    tiny_tokenizer(&tokenizer);
    tiny_open(&tiny, &tiny_config, true);
    return 0;
}

static int teardown(void **state) {
    tiny_close(&tiny);
    tokenizer_free(&tokenizer);
    return scratch_teardown(state);
}

/* Saves the tiny model filled from its step. */
static void save(const char *run, int64_t step, int64_t keep) {
    Error e;
    const TrainState s = tiny_state(step);
    tiny_fill(&tiny, (uint64_t)step);
    if (!checkpoint_save(run, &tiny.m, &tokenizer, &options, &s, keep, &e))
        fail_msg("%s (%s)", e.text, e.place);
}

/* The step whose weights and moments the folder holds, in full. */
static void check_holds(const char *folder, int64_t step) {
    Tiny want, have;
    Error e;
    TrainState s;
    tiny_open(&want, &tiny_config, true);
    tiny_open(&have, &tiny_config, true);
    tiny_fill(&want, (uint64_t)step);
    if (!checkpoint_read_weights(folder, &have.m, &e) ||
        !checkpoint_read_optim(folder, &have.m, &e) || !checkpoint_read_state(folder, &s, &e))
        fail_msg("%s (%s)", e.text, e.place);
    assert_true(tiny_same(&want, &have));
    assert_int_equal(s.step, step);
    tiny_close(&want);
    tiny_close(&have);
}

/* Folders of RUN/ckpt as one line, links and what they point at included. */
static const char *listing(const char *run) {
    static char text[4096];
    char ckpt[600], path[900], target[256];
    struct dirent **names;
    snprintf(ckpt, sizeof ckpt, "%s/ckpt", run);
    const int n = scandir(ckpt, &names, NULL, alphasort);
    text[0] = 0;
    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name;
        snprintf(path, sizeof path, "%s/%.250s", ckpt, name);
        const ssize_t length = readlink(path, target, sizeof target - 1);
        if (length >= 0) target[length] = 0;
        if (name[0] != '.')
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s%s ", name,
                     length >= 0 ? ">" : "", length >= 0 ? target : "");
        free(names[i]);
    }
    free(names);
    return text;
}

static void test_round_trip(void **state) {
    (void)state;
    const char *run = scratch_path("trip");
    Error e;
    char folder[600];
    strcpy(options.data, "a \"quoted\" name");
    options.lr = 0.1;
    save(run, 30, 2);
    assert_true(checkpoint_find(run, folder, sizeof folder, &e));
    check_holds(folder, 30);

    TrainState s, want = tiny_state(30);
    assert_true(checkpoint_read_state(folder, &s, &e));
    assert_int_equal(s.samples, want.samples);
    assert_int_equal(s.tokens, want.tokens);
    assert_int_equal(s.best_step, 30);
    assert_true(s.best_loss == 1.5 && s.elapsed_sec == 0.1 && s.eval_due && !s.finished);
    assert_true(s.tokenizer_hash == want.tokenizer_hash && s.data_hash == want.data_hash);

    ModelConfig c;
    assert_true(checkpoint_read_config(folder, &c, &e));
    assert_memory_equal(&c, &tiny_config, sizeof c);

    Settings settings;
    options_defaults(&settings);
    assert_true(checkpoint_read_options(folder, &settings, &e));
    for (int i = 0; i < n_option_rows; i++)
        if (option_rows[i].kind != OPTION_ACTION && option_rows[i].commands & CMD_TRAIN)
            assert_true(options_equal(&settings.options, &options, &option_rows[i]));

    Tokenizer again;
    char path[700];
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    assert_true(tokenizer_load(&again, path, &e));
    assert_true(tokenizer_hash(&again) == tokenizer_hash(&tokenizer));
    tokenizer_free(&again);
}

/* Infinity is null; a model without training or run has no moments and no config.toml. */
static void test_bare_model(void **state) {
    (void)state;
    const char *run = scratch_path("bare");
    const char *folder = scratch_path("bare/ckpt/step-00000000");
    ModelConfig config = tiny_config, c;
    config.bias = false;
    config.dropout = 0;
    config.norm_eps = 0x1.5p-17; /* a value that is no short decimal */
    Tiny model, again;
    tiny_open(&model, &config, false);
    tiny_open(&again, &config, false);
    tiny_fill(&model, 1);
    Error e;
    TrainState s = {.best_loss = INFINITY};
    assert_true(checkpoint_save(run, &model.m, &tokenizer, NULL, &s, 2, &e));
    assert_true(checkpoint_read_state(folder, &s, &e));
    assert_true(isinf(s.best_loss) && s.best_loss > 0);
    assert_true(checkpoint_read_config(folder, &c, &e));
    assert_memory_equal(&c, &config, sizeof c);
    assert_true(checkpoint_read_weights(folder, &again.m, &e));
    assert_true(tiny_same(&model, &again));
    assert_false(checkpoint_read_optim(folder, &again.m, &e));
    assert_int_equal(access(scratch_path("bare/ckpt/step-00000000/config.toml"), F_OK), -1);
    tiny_close(&model);
    tiny_close(&again);
}

/* Copies a safetensors file, its first tensor under the name FIRST@AT. */
static void copy_renamed(const char *to, const char *from, const char *at) {
    SafetensorsFile f;
    Error e;
    if (!safetensors_open(&f, from, &e)) fail_msg("%s", e.text);
    SafetensorsWriter *w = safetensors_create(to, &e);
    assert_non_null(w);
    for (int i = 0; i < f.n_entries; i++) {
        const SafetensorsEntry *t = &f.entries[i];
        char name[200];
        snprintf(name, sizeof name, "%s%s", t->name, i ? "" : at);
        safetensors_declare(w, name, t->dtype, t->rank, t->dim);
    }
    assert_true(safetensors_begin(w, &e));
    for (int i = 0; i < f.n_entries; i++)
        assert_true(safetensors_write(w, f.entries[i].data, f.entries[i].bytes, &e));
    assert_true(safetensors_finish(w, &e));
    safetensors_close(&f);
}

/* A part of a moment that would begin or end outside of its parameter. */
static void test_part_outside(void **state) {
    (void)state;
    const char *run = scratch_path("part");
    const char *folder = scratch_path("part/ckpt/step-00000001");
    const char *path = scratch_path("part/ckpt/step-00000001/optim.safetensors");
    save(run, 1, 2);
    const char *const places[] = {"@1", "@9223372036854775807", "@9223372036854775800"};
    for (int64_t i = 0; i < COUNT_OF(places); i++) {
        const char *other = scratch_path("part/optim");
        copy_renamed(other, path, places[i]);
        Tiny have;
        Error e;
        tiny_open(&have, &tiny_config, true);
        assert_int_equal(rename(path, scratch_path("part/whole")), 0);
        assert_int_equal(rename(other, path), 0);
        assert_false(checkpoint_read_optim(folder, &have.m, &e));
        assert_non_null(strstr(e.text, places[i]));
        assert_string_equal(e.place, path);
        assert_int_equal(rename(scratch_path("part/whole"), path), 0);
        tiny_close(&have);
    }
    check_holds(folder, 1);
}

/* A recurrent model's states, in a file whose data is not aligned. */
static void test_carry(void **state) {
    (void)state;
    ModelConfig config = tiny_config;
    config.kind = MODEL_RNN;
    Tiny rnn;
    Error e;
    tiny_open_with(&rnn, &config, &(ModelUse){.B = 3, .T = 4, .training = true});
    const int64_t n = tensor_count(rnn.m.carry);
    float *carry = tiny_data(rnn.m.carry);
    assert_true(n > 0);
    char *file = NULL;
    size_t bytes;
    FILE *out = open_memstream(&file, &bytes);
    assert_non_null(out);
    char header[200];
    const int length = snprintf(
        header, sizeof header,
        "{\"carry\":{\"dtype\":\"F32\",\"shape\":[%ld,%ld],\"data_offsets\":[0,%ld]}}",
        (long)rnn.m.carry.dim[0], (long)rnn.m.carry.dim[1], (long)(4 * n));
    const uint64_t odd = (uint64_t)(length | 1);
    fwrite(&odd, sizeof odd, 1, out);
    fprintf(out, "%-*s", (int)odd, header);
    for (int64_t i = 0; i < n; i++) fwrite(&(float){0.5f + (float)i}, sizeof(float), 1, out);
    fclose(out);
    assert_int_equal(mkdir(scratch_path("carry"), 0777), 0);
    file_put(scratch_path("carry/carry.safetensors"), file, (int64_t)bytes);
    if (!checkpoint_read_carry(scratch_path("carry"), &rnn.m, &e)) fail_msg("%s", e.text);
    for (int64_t i = 0; i < n; i++) assert_true(carry[i] == 0.5f + (float)i);
    free(file);
    tiny_close(&rnn);
}

/* model.safetensors of `model` against the rule: (in, out) for linear layers, vocabulary cut. */
static void check_layout(const Tiny *model, const char *path) {
    SafetensorsFile f;
    Error e;
    const ModelConfig *c = &model->m.config;
    assert_true(safetensors_open(&f, path, &e));
    assert_int_equal(f.n_entries, 4 + 12 * c->layers); /* biases always */
    static const char begin[] = "{\"__metadata__\":{\"format\":\"pt\"}";
    assert_memory_equal((const char *)f.map + 8, begin, sizeof begin - 1);
    for (int i = 0; i < model->m.n_params; i++) {
        const Param *p = &model->m.params[i];
        char name[100];
        snprintf(name, sizeof name, "transformer.%s", p->name);
        const SafetensorsEntry *t = safetensors_find(&f, name);
        assert_non_null(t);
        assert_int_equal(t->dtype, DTYPE_F32);
        assert_int_equal(t->count, tiny_live(&model->m, p));
        assert_int_equal(t->rank, p->w.rank);
        const int64_t cols = p->w.rank == 2 ? p->w.dim[1] : 1, rows = t->count / cols;
        const bool swapped = strstr(name, "c_") && p->w.rank == 2;
        assert_int_equal(t->dim[0], swapped ? cols : rows);
        const float *disk = t->data, *memory = tiny_data(p->w);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t col = 0; col < cols; col++) {
                const float value = disk[swapped ? col * rows + r : r * cols + col];
                if (value != memory[r * cols + col]) fail_msg("%s at (%ld,%ld)", name, r, col);
            }
    }
    for (int i = 0; i < f.n_entries; i++) { /* what the model has not is zero */
        const SafetensorsEntry *t = &f.entries[i];
        if (c->bias || !strstr(t->name, ".bias")) continue;
        for (int64_t k = 0; k < t->count; k++) assert_true(((const float *)t->data)[k] == 0);
    }
    safetensors_close(&f);
}

static void test_layout(void **state) {
    (void)state;
    /* 64 symbols: no padding. The last is wider than the stage of 2 Mi elements. */
    const ModelConfig configs[] = {
        tiny_config,
        {.vocab = 64, .context = 3, .layers = 1, .heads = 3, .channels = 12, .hidden = 48},
        {.vocab = 3000, .context = 9, .layers = 1, .heads = 1, .channels = 800, .hidden = 3200},
    };
    for (int64_t i = 0; i < COUNT_OF(configs); i++) {
        Tiny model, again;
        Error e;
        const char *run = scratch_path("layout");
        tiny_open(&model, &configs[i], false);
        tiny_open(&again, &configs[i], false);
        tiny_fill(&model, 5);
        memset(again.m.arena.base[ARENA_PARAMETERS], 0xff,
               (size_t)again.m.arena.bytes[ARENA_PARAMETERS]);
        const TrainState s = {.step = 1};
        assert_true(checkpoint_save(run, &model.m, &tokenizer, NULL, &s, 2, &e));
        check_layout(&model, scratch_path("layout/ckpt/step-00000001/model.safetensors"));
        assert_true(checkpoint_read_weights(scratch_path("layout/ckpt/latest"), &again.m, &e));
        assert_true(tiny_same(&model, &again)); /* padding included: it was NaN before */
        tiny_close(&model);
        tiny_close(&again);
        scratch_remove(run);
    }
}

static void test_rotation(void **state) {
    (void)state;
    const char *run = scratch_path("rotate");
    Error e;
    for (int64_t step = 1; step <= 1000; step++) {
        save(run, step, 3);
        if (step == 400) assert_true(checkpoint_mark_best(run, 400, &e));
    }
    assert_string_equal(listing(run), "best>step-00000400 latest>step-00001000 step-00000400 "
                                      "step-00000998 step-00000999 step-00001000 ");
    check_holds(scratch_path("rotate/ckpt/best"), 400);
    check_holds(scratch_path("rotate/ckpt/latest"), 1000);
    assert_true(checkpoint_mark_best(run, 999, &e));
    save(run, 1001, 3); /* the old best is an old one now */
    assert_string_equal(listing(run), "best>step-00000999 latest>step-00001001 step-00000999 "
                                      "step-00001000 step-00001001 ");
    assert_false(checkpoint_mark_best(run, 5, &e));
}

/* A step saved again replaces its folder; what a crash left behind goes; later steps stay. */
static void test_save_again(void **state) {
    (void)state;
    const char *run = scratch_path("again");
    save(run, 10, 2);
    save(run, 20, 2);
    assert_int_equal(mkdir(scratch_path("again/ckpt/step-00000030.tmp"), 0777), 0);
    file_put(scratch_path("again/ckpt/step-00000030.tmp/model.safetensors"), "half", 4);
    assert_int_equal(symlink("step-00000099", scratch_path("again/ckpt/best.tmp")), 0);
    tiny_fill(&tiny, 77);
    TrainState s = tiny_state(20);
    s.finished = true;
    Error e;
    assert_true(checkpoint_save(run, &tiny.m, &tokenizer, &options, &s, 2, &e));
    assert_string_equal(listing(run), "latest>step-00000020 step-00000010 step-00000020 ");
    assert_true(checkpoint_read_state(scratch_path("again/ckpt/step-00000020"), &s, &e));
    assert_true(s.finished);
    save(run, 15, 2);
    assert_string_equal(listing(run),
                        "latest>step-00000015 step-00000010 step-00000015 step-00000020 ");
}

/* Finds RUN's checkpoint; fails the test unless it is of this step (-1: none may be found). */
static void check_finds(const char *run, int64_t step) {
    char folder[600], want[64];
    Error e = {0};
    snprintf(want, sizeof want, "/step-%08ld", (long)step);
    const bool found = checkpoint_find(run, folder, sizeof folder, &e);
    if (step < 0) {
        assert_false(found);
        assert_true(e.text[0]);
    } else {
        assert_true(found);
        assert_non_null(strstr(folder, want));
    }
}

/* Every bit of the small files and of the manifest, a sample of the large ones. */
static void test_flipped_bits(void **state) {
    (void)state;
    const char *run = scratch_path("flip");
    save(run, 1, 2);
    save(run, 2, 2);
    static const struct {
        const char *name;
        int64_t stride;
    } files[] = {
        {"MANIFEST.json", 1},         {"config.json", 3},          {"generation_config.json", 3},
        {"tokenizer_config.json", 3}, {"state.json", 3},           {"config.toml", 7},
        {"tokenizer.json", 7},        {"model.safetensors", 1009}, {"optim.safetensors", 1009},
    };
    char folder[600], path[700];
    snprintf(folder, sizeof folder, "%s/ckpt/step-00000002", run);
    Error e;
    for (int64_t i = 0; i < COUNT_OF(files); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i].name);
        int64_t n;
        char *bytes = file_get(path, &n);
        const int fd = open(path, O_WRONLY);
        assert_true(fd >= 0);
        for (int64_t bit = 0; bit < 8 * n; bit += files[i].stride) {
            const char flipped = (char)(bytes[bit / 8] ^ 1 << bit % 8);
            assert_int_equal(pwrite(fd, &flipped, 1, bit / 8), 1);
            if (checkpoint_verify(folder, &e)) fail_msg("%s: bit %ld", files[i].name, (long)bit);
            assert_true(strncmp(e.place, folder, strlen(folder)) == 0);
            if (bit == 0) check_finds(run, 1);
            assert_int_equal(pwrite(fd, bytes + bit / 8, 1, bit / 8), 1);
        }
        close(fd);
        free(bytes);
    }
    check_finds(run, 2);
}

/* Every file of a checkpoint cut short, or gone: the older one is taken; then none is left. */
static void test_damage(void **state) {
    (void)state;
    static const char *const files[] = {"model.safetensors", "state.json", "MANIFEST.json"};
    const char *run = scratch_path("damage");
    char path[700];
    for (int64_t i = 0; i < COUNT_OF(files); i++) {
        save(run, 1, 2);
        save(run, 2, 2);
        check_finds(run, 2);
        snprintf(path, sizeof path, "%s/ckpt/step-00000002/%s", run, files[i]);
        assert_int_equal(truncate(path, 100), 0);
        check_finds(run, 1);
        assert_int_equal(unlink(path), 0);
        check_finds(run, 1);
        snprintf(path, sizeof path, "%s/ckpt/step-00000001/%s", run, files[i]);
        assert_int_equal(unlink(path), 0);
        check_finds(run, -1);
        scratch_remove(run);
    }
}

/* In the place of a file, a pipe into which nobody writes, and a device without an end. */
static void test_no_file(void **state) {
    (void)state;
    const char *run = scratch_path("special");
    const char *path = scratch_path("special/ckpt/step-00000002/state.json");
    for (int pipe = 0; pipe < 2; pipe++) {
        Error e;
        save(run, 1, 2);
        save(run, 2, 2);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(pipe ? mkfifo(path, 0666) : symlink("/dev/zero", path), 0);
        assert_false(checkpoint_verify(scratch_path("special/ckpt/step-00000002"), &e));
        assert_string_equal(e.place, path);
        check_finds(run, 1);
        scratch_remove(run);
    }
}

/* A manifest is a list of plain names: it cannot make puck read elsewhere. */
static void test_manifest(void **state) {
    (void)state;
    const char *const bad[] = {
        "",
        "{",
        "[]",
        "{}",
        "{\"files\": {}}",
        "{\"files\": []}",
        "{\"files\": {\"a\": 1}}",
        "{\"files\": {\"a\": {\"bytes\": 1, \"xxh3\": \"2d06800538d394c2\"}}}",
        "{\"files\": {\"../a\": {\"bytes\": 0, \"xxh3\": \"2d06800538d394c2\"}}}",
        "{\"files\": {\"a\": {\"bytes\": 0, \"xxh3\": 5}}}",
        "{\"files\": {\"a\": {\"bytes\": 0.0, \"xxh3\": \"2d06800538d394c2\"}}}",
        "{\"files\": {\"a\": {\"bytes\": 0, \"xxh3\": \"2D06800538D394C2\"}}}",
        "{\"files\": {\"a\": {\"bytes\": 0, \"xxh3\": \"2d06800538d394c2\"}, \"a\": 1}}",
    };
    const char *good = "{\"files\": {\"a\": {\"bytes\": 0, \"xxh3\": \"2d06800538d394c2\"}}}";
    Error e;
    assert_int_equal(mkdir(scratch_path("manifest"), 0777), 0);
    file_put(scratch_path("manifest/a"), "", 0); /* XXH3 of nothing: 2d06800538d394c2 */
    file_put(scratch_path("manifest/MANIFEST.json"), good, (int64_t)strlen(good));
    assert_true(checkpoint_verify(scratch_path("manifest"), &e));
    for (int64_t i = 0; i < COUNT_OF(bad); i++) {
        file_put(scratch_path("manifest/MANIFEST.json"), bad[i], (int64_t)strlen(bad[i]));
        if (checkpoint_verify(scratch_path("manifest"), &e)) fail_msg("accepted: %s", bad[i]);
    }
}

static void test_find(void **state) {
    (void)state;
    Error e;
    char folder[600];
    assert_false(checkpoint_find(scratch_path("nowhere"), folder, sizeof folder, &e));
    assert_false(checkpoint_exists(scratch_path("nowhere")));
    assert_int_equal(mkdir(scratch_path("find"), 0777), 0);
    assert_false(checkpoint_find(scratch_path("find"), folder, sizeof folder, &e));
    file_put(scratch_path("find/config.json"), "{}", 2); /* as a Hugging Face folder */
    assert_true(checkpoint_find(scratch_path("find"), folder, sizeof folder, &e));
    assert_string_equal(folder, scratch_path("find"));
    assert_int_equal(mkdir(scratch_path("find/ckpt"), 0777), 0); /* as a run without a save */
    assert_false(checkpoint_find(scratch_path("find"), folder, sizeof folder, &e));
    /* Names that are no steps, whatever they hold. */
    assert_int_equal(mkdir(scratch_path("find/ckpt/step-1"), 0777), 0);
    assert_int_equal(mkdir(scratch_path("find/ckpt/step-00000003.tmp"), 0777), 0);
    assert_int_equal(mkdir(scratch_path("find/ckpt/step--0000003"), 0777), 0);
    assert_false(checkpoint_exists(scratch_path("find")));
    save(scratch_path("find"), 123456789, 2);
    assert_true(checkpoint_exists(scratch_path("find")));
    check_finds(scratch_path("find"), 123456789);
    assert_true(checkpoint_find(scratch_path("find/ckpt/latest"), folder, sizeof folder, &e));
}

/* state.json: every field is needed; cut anywhere it is refused. */
static void test_state_faults(void **state) {
    (void)state;
    save(scratch_path("state"), 7, 2);
    const char *folder = scratch_path("state/ckpt/latest");
    const char *path = scratch_path("state/ckpt/latest/state.json");
    int64_t n;
    char *text = file_get(path, &n), *broken = malloc((size_t)n + 1);
    TrainState s;
    Error e;
    assert_true(checkpoint_read_state(folder, &s, &e));
    for (int64_t cut = 0; cut < n - 2; cut++) { /* the last are "}\n" */
        file_put(path, text, cut);
        assert_false(checkpoint_read_state(folder, &s, &e));
    }
    for (char *key = text; (key = strstr(key, "  \"")); key++) {
        memcpy(broken, text, (size_t)n + 1);
        broken[key - text + 3] = '?';
        file_put(path, broken, n);
        assert_false(checkpoint_read_state(folder, &s, &e));
    }
    /* A count that nothing can be added to. */
    char *count = strstr(text, "\"samples\": ") + strlen("\"samples\": "), *large;
    assert_true(asprintf(&large, "%.*s9223372036854775807%s", (int)(count - text), text,
                         strchr(count, ',')) > 0);
    file_put(path, large, (int64_t)strlen(large));
    assert_false(checkpoint_read_state(folder, &s, &e));
    assert_non_null(strstr(e.text, "samples"));
    free(large);
    file_put(path, text, n);
    assert_true(checkpoint_read_state(folder, &s, &e));
    free(text);
    free(broken);
}

/* One writer: a second process is refused and told who; a lock without its process is none. */
static void test_lock(void **state) {
    (void)state;
    const char *run = scratch_path("deep/locked");
    int lock;
    Error e;
    assert_true(run_lock(run, &lock, &e)); /* makes the folder */
    for (int held = 1; held >= 0; held--) {
        const pid_t child = fork();
        if (child == 0) {
            int mine;
            char pid[32];
            snprintf(pid, sizeof pid, "process %ld ", (long)getppid());
            const bool got = run_lock(run, &mine, &e);
            _exit(got ? 10 : strstr(e.text, pid) && e.code == EXIT_FAILED ? 11 : 12);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(WEXITSTATUS(status), held ? 11 : 10);
        if (held) run_unlock(lock);
    }
    assert_true(run_lock(run, &lock, &e)); /* the second child ended with the lock in its hands */
    run_unlock(lock);
    assert_int_equal(mkdir(scratch_path("deep/locked/ckpt"), 0777), 0);
    assert_int_equal(mkdir(scratch_path("deep/locked/ckpt/step-00000001.tmp"), 0777), 0);
    assert_true(run_lock(run, &lock, &e)); /* whoever left this behind is gone */
    run_unlock(lock);
    assert_string_equal(listing(run), "");
    file_put(scratch_path("plain"), "", 0);
    assert_false(run_lock(scratch_path("plain"), &lock, &e));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_bare_model),
        cmocka_unit_test(test_layout),     cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_save_again), cmocka_unit_test(test_flipped_bits),
        cmocka_unit_test(test_damage),     cmocka_unit_test(test_manifest),
        cmocka_unit_test(test_find),       cmocka_unit_test(test_state_faults),
        cmocka_unit_test(test_lock),       cmocka_unit_test(test_part_outside),
        cmocka_unit_test(test_carry),      cmocka_unit_test(test_no_file),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

/* Weights of a model, to and from safetensors.
 *
 * On disk a linear layer's matrix is (in, out) in GPT-2's layout, its Conv1D; in memory and in
 * NanoChat's layout it is (out, in), and q, k, v are one matrix in memory, three there. Tensors
 * pass through a stage of a few megabytes: a file never needs the model's memory again. */
#include "io.h"
#include "safetensors.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the names of all but the head begin with; a base model's file leaves it out. */
static const char *prefix_of(const ModelConfig *c) {
    return layout_of(c) == LAYOUT_NANOCHAT ? "model." : c->kind == MODEL_GPT ? "transformer." : "";
}
static const char head_name[] = "lm_head.weight";
/* ... and as transformers' GPT2ForSequenceClassification has it. */
static const char classes_name[] = "score.weight";

static const char *without_prefix(const char *name, const ModelConfig *c) {
    const char *prefix = prefix_of(c);
    return strncmp(name, prefix, strlen(prefix)) == 0 ? name + strlen(prefix) : name;
}

/* Elements of the two stages: a block as the other side wants it, and a tile for turning. */
enum { BLOCK = 2 << 20, TILE = 256 << 10 };

typedef struct Stage {
    float *block, *tile;
    int64_t n_block, n_tile; /* at least one row of the widest matrix each */
} Stage;

/* One tensor of the file. */
typedef struct DiskTensor {
    const ParamSpec *spec;
    Param *param; /* NULL: a bias that the model has not, zero on disk */
    char name[80];
    int64_t first, rows, cols; /* in memory: first row, rows without the vocabulary's padding */
    bool transposed;
    int rank;
    int64_t dim[2]; /* on disk */
    const SafetensorsEntry *found;
} DiskTensor;

static void list_tensor(DiskTensor *t, const ModelConfig *c, const char *pattern, int64_t layer) {
    const bool head = strcmp(pattern, head_name) == 0;
    const bool bare = layout_of(c) == LAYOUT_NANOCHAT || head;
    char name[64];
    if (head && c->classes) pattern = classes_name;
    model_name_param(name, sizeof name, pattern, layer);
    snprintf(t->name, sizeof t->name, "%s%s", bare ? "" : prefix_of(c), name);
    t->cols = t->spec->cols ? t->spec->cols(c) : 1;
    t->rank = t->spec->cols ? 2 : 1;
    t->transposed = t->spec->transposed && layout_of(c) != LAYOUT_NANOCHAT;
    t->dim[0] = t->transposed ? t->cols : t->rows;
    t->dim[1] = t->transposed ? t->rows : t->cols;
}

/* Every tensor that the file holds, in the order of the table. */
static DiskTensor *list_tensors(const Model *m, int *n) {
    const ModelConfig *c = &m->config;
    const Layout layout = layout_of(c);
    ModelConfig full = *c; /* GPT-2 as transformers has it: with biases */
    full.bias = full.bias || layout == LAYOUT_GPT2;
    DiskTensor *list = calloc((size_t)(n_param_specs * PARAM_PARTS_MAX * c->layers), sizeof *list);
    CHECK(list, "no memory for a list of tensors");
    *n = 0;
    for (int i = 0; i < n_param_specs; i++) {
        const ParamSpec *spec = &param_specs[i];
        if (!param_exists(spec, &full)) continue;
        int64_t rows[PARAM_PARTS_MAX] = {param_live_rows(spec, c)};
        const int parts = layout == LAYOUT_NANOCHAT ? model_param_parts(spec, c, rows) : 1;
        for (int64_t layer = spec->first_layer; layer < param_end_layer(spec, c); layer++)
            for (int64_t part = 0, first = 0; part < parts; first += rows[part++]) {
                DiskTensor *t = &list[(*n)++];
                *t = (DiskTensor){.spec = spec,
                                  .param = m->lookup[i * c->layers + layer],
                                  .first = first,
                                  .rows = rows[part]};
                list_tensor(t, c, layout == LAYOUT_NANOCHAT ? spec->nanochat[part] : spec->name,
                            layer);
            }
    }
    return list;
}

static Stage stage_make(const Model *m) {
    int64_t widest = 1, largest = 1;
    for (int i = 0; i < m->n_params; i++) {
        const Tensor w = m->params[i].w;
        widest = i64_max(widest, i64_max(w.dim[0], w.dim[1]));
        largest = i64_max(largest, tensor_count(w));
    }
    Stage s = {.n_block = i64_max(i64_min(BLOCK, largest), widest),
               .n_tile = i64_max(i64_min(TILE, largest), widest)};
    s.block = malloc((size_t)s.n_block * sizeof(float));
    s.tile = malloc((size_t)s.n_tile * sizeof(float));
    CHECK(s.block && s.tile, "no memory to stage weights");
    return s;
}

static void stage_free(Stage *s) {
    free(s->block);
    free(s->tile);
}

/* out (cols, out_stride) = in (rows, in_stride) transposed; 16 floats are a cache line. */
static void transpose(float *out, int64_t out_stride, const float *in, int64_t in_stride,
                      int64_t rows, int64_t cols) {
    for (int64_t first = 0; first < rows; first += 16) {
        const int64_t last = i64_min(first + 16, rows);
        for (int64_t c = 0; c < cols; c++)
            for (int64_t r = first; r < last; r++) out[c * out_stride + r] = in[r * in_stride + c];
    }
}

/* ---- saving ---- */

/* Elements [0, n) of a tensor as they lie in memory. */
static bool write_plain(SafetensorsWriter *w, const Model *m, Tensor t, int64_t n, const Stage *s,
                        Error *e) {
    for (int64_t first = 0; first < n; first += s->n_block) {
        const int64_t count = i64_min(s->n_block, n - first);
        model_read(m, tensor_1d((float *)t.data + first, DTYPE_F32, count), s->block);
        if (!safetensors_write(w, s->block, count * (int64_t)sizeof(float), e)) return false;
    }
    return true;
}

static bool write_transposed(SafetensorsWriter *w, const Model *m, const DiskTensor *t,
                             const Stage *s, Error *e) {
    const int64_t rows = t->rows, cols = t->cols;
    const int64_t block = s->n_block / rows, tile = s->n_tile / cols; /* columns; rows */
    const Tensor master = model_master(m, t->param);
    for (int64_t col = 0; col < cols; col += block) {
        const int64_t n_cols = i64_min(block, cols - col);
        for (int64_t row = 0; row < rows; row += tile) {
            const int64_t n_rows = i64_min(tile, rows - row);
            model_read(m, tensor_rows(master, t->first + row, n_rows), s->tile);
            transpose(s->block + row, rows, s->tile + col, cols, n_rows, n_cols);
        }
        if (!safetensors_write(w, s->block, n_cols * rows * (int64_t)sizeof(float), e))
            return false;
    }
    return true;
}

static bool write_tensor(SafetensorsWriter *w, const Model *m, const DiskTensor *t, const Stage *s,
                         Error *e) {
    if (t->param && t->transposed) return write_transposed(w, m, t, s, e);
    if (t->param)
        return write_plain(w, m, tensor_rows(model_master(m, t->param), t->first, t->rows),
                           t->rows * t->cols, s, e);
    memset(s->block, 0, (size_t)t->rows * sizeof(float));
    return safetensors_write(w, s->block, t->rows * (int64_t)sizeof(float), e);
}

static bool finish_file(SafetensorsWriter *w, bool good, Error *e) {
    if (good) return safetensors_finish(w, e);
    safetensors_abandon(w);
    return false;
}

bool weights_write(const char *folder, Model *m, Error *e) {
    char path[IO_PATH_MAX];
    SafetensorsWriter *w = NULL;
    if (!path_join(path, folder, "model.safetensors", e) || !(w = safetensors_create(path, e)))
        return false;
    int n;
    DiskTensor *list = list_tensors(m, &n);
    Stage stage = stage_make(m);
    safetensors_metadata(w, "format", "pt"); /* transformers refuses a file without it */
    for (int i = 0; i < n; i++)
        safetensors_declare(w, list[i].name, DTYPE_F32, list[i].rank, list[i].dim);
    bool good = safetensors_begin(w, e);
    for (int i = 0; good && i < n; i++) good = write_tensor(w, m, &list[i], &stage, e);
    stage_free(&stage);
    free(list);
    return finish_file(w, good, e);
}

/* ---- loading ---- */

/* The safetensors files of a folder: one, or the shards that an index names. */
typedef struct Shards {
    SafetensorsFile *files;
    int n;
} Shards;

static void shards_close(Shards *s) {
    for (int i = 0; i < s->n; i++) safetensors_close(&s->files[i]);
    free(s->files);
    *s = (Shards){0};
}

/* Opens folder/name unless it is open; NULL with an Error. */
static const SafetensorsFile *shards_open_file(Shards *s, const char *folder, const char *name,
                                               Error *e) {
    char path[IO_PATH_MAX];
    if (!path_join(path, folder, name, e)) return NULL;
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->files[i].path, path) == 0) return &s->files[i];
    SafetensorsFile *grown = realloc(s->files, (size_t)(s->n + 1) * sizeof *grown);
    CHECK(grown, "no memory for %d files", s->n + 1);
    s->files = grown;
    return safetensors_open(&s->files[s->n], path, e) ? &s->files[s->n++] : NULL;
}

static bool shards_open_index(Shards *s, const char *folder, const char *index, Error *e) {
    json_t *root = json_read_file(index, e);
    if (!root) return false;
    json_t *map = json_object_get(root, "weight_map"), *file;
    bool good = json_is_object(map) && json_object_size(map) > 0;
    if (!good) error_set(e, index, NULL, "\"weight_map\" is missing or empty");
    const char *name;
    json_object_foreach(map, name, file) {
        const char *text = json_string_value(file);
        if (!text || !path_is_plain_name(text)) {
            good = error_set(e, index, NULL, "tensor %.100s is in no plain file name", name);
            break;
        }
        const SafetensorsFile *f = shards_open_file(s, folder, text, e);
        good = f && (safetensors_find(f, name) ||
                     error_set(e, f->path, NULL, "tensor %.100s is missing", name));
        if (!good) break;
    }
    json_decref(root);
    return good;
}

static bool shards_open(Shards *s, const char *folder, Error *e) {
    char one[IO_PATH_MAX], index[IO_PATH_MAX];
    if (!path_join(one, folder, "model.safetensors", e) ||
        !path_join(index, folder, "model.safetensors.index.json", e))
        return false;
    if (access(one, F_OK) != 0 && access(index, F_OK) == 0)
        return shards_open_index(s, folder, index, e);
    return shards_open_file(s, folder, "model.safetensors", e) != NULL;
}

/* Masks that older files keep beside the weights: constants. */
static bool is_mask(const char *name, const ModelConfig *c) {
    if (layout_of(c) != LAYOUT_GPT2 || strncmp(name, "h.", 2) != 0) return false;
    char *end;
    const long layer = strtol(name + 2, &end, 10);
    return layer >= 0 && layer < c->layers &&
           (strcmp(end, ".attn.bias") == 0 || strcmp(end, ".attn.masked_bias") == 0);
}

static bool is_float(const SafetensorsEntry *entry) {
    float none;
    return safetensors_read_f32(entry, 0, 0, &none);
}

static bool check_shape(const SafetensorsEntry *entry, const DiskTensor *t, const char *path,
                        Error *e) {
    if (!is_float(entry))
        return error_set(e, path, NULL, "tensor %s has dtype %s: not a float type that puck reads",
                         t->name, entry->dtype_text);
    bool same = entry->rank == t->rank;
    for (int i = 0; same && i < t->rank; i++) same = entry->dim[i] == t->dim[i];
    if (same) return true;
    char have[200] = "", want[64] = "";
    for (int i = 0; i < entry->rank; i++)
        snprintf(have + strlen(have), sizeof have - strlen(have), i ? ", %ld" : "%ld",
                 (long)entry->dim[i]);
    for (int i = 0; i < t->rank; i++)
        snprintf(want + strlen(want), sizeof want - strlen(want), i ? ", %ld" : "%ld",
                 (long)t->dim[i]);
    return error_set(e, path, "Check that config.json belongs to this file",
                     "tensor %s has shape [%s], where the model needs [%s]", t->name, have, want);
}

/* Gives one tensor of a file to its row of the list. */
static bool place_entry(const SafetensorsEntry *entry, DiskTensor *list, int n,
                        const ModelConfig *c, const char *path, Error *e) {
    const char *name = without_prefix(entry->name, c);
    if (is_mask(name, c)) return true;
    for (int i = 0; i < n; i++) {
        DiskTensor *t = &list[i];
        if (strcmp(without_prefix(t->name, c), name) != 0) continue;
        if (t->found) return error_set(e, path, NULL, "tensor %s is there twice", t->name);
        t->found = entry;
        return check_shape(entry, t, path, e);
    }
    return error_set(e, path, NULL, "tensor %.100s is not part of this model", entry->name);
}

static bool same_values(const SafetensorsEntry *a, const SafetensorsEntry *b) {
    enum { N = 4096 };
    float x[N], y[N];
    bool same = a->count == b->count;
    for (int64_t first = 0; same && first < a->count; first += N) {
        const int64_t n = i64_min(N, a->count - first);
        same = safetensors_read_f32(a, first, n, x) && safetensors_read_f32(b, first, n, y) &&
               memcmp(x, y, (size_t)n * sizeof(float)) == 0;
    }
    return same;
}

/* Finds every tensor of the list in the files, and nothing else there. */
static bool find_tensors(const Shards *s, const ModelConfig *c, DiskTensor *list, int n,
                         const char *folder, Error *e) {
    const SafetensorsEntry *head = NULL;
    for (int f = 0; f < s->n; f++)
        for (int i = 0; i < s->files[f].n_entries; i++) {
            const SafetensorsEntry *entry = &s->files[f].entries[i];
            if (!c->untied && strcmp(entry->name, head_name) == 0)
                head = entry;
            else if (!place_entry(entry, list, n, c, s->files[f].path, e))
                return false;
        }
    for (int i = 0; i < n; i++)
        if (!list[i].found && list[i].param)
            return error_set(e, folder, NULL, "tensor %s is missing", list[i].name);
    for (int i = 0; head && i < n; i++)
        if (list[i].spec->per_token && !same_values(head, list[i].found))
            return error_set(e, folder, "config.json says that the embeddings are tied",
                             "%s differs from %s", head_name, list[i].name);
    return true;
}

/* A matrix (in, out) of the file into rows of memory (out, in). */
static void read_transposed(Model *m, const DiskTensor *t, const Stage *s) {
    const int64_t rows = t->rows, cols = t->cols, block = s->n_block / cols;
    for (int64_t row = 0; row < rows; row += block) {
        const int64_t n_rows = i64_min(block, rows - row), tile = s->n_tile / n_rows;
        for (int64_t col = 0; col < cols; col += tile) {
            const int64_t n_cols = i64_min(tile, cols - col);
            for (int64_t c = 0; c < n_cols; c++)
                safetensors_read_f32(t->found, (col + c) * rows + row, n_rows,
                                     s->tile + c * n_rows);
            transpose(s->block + col, cols, s->tile, n_rows, n_cols, n_rows);
        }
        model_write_param(m, t->param, (t->first + row) * cols, n_rows * cols, s->block);
    }
}

/* Elements in the order of the file, then the vocabulary's padding: zero. */
static void read_plain(Model *m, const DiskTensor *t, const Stage *s) {
    const int64_t n_disk = t->rows * t->cols, at = t->first * t->cols;
    const int64_t n = param_is_padded(t->spec) ? tensor_count(t->param->w) : n_disk;
    for (int64_t first = 0; first < n; first += s->n_block) {
        const int64_t count = i64_min(s->n_block, n - first);
        const int64_t filled = i64_max(0, i64_min(count, n_disk - first));
        if (filled) safetensors_read_f32(t->found, first, filled, s->block);
        memset(s->block + filled, 0, (size_t)(count - filled) * sizeof(float));
        model_write_param(m, t->param, at + first, count, s->block);
    }
}

static bool read_tensor(Model *m, const DiskTensor *t, const Stage *s, const char *folder,
                        Error *e) {
    if (t->param && t->transposed)
        read_transposed(m, t, s);
    else if (t->param)
        read_plain(m, t, s);
    if (t->param || !t->found) return true;
    safetensors_read_f32(t->found, 0, t->rows, s->block);
    for (int64_t i = 0; i < t->rows; i++)
        if (s->block[i] != 0)
            return error_set(e, folder, NULL, "tensor %s is not zero, but the model has no biases",
                             t->name);
    return true;
}

bool checkpoint_read_weights(const char *folder, Model *m, Error *e) {
    Shards shards = {0};
    int n;
    DiskTensor *list = list_tensors(m, &n);
    Stage stage = stage_make(m);
    bool good =
        shards_open(&shards, folder, e) && find_tensors(&shards, &m->config, list, n, folder, e);
    for (int i = 0; good && i < n; i++) good = read_tensor(m, &list[i], &stage, folder, e);
    stage_free(&stage);
    free(list);
    shards_close(&shards);
    return good;
}

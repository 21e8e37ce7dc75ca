/* Moments of the optimiser, to and from safetensors.
 *
 * One rank writes optim.safetensors: NAME.m and NAME.v of AdamW, NAME.momentum of Muon. Ranks that
 * share out the moments write optim-00001-of-00004.safetensors and so on, each what it has: a part
 * of a parameter, from its element 4096 on, is called NAME.m@4096. Any number of ranks reads
 * either: what a rank needs is put together from all files. */
#include "io.h"
#include "safetensors.h"
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Elements [first, first + count) of a parameter's moments, which this rank has. */
typedef struct Kept {
    const Param *param;
    int64_t first, count;
    Tensor moment[2]; /* AdamW's m and v, or Muon's momentum and none */
} Kept;

enum { NAME_SIZE = 112 };

static int count_kept(const Model *m) {
    return m->use.zero ? m->partition.n_slices : m->n_params;
}

/* Number i; without data where another rank has it. */
static Kept kept_at(const Model *m, int i) {
    if (!m->use.zero) {
        const Param *p = &m->params[i];
        return (Kept){p, 0, tensor_count(p->w), {p->m, p->v}};
    }
    const ParamSlice *s = &m->slices[i];
    return (Kept){s->param, s->first, s->count, {s->m, s->v}};
}

/* NAME.m, NAME.v or NAME.momentum. */
static void moment_name(char name[NAME_SIZE], const Model *m, const Param *p, int number) {
    const char *moment = param_by_muon(m, p) ? "momentum" : number ? "v" : "m";
    snprintf(name, NAME_SIZE, "%s.%s", p->name, moment);
}

static void file_name(char name[64], int rank, int ranks) {
    if (ranks == 1)
        snprintf(name, 64, "optim.safetensors");
    else
        snprintf(name, 64, "optim-%05d-of-%05d.safetensors", rank + 1, ranks);
}

/* ---- saving ---- */

static void declare_kept(SafetensorsWriter *w, const Model *m) {
    char name[NAME_SIZE];
    for (int i = 0; i < count_kept(m); i++) {
        const Kept kept = kept_at(m, i);
        for (int k = 0; k < 2; k++) {
            const Tensor t = kept.moment[k];
            if (!t.data) continue;
            moment_name(name, m, kept.param, k);
            const size_t n = strlen(name);
            if (kept.count < tensor_count(kept.param->w))
                snprintf(name + n, sizeof name - n, "@%" PRId64, kept.first);
            safetensors_declare(w, name, DTYPE_F32, t.rank, t.dim);
        }
    }
}

static bool write_moment(SafetensorsWriter *w, const Model *m, Tensor t, Error *e) {
    enum { BLOCK = 2 << 20 };
    const int64_t count = tensor_count(t);
    float *block = malloc((size_t)i64_min(BLOCK, count) * sizeof *block);
    CHECK(block, "no memory to stage moments");
    bool good = true;
    for (int64_t first = 0; good && first < count; first += BLOCK) {
        const int64_t n = i64_min(BLOCK, count - first);
        model_read(m, tensor_1d((float *)t.data + first, DTYPE_F32, n), block);
        good = safetensors_write(w, block, n * (int64_t)sizeof *block, e);
    }
    free(block);
    return good;
}

bool optim_write(const char *folder, Model *m, Error *e) {
    char path[IO_PATH_MAX], name[64];
    SafetensorsWriter *w = NULL;
    if (!m->use.zero && m->use.rank != 0) return true; /* rank 0 has all of it */
    file_name(name, (int)m->use.rank, m->use.zero ? (int)m->use.ranks : 1);
    if (!path_join(path, folder, name, e) || !(w = safetensors_create(path, e))) return false;
    declare_kept(w, m);
    bool good = safetensors_begin(w, e);
    for (int i = 0; i < count_kept(m); i++) {
        const Kept kept = kept_at(m, i);
        for (int k = 0; good && k < 2; k++)
            if (kept.moment[k].data) good = write_moment(w, m, kept.moment[k], e);
    }
    if (good) return safetensors_finish(w, e);
    safetensors_abandon(w);
    return false;
}

/* ---- loading ---- */

typedef struct Parts {
    SafetensorsFile *files;
    int n;
} Parts;

static void parts_close(Parts *parts) {
    for (int i = 0; i < parts->n; i++) safetensors_close(&parts->files[i]);
    free(parts->files);
}

/* How many ranks wrote the folder: that of the parts' names. 1 for one file, or for none. */
static int count_parts(const char *folder) {
    DIR *d = opendir(folder);
    int ranks = 1;
    for (const struct dirent *entry; d && (entry = readdir(d));) {
        int part, of, end = 0;
        if (sscanf(entry->d_name, "optim-%5d-of-%5d.safetensors%n", &part, &of, &end) == 2 && end &&
            of > ranks)
            ranks = of;
    }
    if (d) closedir(d);
    return ranks;
}

static bool parts_open(Parts *parts, const char *folder, Error *e) {
    const int ranks = count_parts(folder);
    char path[IO_PATH_MAX], name[64];
    parts->files = calloc((size_t)ranks, sizeof *parts->files);
    CHECK(parts->files, "no memory for %d files", ranks);
    for (int r = 0; r < ranks; r++) {
        file_name(name, r, ranks);
        if (!path_join(path, folder, name, e)) return false;
        if (ranks > 1 && access(path, F_OK) != 0)
            return error_set(e, path, "Restore the file, or resume from an older checkpoint",
                             "rank %d's part of the optimiser's state, one of %d, is missing", r,
                             ranks);
        if (!safetensors_open(&parts->files[r], path, e)) return false;
        parts->n++;
    }
    return true;
}

/* First element of an entry that holds a part of moment `name`, or all of it; -1: another. */
static int64_t entry_first(const SafetensorsEntry *entry, const char *name) {
    const size_t n = strlen(name);
    if (strncmp(entry->name, name, n) != 0) return -1;
    if (!entry->name[n]) return 0;
    return entry->name[n] == '@' ? strtoll(entry->name + n + 1, NULL, 10) : -1;
}

/* A whole tensor has the parameter's shape, a part is in its range. */
static bool entry_fits(const SafetensorsEntry *entry, const Param *p, int64_t first) {
    const int64_t all = tensor_count(p->w);
    if (entry->dtype != DTYPE_F32) return false;
    if (strchr(entry->name, '@'))
        return entry->rank == 1 && first <= all && entry->count <= all - first;
    bool same = entry->rank == p->w.rank;
    for (int i = 0; same && i < entry->rank; i++) same = entry->dim[i] == p->w.dim[i];
    return same;
}

/* Copies what the files have of one moment of `kept`; all of it must be there. */
static bool read_moment(Model *m, const Parts *parts, const Kept *kept, int number, Error *e) {
    char name[NAME_SIZE];
    int64_t found = 0;
    moment_name(name, m, kept->param, number);
    for (int f = 0; f < parts->n; f++)
        for (int i = 0; i < parts->files[f].n_entries; i++) {
            const SafetensorsEntry *entry = &parts->files[f].entries[i];
            const int64_t first = entry_first(entry, name);
            if (first < 0) continue;
            if (!entry_fits(entry, kept->param, first))
                return error_set(e, parts->files[f].path, NULL,
                                 "tensor %s has another dtype or shape", entry->name);
            const int64_t from = i64_max(first, kept->first);
            const int64_t end = i64_min(first + entry->count, kept->first + kept->count);
            if (from >= end) continue;
            float *to = (float *)kept->moment[number].data + (from - kept->first);
            model_write(m, tensor_1d(to, DTYPE_F32, end - from),
                        (const float *)entry->data + (from - first));
            found += end - from;
        }
    return found == kept->count ||
           error_set(e, parts->files[0].path, NULL, "tensor %s is %s", name,
                     found ? "incomplete" : "missing");
}

/* One file holds every moment and nothing else. */
static bool check_count(const Model *m, const Parts *parts, Error *e) {
    int n_moments = 0;
    for (int i = 0; i < m->n_params; i++) n_moments += param_by_muon(m, &m->params[i]) ? 1 : 2;
    return parts->n > 1 || parts->files[0].n_entries == n_moments ||
           error_set(e, parts->files[0].path, "The optimizer of a run cannot change",
                     "%d tensors, where the model has %d moments", parts->files[0].n_entries,
                     n_moments);
}

bool checkpoint_read_optim(const char *folder, Model *m, Error *e) {
    Parts parts = {0};
    bool good = parts_open(&parts, folder, e) && check_count(m, &parts, e);
    for (int i = 0; good && i < count_kept(m); i++) {
        const Kept kept = kept_at(m, i);
        for (int k = 0; good && k < 2; k++)
            if (kept.moment[k].data) good = read_moment(m, &parts, &kept, k, e);
    }
    parts_close(&parts);
    return good;
}

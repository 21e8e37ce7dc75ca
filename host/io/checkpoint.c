/* Saving, rotating and finding checkpoints. checkpoint.h has the order that makes a save safe. */
#include "dist.h"
#include "examples.h"
#include "io.h"
#include "log.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void step_name(char name[32], int64_t step) { snprintf(name, 32, "step-%08ld", (long)step); }

/* The step of a folder named step-N, or -1. */
static int64_t step_of_name(const char *name) {
    char again[32];
    if (strncmp(name, "step-", 5) != 0) return -1;
    const int64_t step = strtoll(name + 5, NULL, 10);
    step_name(again, step);
    return strcmp(name, again) == 0 ? step : -1;
}

static int is_step(const struct dirent *d) { return step_of_name(d->d_name) >= 0; }
static int is_leftover(const struct dirent *d) {
    const size_t n = strlen(d->d_name);
    return n > 4 && strcmp(d->d_name + n - 4, ".tmp") == 0;
}

static int newest_first(const struct dirent **a, const struct dirent **b) {
    const int64_t x = step_of_name((*a)->d_name), y = step_of_name((*b)->d_name);
    return (x < y) - (x > y);
}

static void free_names(struct dirent **names, int n) {
    for (int i = 0; i < n; i++) free(names[i]);
    free(names);
}

bool checkpoint_remove_leftovers(const char *run, Error *e) {
    char ckpt[IO_PATH_MAX], path[IO_PATH_MAX];
    struct dirent **names;
    if (!path_join(ckpt, run, "ckpt", e)) return false;
    const int n = scandir(ckpt, &names, is_leftover, alphasort);
    if (n < 0) return errno == ENOENT || file_failed(ckpt, "cannot list", e);
    bool good = true;
    for (int i = 0; good && i < n; i++)
        good = path_join(path, ckpt, names[i]->d_name, e) && path_remove(path, e);
    free_names(names, n);
    return good;
}

/* Swings a link to a folder beside it: at every moment it points at the old or the new one. */
static bool point_link(const char *ckpt, const char *link, const char *target, Error *e) {
    char path[IO_PATH_MAX], temporary[IO_PATH_MAX + 4];
    if (!path_join(path, ckpt, link, e)) return false;
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    unlink(temporary); /* of a crash */
    if (symlink(target, temporary) == 0 && rename(temporary, path) == 0)
        return path_sync_folder(ckpt, e);
    error_set(e, path, "Check the disk and the permissions", "cannot point it at %s: %s", target,
              strerror(errno));
    unlink(temporary);
    return false;
}

bool checkpoint_write_options(const char *folder, const Options *options, Error *e) {
    char path[IO_PATH_MAX], *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    CHECK(out, "no memory for config.toml");
    options_write_file(options, CMD_TRAIN, out);
    CHECK(fclose(out) == 0, "no memory for config.toml");
    const bool good = path_join(path, folder, "config.toml", e) &&
                      file_write_atomic(path, text, (int64_t)bytes, e);
    free(text);
    return good;
}

bool checkpoint_write_choices(const char *folder, Backend *b, Error *e) {
    char path[IO_PATH_MAX];
    if (!b->choices) return true;
    const char *text = b->choices(b);
    return path_join(path, folder, "algorithms.txt", e) &&
           file_write_atomic(path, text, (int64_t)strlen(text), e);
}

bool checkpoint_read_choices(const char *folder, Backend *b, Error *e) {
    char path[IO_PATH_MAX];
    int64_t bytes;
    if (!path_join(path, folder, "algorithms.txt", e)) return false;
    if (!b->choose || access(path, F_OK) != 0) return true;
    char *text = file_read(path, &bytes, e);
    if (text) b->choose(b, text, false);
    free(text);
    return text != NULL;
}

/* Each rank its part, all at once. */
static bool write_files(const char *folder, Model *m, const Tokenizer *tokenizer,
                        const Options *options, const TrainState *state, Error *e) {
    char path[IO_PATH_MAX];
    if (dist_rank() != 0) return !m->use.training || optim_write(folder, m, e);
    return weights_write(folder, m, e) && config_write(folder, &m->config, e) &&
           path_join(path, folder, "tokenizer.json", e) && tokenizer_save(tokenizer, path, e) &&
           (!m->use.training || optim_write(folder, m, e)) && carry_write(folder, m, e) &&
           (!m->labels || labels_write(m->labels, folder, e)) && state_write(folder, state, e) &&
           checkpoint_write_choices(folder, m->backend, e) &&
           (!options || checkpoint_write_options(folder, options, e));
}

/* Puts the new folder in place. One that is there already is exchanged with it in one move, and
 * then stands under the temporary name. NFS cannot exchange: a crash between two renames costs this
 * step there, not the older ones. */
static bool put_in_place(const char *temporary, const char *folder, Error *e) {
    char aside[IO_PATH_MAX + 8];
    snprintf(aside, sizeof aside, "%s.old.tmp", folder);
    bool good = true;
    if (access(folder, F_OK) != 0) {
        good = rename(temporary, folder) == 0;
    } else if (renameat2(AT_FDCWD, temporary, AT_FDCWD, folder, RENAME_EXCHANGE) != 0) {
        good = errno == EINVAL && rename(folder, aside) == 0;
        if (good && rename(temporary, folder) != 0) {
            good = false;
            rename(aside, folder);
        }
    }
    return good || file_failed(folder, "cannot put the new checkpoint in place", e);
}

/* Takes the names of steps that are not needed any more; what they held is left over, so that no
 * step-N is ever half deleted. Steps after the one just saved stay: they are damaged, or the run
 * would have gone on from them, and count for nothing. */
static bool rotate(const char *run, int64_t step, int64_t keep, Error *e) {
    char ckpt[IO_PATH_MAX], path[IO_PATH_MAX], aside[IO_PATH_MAX + 4], best[64] = "";
    if (!path_join(ckpt, run, "ckpt", e) || !path_join(path, ckpt, "best", e)) return false;
    if (readlink(path, best, sizeof best - 1) < 0) best[0] = 0;
    struct dirent **names;
    const int n = scandir(ckpt, &names, is_step, newest_first);
    if (n < 0) return file_failed(ckpt, "cannot list", e);
    int64_t kept = 0;
    bool good = true;
    for (int i = 0; good && i < n; i++) {
        const char *name = names[i]->d_name;
        if (step_of_name(name) > step || kept++ < keep || strcmp(name, best) == 0) continue;
        good = path_join(path, ckpt, name, e);
        snprintf(aside, sizeof aside, "%s.tmp", path);
        if (good && rename(path, aside) != 0) good = file_failed(path, "cannot delete", e);
    }
    free_names(names, n);
    return good && checkpoint_remove_leftovers(run, e);
}

bool checkpoint_save(const char *run, Model *m, const Tokenizer *tokenizer, const Options *options,
                     const TrainState *state, int64_t keep, Error *e) {
    CHECK(m->backend->master == DTYPE_F32, "only f32 weights are saved");
    char ckpt[IO_PATH_MAX], folder[IO_PATH_MAX], temporary[IO_PATH_MAX + 4], name[32];
    const bool first = dist_rank() == 0; /* the others write their parts alone */
    step_name(name, state->step);
    if (!dist_agree(path_join(ckpt, run, "ckpt", e) && path_join(folder, ckpt, name, e), e))
        return false;
    snprintf(temporary, sizeof temporary, "%s.tmp", folder);
    model_gather_masters(m);
    if (!dist_agree(!first || (path_make_folder(ckpt, e) && checkpoint_remove_leftovers(run, e) &&
                               path_make_folder(temporary, e)),
                    e) ||
        !dist_agree(write_files(temporary, m, tokenizer, options, state, e), e) ||
        !dist_agree(!first || (manifest_write(temporary, e) && put_in_place(temporary, folder, e) &&
                               path_sync_folder(ckpt, e) && point_link(ckpt, "latest", name, e)),
                    e)) {
        Error ignored; /* the first one is the cause */
        if (first) path_remove(temporary, &ignored);
        return false;
    }
    log_debug("saved %s", folder);
    Error old;
    if (first && !rotate(run, state->step, keep, &old))
        log_warning("an old checkpoint stays: %s (%s)", old.text, old.place);
    return true;
}

bool checkpoint_mark_best(const char *run, int64_t step, Error *e) {
    char ckpt[IO_PATH_MAX], folder[IO_PATH_MAX], name[32];
    step_name(name, step);
    if (!path_join(ckpt, run, "ckpt", e) || !path_join(folder, ckpt, name, e)) return false;
    if (access(folder, F_OK) != 0)
        return error_set(e, folder, NULL, "this checkpoint does not exist");
    return point_link(ckpt, "best", name, e);
}

/* The newest step of RUN/ckpt whose manifest verifies. */
static bool find_newest(const char *ckpt, char *folder, size_t size, Error *e) {
    struct dirent **names;
    const int n = scandir(ckpt, &names, is_step, newest_first);
    if (n <= 0) {
        if (n == 0) free(names);
        return error_set(e, ckpt, "Train first: the run has not been saved yet",
                         "there is no checkpoint");
    }
    char path[IO_PATH_MAX];
    bool found = false;
    for (int i = 0; !found && i < n; i++) {
        Error damage;
        found =
            path_join(path, ckpt, names[i]->d_name, &damage) && checkpoint_verify(path, &damage);
        if (!found)
            log_warning("checkpoint %s is damaged: %s (%s)", names[i]->d_name, damage.text,
                        damage.place);
        else if (i > 0)
            log_warning("taking the older checkpoint %s instead", names[i]->d_name);
    }
    free_names(names, n);
    if (!found)
        return error_set(e, ckpt, "Restore a copy, or start anew with --fresh",
                         "none of the %d checkpoints is whole", n);
    snprintf(folder, size, "%s", path);
    return true;
}

bool checkpoint_find(const char *path, char *folder, size_t size, Error *e) {
    const char *hint = "Give a run folder, a checkpoint folder or a Hugging Face folder";
    char inner[IO_PATH_MAX];
    struct stat info;
    const bool found = stat(path, &info) == 0;
    if (!found || !S_ISDIR(info.st_mode))
        return error_set(e, path, hint,
                         found ? "this is a file, and a model is a folder"
                               : "there is no such folder");
    if (!path_join(inner, path, "ckpt", e)) return false;
    if (access(inner, F_OK) == 0) return find_newest(inner, folder, size, e);
    snprintf(folder, size, "%s", path);
    if (!path_join(inner, path, "MANIFEST.json", e)) return false;
    if (access(inner, F_OK) == 0) return checkpoint_verify(path, e);
    if (!path_join(inner, path, "config.json", e)) return false;
    if (access(inner, F_OK) == 0) return true;
    if (!path_join(inner, path, "config.toml", e)) return false;
    if (access(inner, F_OK) == 0)
        return error_set(e, path, "Train it until it saves, see --save-every",
                         "the run has no checkpoint yet");
    return error_set(e, path, hint, "there is no checkpoint: neither ckpt nor config.json");
}

bool checkpoint_exists(const char *run) {
    char ckpt[IO_PATH_MAX];
    Error ignored;
    struct dirent **names;
    const int n =
        path_join(ckpt, run, "ckpt", &ignored) ? scandir(ckpt, &names, is_step, NULL) : -1;
    if (n >= 0) free_names(names, n);
    return n > 0;
}

bool checkpoint_read_options(const char *folder, Settings *s, Error *e) {
    char path[IO_PATH_MAX];
    return path_join(path, folder, "config.toml", e) && options_read_file(s, path, e);
}

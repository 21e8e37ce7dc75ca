/* Checkpoints: a folder that Hugging Face's transformers loads as it is, plus what resuming needs.
 *
 *   RUN/ckpt/step-00001000/  model.safetensors config.json generation_config.json tokenizer.json
 *                            tokenizer_config.json optim.safetensors state.json config.toml
 *                            MANIFEST.json, of a classifier labels.json, of an rnn
 *                            carry.safetensors
 *   RUN/ckpt/latest -> step-00001000      RUN/ckpt/best -> step-00000500
 *
 * MANIFEST.json lists size and XXH3-64 of every other file and is written last, into step-N.tmp;
 * then the files and the folder are fsynced, the folder renamed, `latest` swung, old ones deleted.
 * A crash at any moment leaves a checkpoint that verifies. */
#pragma once
#include "config.h"
#include "model.h"
#include "tokenizer.h"

/* All that a resumed run needs besides weights and moments. Every field is in state.json. */
typedef struct TrainState {
    int64_t step;          /* optimiser steps attempted so far */
    int64_t samples;       /* sequences consumed: the data position */
    int64_t tokens;        /* valid targets trained on */
    int64_t bad_steps;     /* non-finite steps in a row so far */
    int64_t skipped_steps; /* non-finite steps in all */
    double best_loss;      /* lowest estimate; infinity before the first (null in JSON) */
    int64_t best_step;
    int64_t evals_since_best;
    bool eval_due; /* that of `step` has not happened yet: resuming does it first */
    bool finished;
    uint64_t tokenizer_hash, data_hash;
    double elapsed_sec; /* time field: training time so far */
} TrainState;

/* Called by all ranks: each writes its part of the optimiser's state, rank 0 everything else.
 * Saves RUN/ckpt/step-N and rotates: keeps the newest `keep` and best's. `options` may be NULL (a
 * model without a run). On failure nothing that was there is touched and no .tmp stays. If the
 * folder of that step exists already (resumed and saved again), it is replaced only when the new
 * one is whole. */
bool checkpoint_save(const char *run, Model *m, const Tokenizer *tokenizer, const Options *options,
                     const TrainState *state, int64_t keep, Error *e);
/* Points RUN/ckpt/best at step N's folder (atomically). Its folder must exist. */
bool checkpoint_mark_best(const char *run, int64_t step, Error *e);

/* Finds the folder to load for a run folder, a checkpoint folder, or a Hugging Face folder. In a
 * run: the newest step whose manifest verifies, else the next older with a warning that names the
 * damage. A folder with MANIFEST.json must verify. False if there is none. */
bool checkpoint_find(const char *path, char *folder, size_t size, Error *e);
/* Whether RUN holds any step-N folder. */
bool checkpoint_exists(const char *run);
bool checkpoint_verify(const char *folder, Error *e);

/* Fails (misuse) on a model that no class of transformers computes, unless `any` will do; the Error
 * says which options the nearest ones need. */
bool checkpoint_check_format(const ModelConfig *c, bool any, Error *e);
/* config.json of a folder: GPT-2's, NanoChat's or puck's own. Refuses by name what puck cannot
 * compute exactly. */
bool checkpoint_read_config(const char *folder, ModelConfig *config, Error *e);
/* Weights into m->params (committed, same config): any float dtype, sharded or not, names with or
 * without "transformer." ("model." in a NanoChat), (in, out) matrices transposed, separate q, k, v
 * packed. Missing or unknown tensors are named. */
bool checkpoint_read_weights(const char *folder, Model *m, Error *e);
/* Moments and momenta from optim.safetensors, or from the parts that several ranks have written: as
 * many or as few as there are now. A missing part is named. */
bool checkpoint_read_optim(const char *folder, Model *m, Error *e);
/* The states that a recurrent model carries, from carry.safetensors; nothing for other models. */
bool checkpoint_read_carry(const char *folder, Model *m, Error *e);
bool checkpoint_read_state(const char *folder, TrainState *state, Error *e);
/* config.toml of the folder: recorded options, over what *s holds. */
bool checkpoint_read_options(const char *folder, Settings *s, Error *e);
/* Writes it: for a checkpoint's folder, and for the run's. */
bool checkpoint_write_options(const char *folder, const Options *options, Error *e);

/* algorithms.txt of a checkpoint or a run: what the back end has chosen by timing
 * (Backend.choices), without which a resumed run could have other bits. Nothing is written for a
 * back end that chooses nothing; reading a folder without the file changes nothing. */
bool checkpoint_write_choices(const char *folder, Backend *b, Error *e);
bool checkpoint_read_choices(const char *folder, Backend *b, Error *e);

/* One writer a run: an flock on RUN/lock, which ends with its process: a stale file is no lock.
 * Makes the run folder, and deletes what a killed save left there. The holder's pid is in the
 * message of the refused one. A folder of something else is refused before anything is written. */
bool run_lock(const char *run, int *lock, Error *e);
void run_unlock(int lock);

/* Small files, whole: read ("-" is standard input; NUL-terminated, the caller frees; NULL with an
 * Error) and atomic write (tmp, fsync, rename). The main thread alone writes. */
char *file_read(const char *path, int64_t *bytes, Error *e);
bool file_write_atomic(const char *path, const char *text, int64_t bytes, Error *e);
/* The same in two steps, for files of which either all or none shall be new: all are prepared
 * first, beside their names. A signal that ends the process in between deletes what was
 * prepared. */
typedef struct NewFile {
    char path[1024], temporary[1024];
} NewFile;
bool file_prepare(NewFile *f, const char *path, const char *text, int64_t bytes, Error *e);
/* Gives it its name if all went `well` so far, else deletes it. Returns whether all still does. */
bool file_install(NewFile *f, bool well, Error *e);
bool path_make_folder(const char *path, Error *e); /* like mkdir -p */

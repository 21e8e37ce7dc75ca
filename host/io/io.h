/* What the files of host/io share and nobody else needs. */
#pragma once
#include "checkpoint.h"
#include <jansson.h>

enum { IO_PATH_MAX = 1024 };

/* Joins two parts of a path. Fails on one that is too long. */
bool path_join(char path[IO_PATH_MAX], const char *folder, const char *name, Error *e);
/* Whether a name from a file may be joined to a folder: no '/', not empty, not "." or "..". */
bool path_is_plain_name(const char *name);
/* Fails with "WHAT: " and the reason in errno, and with what helps against it. */
bool file_failed(const char *path, const char *what, Error *e);
/* Writes all bytes to fd, in as many calls as it takes. `path` is for the error. */
bool fd_write_all(int fd, const void *data, int64_t bytes, const char *path, Error *e);
/* Maps a whole file, which may be closed then, to be read; NULL with an Error. What happens to the
 * file meanwhile ends the process with a sentence, in threads that do not block SIGBUS. */
void *file_map(int fd, int64_t bytes, const char *path, Error *e);
void file_unmap(void *start);
/* Makes a folder's entries durable: names are data of their folder. */
bool path_sync_folder(const char *folder, Error *e);
/* Deletes a folder of plain files, or one file. A path that is not there is no error. */
bool path_remove(const char *path, Error *e);

/* The path of GPT-2's vocab.bpe, checked, which data/fetch.sh fetches if it is not there. */
bool fetch_gpt2(char path[IO_PATH_MAX], Error *e);

/* Parses JSON text: duplicate keys, invalid UTF-8 and NUL are refused, and memory stays below
 * 28 x bytes + 512 KiB. NULL with an Error on any fault. */
json_t *json_parse(const char *path, const char *text, int64_t bytes, Error *e);
/* The same for a whole file, whose top must be an object. */
json_t *json_read_file(const char *path, Error *e);

/* The shortest text of a finite number that reads back to the same bits, as JSON wants a real. */
void json_real_text(char text[32], double value);
/* Fields of an object by name; the Error names the field. Reals take integers too. */
bool json_get_int(json_t *object, const char *path, const char *key, int64_t lowest,
                  int64_t highest, int64_t *value, Error *e);
bool json_get_real(json_t *object, const char *path, const char *key, double *value, Error *e);
bool json_get_bool(json_t *object, const char *path, const char *key, bool *value, Error *e);
/* 16 hexadecimal digits of text: JSON numbers lose bits beyond 2^53. */
bool json_get_hash(json_t *object, const char *path, const char *key, uint64_t *value, Error *e);

/* Parts of a checkpoint's folder, see checkpoint.h for what reads them. Each file is durable when
 * its function returns; the manifest comes last, and makes the folder durable too. */
bool weights_write(const char *folder, Model *m, Error *e);
bool optim_write(const char *folder, Model *m, Error *e);
bool carry_write(const char *folder, const Model *m, Error *e); /* nothing without a carry */
bool config_write(const char *folder, const ModelConfig *c, Error *e);
bool state_write(const char *folder, const TrainState *state, Error *e);
bool manifest_write(const char *folder, Error *e);
/* Deletes what a crash left of an earlier save or rotation, for its one writer. */
bool checkpoint_remove_leftovers(const char *run, Error *e);

/* ---- what a checkpoint's files call things ---- */

/* Whose names a folder has: GPT-2's, NanoChat's, or, for what neither computes, GPT-2's names under
 * a model_type of our own. */
typedef enum Layout { LAYOUT_GPT2, LAYOUT_NANOCHAT, LAYOUT_PUCK } Layout;
Layout layout_of(const ModelConfig *c);

/* Bounds of the options of the same meaning, so that shapes cannot overflow. */
enum {
    CONFIG_VOCAB_MAX = 16777216,
    CONFIG_CLASSES_MAX = 65536,
    CONFIG_CONTEXT_MAX = 1048576,
    CONFIG_LAYERS_MAX = 256,
    CONFIG_HEADS_MAX = 256,
    CONFIG_CHANNELS_MAX = 65536,
    CONFIG_HIDDEN_MAX = 4 * CONFIG_CHANNELS_MAX
};

/* config.json of the other two layouts; `c` comes as the options' defaults. */
void nanochat_config_write(FILE *out, const ModelConfig *c);
bool nanochat_config_read(json_t *root, const char *path, ModelConfig *c, Error *e);
/* puck's own model_type of a kind. layout_read_config reads that of c->kind. */
const char *layout_model_type(ModelKind kind);
void layout_write_config(FILE *out, const ModelConfig *c);
bool layout_read_config(json_t *root, const char *path, ModelConfig *c, Error *e);

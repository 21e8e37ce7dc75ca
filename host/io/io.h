/* What the files of host/io share and nobody else needs. */
#pragma once
#include "checkpoint.h"
#include <jansson.h>

enum { IO_PATH_MAX = 1024 };

/* Joins two parts of a path. Fails on one that is too long. */
bool path_join(char path[IO_PATH_MAX], const char *folder, const char *name, Error *e);
/* Whether a name from a file may be joined to a folder: no '/', not empty, not "." or "..". */
bool path_is_plain_name(const char *name);
/* Writes all bytes to fd, in as many calls as it takes. `path` is for the error. */
bool fd_write_all(int fd, const void *data, int64_t bytes, const char *path, Error *e);
/* Makes a folder's entries durable: names are data of their folder. */
bool path_sync_folder(const char *folder, Error *e);
/* Deletes a folder of plain files, or one file. A path that is not there is no error. */
bool path_remove(const char *path, Error *e);

/* Parses JSON text: duplicate keys, invalid UTF-8 and NUL are refused, and memory stays below
 * 28 x bytes + 512 KiB. NULL with an Error on any fault. */
json_t *json_parse(const char *path, const char *text, int64_t bytes, Error *e);
/* The same for a whole file, whose top must be an object. */
json_t *json_read_file(const char *path, Error *e);

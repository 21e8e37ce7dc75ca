/* Token shards: llm.c's format, mapped. */
#include "io.h"
#include "loader.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "shards are mapped as they are");

static const char *const make_again = "Make the folder again with `puck tokenize`";

static bool shard_map(TokenShard *s, Error *e) {
    const int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* of a pipe too */
    struct stat info;
    bool good = fd >= 0 && fstat(fd, &info) == 0;
    if (!good) error_set(e, s->path, "Check the permissions", "cannot open: %s", strerror(errno));
    if (good && (!S_ISREG(info.st_mode) || info.st_size < TOKENS_HEADER_BYTES))
        good = error_set(e, s->path, make_again, "the file is too short for a token shard");
    if (good) {
        s->map_bytes = info.st_size;
        s->map = file_map(fd, s->map_bytes, s->path, e);
        good = s->map != NULL;
    }
    if (fd >= 0) close(fd);
    return good;
}

/* The first token that is not below n_vocab, or n. */
static int64_t shard_first_bad(const TokenShard *s, int64_t n_vocab) {
    int64_t i = 0;
    if (s->token_bytes == 2)
        while (i < s->n && ((const uint16_t *)s->tokens)[i] < n_vocab) i++;
    else
        while (i < s->n && ((const uint32_t *)s->tokens)[i] < n_vocab) i++;
    return i;
}

static bool shard_open(TokenShard *s, int64_t n_vocab, Error *e) {
    if (!shard_map(s, e)) return false;
    const int32_t *header = s->map;
    if (header[0] == TOKENS_MAGIC_16 && header[1] == TOKENS_VERSION_16)
        s->token_bytes = 2;
    else if (header[0] == TOKENS_MAGIC_32 && header[1] == TOKENS_VERSION_32)
        s->token_bytes = 4;
    else
        return error_set(e, s->path, make_again, "not a token shard: its header begins %d, %d",
                         (int)header[0], (int)header[1]);
    s->n = header[2];
    s->tokens = header + TOKENS_HEADER_BYTES / 4;
    if (s->n <= 0)
        return error_set(e, s->path, make_again, "the shard says it has %" PRId64 " tokens", s->n);
    const int64_t expected = TOKENS_HEADER_BYTES + s->n * s->token_bytes;
    if (s->map_bytes != expected)
        return error_set(e, s->path, make_again,
                         "the file has %" PRId64 " bytes, but its %" PRId64 " tokens need %" PRId64,
                         s->map_bytes, s->n, expected);
    const int64_t bad = shard_first_bad(s, n_vocab);
    if (bad == s->n) return true;
    const uint32_t id = s->token_bytes == 2 ? ((const uint16_t *)s->tokens)[bad]
                                            : ((const uint32_t *)s->tokens)[bad];
    return error_set(e, s->path, "Use the tokenizer and the data of one folder",
                     "token %" PRId64 " (byte offset %" PRId64 ") is %" PRIu32
                     ", outside of the vocabulary of %" PRId64,
                     bad, TOKENS_HEADER_BYTES + bad * s->token_bytes, id, n_vocab);
}

static int compare_shards(const void *a, const void *b) {
    return strcmp(((const TokenShard *)a)->path, ((const TokenShard *)b)->path);
}

/* Paths of all DIR/SPLIT_*.bin, sorted. */
static bool shards_list(Tokens *t, const char *dir, const char *split, Error *e) {
    DIR *d = opendir(dir);
    if (!d)
        return error_set(e, dir, "Give a folder made by `puck tokenize`",
                         "cannot open the folder: %s", strerror(errno));
    const size_t length = strlen(split);
    bool good = true;
    for (struct dirent *entry; good && (entry = readdir(d));) {
        const char *name = entry->d_name;
        const size_t n = strlen(name);
        if (n < length + 5 || strncmp(name, split, length) != 0 || name[length] != '_' ||
            strcmp(name + n - 4, ".bin") != 0)
            continue;
        TokenShard *shards = realloc(t->shards, ((size_t)t->n_shards + 1) * sizeof *t->shards);
        CHECK(shards, "no memory for %d shards", t->n_shards + 1);
        t->shards = shards;
        t->shards[t->n_shards] = (TokenShard){0};
        good = path_join(t->shards[t->n_shards++].path, dir, name, e);
    }
    closedir(d);
    if (good && t->n_shards == 0)
        good = error_set(e, dir, "Give a folder made by `puck tokenize`",
                         "the folder has no %s_*.bin", split);
    if (good) qsort(t->shards, (size_t)t->n_shards, sizeof *t->shards, compare_shards);
    return good;
}

/* Compares with meta.json, which folders of other makers lack: a lost shard shows nowhere else. */
static bool count_check(const Tokens *t, const char *dir, const char *split, Error *e) {
    char path[IO_PATH_MAX];
    DataMeta meta;
    if (!path_join(path, dir, "meta.json", e)) return false;
    if (access(path, F_OK) != 0) return true;
    if (!data_meta_read(dir, &meta, e)) return false;
    const int64_t expected = !strcmp(split, "train") ? meta.n_train
                             : !strcmp(split, "val") ? meta.n_val
                                                     : t->n_tokens;
    if (t->n_tokens == expected) return true;
    return error_set(e, dir, make_again,
                     "%s_*.bin hold %" PRId64 " tokens, but meta.json says %" PRId64, split,
                     t->n_tokens, expected);
}

bool tokens_open(Tokens *t, const char *dir, const char *split, int64_t n_vocab, Error *e) {
    *t = (Tokens){0};
    bool good = shards_list(t, dir, split, e);
    for (int i = 0; good && i < t->n_shards; i++) {
        t->shards[i].first = t->n_tokens;
        good = shard_open(&t->shards[i], n_vocab, e);
        t->n_tokens += t->shards[i].n;
    }
    good = good && count_check(t, dir, split, e);
    if (!good) tokens_close(t);
    return good;
}

void tokens_close(Tokens *t) {
    for (int i = 0; i < t->n_shards; i++)
        if (t->shards[i].map) file_unmap(t->shards[i].map);
    free(t->shards);
    free(t->lines);
    *t = (Tokens){0};
}

void tokens_read(const Tokens *t, int64_t first, int64_t n, int32_t *out) {
    CHECK(first >= 0 && n >= 0 && first <= t->n_tokens - n,
          "tokens %" PRId64 "..%" PRId64 " of %" PRId64, first, first + n, t->n_tokens);
    int low = 0; /* the shard that holds `first`: the last one that begins at or before it */
    for (int high = t->n_shards; high - low > 1;) {
        const int middle = (low + high) / 2;
        if (t->shards[middle].first <= first)
            low = middle;
        else
            high = middle;
    }
    for (const TokenShard *s = t->shards + low; n > 0; s++) {
        const int64_t from = first - s->first, count = i64_min(n, s->n - from);
        const uint16_t *narrow = (const uint16_t *)s->tokens + from;
        if (s->token_bytes == 2)
            for (int64_t i = 0; i < count; i++) out[i] = narrow[i];
        else
            memcpy(out, (const int32_t *)s->tokens + from, (size_t)count * sizeof *out);
        out += count;
        first += count;
        n -= count;
    }
}

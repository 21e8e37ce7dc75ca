/* A tokenizer by its name or path, in any of the forms that its maker may have given it. */
#include "rules.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* FOLDER/NAME, if it is there. */
static bool find_in(const char *folder, const char *name, char path[IO_PATH_MAX]) {
    Error ignored;
    return path_join(path, folder, name, &ignored) && access(path, F_OK) == 0;
}

bool tokenizer_path(const char *folder, char *path, size_t size) {
    char found[IO_PATH_MAX];
    if (!find_in(folder, "tokenizer.json", found) && !find_in(folder, "merges.txt", found))
        return false;
    snprintf(path, size, "%s", found);
    return true;
}

static bool find_file(const char *folder, char path[IO_PATH_MAX], Error *e) {
    char newest[IO_PATH_MAX];
    if (tokenizer_path(folder, path, IO_PATH_MAX)) return true;
    if (checkpoint_exists(folder))
        return checkpoint_find(folder, newest, sizeof newest, e) && find_file(newest, path, e);
    return error_set(e, folder, "Give the tokenizer's file",
                     "the folder has neither tokenizer.json nor merges.txt");
}

/* vocab.json and merges.txt, of which `path` names one, if both are there. */
static bool find_two(const char *path, char vocab[IO_PATH_MAX], char merges[IO_PATH_MAX]) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char folder[IO_PATH_MAX];
    if (strcmp(name, "merges.txt") != 0 && strcmp(name, "vocab.json") != 0) return false;
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(name - path) : 1, slash ? path : ".");
    return find_in(folder, "vocab.json", vocab) && find_in(folder, "merges.txt", merges);
}

static bool is_ranks(const char *text, int64_t bytes) {
    int64_t i = 0;
    while (i < bytes && text[i] > ' ' && text[i] != '{') i++;
    return i > 0 && i + 1 < bytes && text[i] == ' ' && text[i + 1] >= '0' && text[i + 1] <= '9';
}

bool tokenizer_load(Tokenizer *t, const char *path, Error *e) {
    int64_t bytes;
    char found[IO_PATH_MAX], vocab[IO_PATH_MAX], merges[IO_PATH_MAX];
    if (strcmp(path, "gpt2") == 0) {
        if (!fetch_gpt2(found, e)) return false;
        path = found;
    } else if (is_folder(path)) {
        if (!find_file(path, found, e)) return false;
        path = found;
    }
    if (find_two(path, vocab, merges)) return bpe_json_read_files(t, vocab, merges, e);
    char *text = file_read(path, &bytes, e);
    if (!text) return false;
    const bool is_merges = bytes > 8 && memcmp(text, "#version", 8) == 0;
    const bool good = is_merges               ? tokenizer_parse_merges(t, path, text, bytes, e)
                      : is_ranks(text, bytes) ? tokenizer_parse_ranks(t, path, text, bytes, e)
                                              : tokenizer_parse(t, path, text, bytes, e);
    free(text);
    return good;
}

/* JSON text into a tree, with bounded memory. */
#include "io.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What jansson's tree takes at most, from the characters outside strings: a container with its
 * first table, a pair with its share of growing tables, an element with its number, a string. */
static int64_t tree_bytes(const char *text, int64_t bytes) {
    int64_t total = 0;
    bool in_string = false;
    for (int64_t i = 0; i < bytes; i++) {
        const char c = text[i];
        total += in_string;
        if (c == '"') {
            in_string = !in_string;
            total += in_string ? 34 : 0;
        } else if (in_string) {
            i += c == '\\';
        } else if (c == '{') {
            total += 200;
        } else if (c == '[') {
            total += 128;
        } else if (c == ':') {
            total += 105;
        } else if (c == ',') {
            total += 48;
        }
    }
    return total;
}

json_t *json_parse(const char *path, const char *text, int64_t bytes, Error *e) {
    if (tree_bytes(text, bytes) > 28 * bytes + (512 << 10)) {
        error_set(e, path, NULL, "the JSON is nothing but brackets and commas");
        return NULL;
    }
    json_error_t error;
    json_t *root = json_loadb(text, (size_t)bytes, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        error_set(e, path, "Is it a whole copy of the right file?",
                  "the JSON is broken at line %d, column %d: %s", error.line, error.column,
                  error.text);
    return root;
}

json_t *json_read_file(const char *path, Error *e) {
    int64_t bytes;
    char *text = file_read(path, &bytes, e);
    if (!text) return NULL;
    json_t *root = json_parse(path, text, bytes, e);
    free(text);
    if (!root || json_is_object(root)) return root;
    json_decref(root);
    error_set(e, path, "Is it the right file?", "the JSON is not an object");
    return NULL;
}

void json_real_text(char text[32], double value) {
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, 32, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    if (!strpbrk(text, ".e")) strcat(text, ".0");
}

bool json_get_int(json_t *object, const char *path, const char *key, int64_t lowest,
                  int64_t highest, int64_t *value, Error *e) {
    const json_t *field = json_object_get(object, key);
    *value = json_integer_value(field);
    if (json_is_integer(field) && *value >= lowest && *value <= highest) return true;
    return error_set(e, path, NULL, "\"%s\" must be a whole number between %ld and %ld", key,
                     (long)lowest, (long)highest);
}

bool json_get_real(json_t *object, const char *path, const char *key, double *value, Error *e) {
    const json_t *field = json_object_get(object, key);
    *value = json_number_value(field);
    if (json_is_number(field)) return true;
    return error_set(e, path, NULL, "\"%s\" must be a number", key);
}

bool json_get_bool(json_t *object, const char *path, const char *key, bool *value, Error *e) {
    const json_t *field = json_object_get(object, key);
    *value = json_is_true(field);
    if (json_is_boolean(field)) return true;
    return error_set(e, path, NULL, "\"%s\" must be true or false", key);
}

bool json_get_hash(json_t *object, const char *path, const char *key, uint64_t *value, Error *e) {
    const char *text = json_string_value(json_object_get(object, key));
    if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return error_set(e, path, NULL, "\"%s\" must be 16 hexadecimal digits", key);
    *value = strtoull(text, NULL, 16);
    return true;
}

#include "rules.h"
#include <stdlib.h>
#include <string.h>

const char *const rules_remedy = "Use a tokenizer that puck made";

/* None of the three flags changes how tokens are joined. */
const Rule rules_join[4] = {{"type", "s", "ByteLevel"},
                            {"add_prefix_space", "-ft", NULL},
                            {"trim_offsets", "-ft", NULL},
                            {"use_regex", "-ft", NULL}};

static bool rule_allows(const Rule *r, const json_t *v) {
    const char *text = json_string_value(v);
    const bool empty = (text && !*text) || (json_is_array(v) && json_array_size(v) == 0);
    for (const char *a = r->allowed; *a; a++)
        if ((*a == '-' && !v) || (*a == '0' && json_is_null(v)) ||
            (*a == 'f' && json_is_false(v)) || (*a == 'i' && json_is_integer(v)) ||
            (*a == 't' && json_is_true(v)) || (*a == 'e' && empty) ||
            (*a == 'a' && json_is_array(v)) || (*a == 'o' && json_is_object(v)) ||
            (*a == 'S' && text) || (*a == 's' && text && !strcmp(text, r->text)))
            return true;
    return false;
}

bool rules_check(const Rule *rules, int64_t n, json_t *object, const char *name, const char *path,
                 Error *e) {
    const char *key;
    json_t *value;
    for (int64_t i = 0; i < n; i++) {
        value = json_object_get(object, rules[i].key);
        if (rule_allows(&rules[i], value)) continue;
        if (!value)
            return error_set(e, name, rules_remedy, "the field `%s%s` is missing", path,
                             rules[i].key);
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        error_set(e, name, rules_remedy, "`%s%s` is %.40s, which puck does not reproduce", path,
                  rules[i].key, text ? text : "a value");
        free(text);
        return false;
    }
    json_object_foreach(object, key, value) {
        int64_t i = 0;
        while (i < n && strcmp(rules[i].key, key) != 0) i++;
        if (i == n) return error_set(e, name, rules_remedy, "unknown field `%s%.40s`", path, key);
    }
    return true;
}

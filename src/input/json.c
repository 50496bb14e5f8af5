#include "input/json.h"
#include "base/memory.h"
#include "input/text_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

la_status la_file_read(const char *path, size_t max_bytes, char **data, size_t *length,
                       la_error *err) {
    *data = NULL;
    struct stat info;
    FILE *file = fopen(path, "rb");
    if (!file)
        return la_fail(err, la_errno_status(errno), "%s: cannot read: %s", path,
                       la_errno_text(errno));
    la_status status = LA_OK;
    size_t capacity = 0, used = 0;
    if (!fstat(fileno(file), &info) && S_ISDIR(info.st_mode))
        LA_TRY_DONE(la_fail(err, LA_BAD_INPUT, "%s: is a directory, expected a file", path));
    for (;;) {
        LA_TRY_DONE(la_grow(data, &capacity, used + 65536, 1, err));
        size_t got = fread(*data + used, 1, capacity - used - 1, file);
        used += got;
        if (used > max_bytes)
            LA_TRY_DONE(la_fail(err, LA_BAD_INPUT,
                                "%s: larger than %zu bytes, the most expected here", path,
                                max_bytes));
        if (!got)
            break;
    }
    if (ferror(file))
        LA_TRY_DONE(la_fail(err, LA_RESOURCE, "%s: cannot read: %s", path, la_errno_text(errno)));
    (*data)[used] = 0;
    *length = used;
done:
    fclose(file);
    if (status != LA_OK) {
        free(*data);
        *data = NULL;
    }
    return status;
}

/* True when brackets are open LA_JSON_DEPTH deep anywhere, and in which line (from 1). */
static bool is_deep(const char *text, size_t length, int *line) {
    int depth = 0;
    bool quoted = false;
    *line = 1;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (c == '"')
            quoted = !quoted;
        else if (quoted && c == '\\')
            i++;
        else if (c == '\n')
            ++*line;
        else if (!quoted && (c == '[' || c == '{') && ++depth >= LA_JSON_DEPTH)
            return true;
        else if (!quoted && (c == ']' || c == '}'))
            depth--;
    }
    return false;
}

json_t *la_json_loadb(const char *text, size_t length, size_t flags, json_error_t *where) {
    int line;
    if (!is_deep(text, length, &line))
        return json_loadb(text, length, flags, where);
    if (where) {
        *where = (json_error_t){.line = line};
        snprintf(where->text, sizeof where->text,
                 "maximum parsing depth reached: %d levels of brackets", LA_JSON_DEPTH);
        /* where jansson keeps it */
        where->text[sizeof where->text - 1] = json_error_stack_overflow;
    }
    return NULL;
}

la_status la_json_load(const char *path, size_t max_bytes, json_t **root, la_error *err) {
    char *data;
    size_t length;
    *root = NULL;
    LA_TRY(la_file_read(path, max_bytes, &data, &length, err));
    size_t mark;
    la_status status = la_text_check_kind(path, "JSON", data, length, &mark, err);
    if (status != LA_OK) {
        free(data);
        return status;
    }
    const char *text = data + mark;
    json_error_t where;
    *root = la_json_loadb(text, length - mark, 0, &where);
    if (!*root && json_error_code(&where) == json_error_out_of_memory)
        status = la_fail(err, LA_RESOURCE, "%s: out of memory to read it", path);
    else if (!*root && !strncmp(text, "version https://git-lfs", 23))
        status = la_fail(err, LA_BAD_INPUT,
                         "%s: is a Git LFS pointer, not the file itself; run `git lfs pull`", path);
    else if (!*root)
        status = la_fail(err, LA_BAD_INPUT, "%s: line %d: not valid JSON: %s", path, where.line,
                         where.text);
    else if (!json_is_object(*root)) {
        status = la_fail(err, LA_BAD_INPUT, "%s: holds %s, expected a JSON object", path,
                         la_json_kind(*root));
        json_decref(*root);
        *root = NULL;
    }
    free(data);
    return status;
}

const char *la_json_kind(const json_t *value) {
    if (!value)
        return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a real number";
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    default:
        return "null";
    }
}

static bool absent(const json_t *value) {
    return !value || json_is_null(value);
}

static la_status missing(const char *file, const char *key, bool required, const char *expected,
                         la_error *err) {
    if (!required)
        return LA_OK;
    return la_fail(err, LA_BAD_INPUT, "%s: key \"%s\" is missing, expected %s", file, key,
                   expected);
}

la_status la_json_int(const json_t *object, const char *file, const char *key, bool required,
                      int64_t min, int64_t max, int64_t *out, la_error *err) {
    const json_t *value = json_object_get(object, key);
    if (absent(value))
        return missing(file, key, required, "an integer", err);
    if (!json_is_integer(value))
        return la_fail(err, LA_BAD_INPUT, "%s: key \"%s\" is %s, expected an integer", file, key,
                       la_json_kind(value));
    int64_t number = json_integer_value(value);
    if (number < min || number > max)
        return la_fail(err, LA_BAD_INPUT, "%s: key \"%s\" is %lld, expected %lld to %lld", file,
                       key, (long long)number, (long long)min, (long long)max);
    *out = number;
    return LA_OK;
}

la_status la_json_number(const json_t *object, const char *file, const char *key, bool required,
                         double *out, la_error *err) {
    const json_t *value = json_object_get(object, key);
    if (absent(value))
        return missing(file, key, required, "a number", err);
    if (!json_is_number(value))
        return la_fail(err, LA_BAD_INPUT, "%s: key \"%s\" is %s, expected a number", file, key,
                       la_json_kind(value));
    *out = json_number_value(value);
    return LA_OK;
}

la_status la_json_bool(const json_t *object, const char *file, const char *key, bool required,
                       bool *out, la_error *err) {
    const json_t *value = json_object_get(object, key);
    if (absent(value))
        return missing(file, key, required, "true or false", err);
    if (!json_is_boolean(value))
        return la_fail(err, LA_BAD_INPUT, "%s: key \"%s\" is %s, expected true or false", file, key,
                       la_json_kind(value));
    *out = json_is_true(value);
    return LA_OK;
}

la_status la_json_text(const json_t *object, const char *file, const char *key, bool required,
                       const char **out, la_error *err) {
    const json_t *value = json_object_get(object, key);
    if (absent(value))
        return missing(file, key, required, "a string", err);
    if (!json_is_string(value))
        return la_fail(err, LA_BAD_INPUT, "%s: key \"%s\" is %s, expected a string", file, key,
                       la_json_kind(value));
    *out = json_string_value(value);
    return LA_OK;
}

bool la_json_is_set(const json_t *value) {
    if (absent(value) || json_is_false(value))
        return false;
    if (json_is_object(value))
        return json_object_size(value) > 0;
    if (json_is_array(value))
        return json_array_size(value) > 0;
    if (json_is_string(value))
        return json_string_length(value) > 0;
    return true;
}

#include "model/adapter_names.h"
#include "model/adapter.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LISTED_MAX = 64, TEXT_MAX = 1024 };

/* ---- directories ---- */

static bool has_config(const char *dir, const char *name) {
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/%s/adapter_config.json", dir, name);
    return n > 0 && (size_t)n < sizeof path && access(path, F_OK) == 0;
}

static int by_name(const void *a, const void *b) {
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

/* "a", "b": sorted */
static void list_text(const char **names, int64_t n, char *out, size_t size) {
    size_t at = 0;
    *out = 0;
    qsort(names, (size_t)n, sizeof *names, by_name);
    for (int64_t i = 0; i < n && at < size; i++) {
        int wrote = snprintf(out + at, size - at, "%s\"%s\"", i ? ", " : "", names[i]);
        at += wrote > 0 ? (size_t)wrote : 0;
    }
}

/* Subdirectories that are adapters. */
static la_status list_directories(const char *dir, la_pool *pool, const char *names[LISTED_MAX],
                                  int64_t *n, la_error *err) {
    DIR *stream = opendir(dir);
    struct dirent *entry;
    *n = 0;
    while (stream && *n < LISTED_MAX && (entry = readdir(stream))) {
        const char *name = entry->d_name;
        if (*name == '.' || !has_config(dir, name))
            continue;
        names[*n] = la_pool_text(pool, name, strlen(name), err);
        if (!names[(*n)++])
            break;
    }
    if (stream)
        closedir(stream);
    return err->status;
}

la_status la_adapter_directory(const char *dir, const char *name, la_pool *pool, const char **found,
                               la_error *err) {
    *found = dir;
    if (name && (!*name || *name == '.' || strchr(name, '/')))
        return la_fail(err, LA_USAGE, "--adapter-name \"%s\": expected the name of an adapter",
                       name);
    if (name && has_config(dir, name)) {
        size_t size = strlen(dir) + strlen(name) + 2;
        char *path = la_pool_take(pool, size, 1, err);
        if (path)
            snprintf(path, size, "%s/%s", dir, name);
        *found = path;
        return err->status;
    }
    if (has_config(dir, "."))
        return LA_OK;
    const char *names[LISTED_MAX];
    char text[TEXT_MAX];
    int64_t n;
    LA_TRY(list_directories(dir, pool, names, &n, err));
    if (!n)
        return LA_OK;
    list_text(names, n, text, sizeof text);
    return la_fail(err, LA_USAGE,
                   "%s: holds no adapter%s%s%s itself, but in subfolders: %s; choose "
                   "one with --adapter-name",
                   dir, name ? " \"" : "", name ? name : "", name ? "\"" : "", text);
}

/* ---- keys ---- */

/* True for a part of a key that is a kind's name of its parameter: an adapter's name may follow. */
static bool is_parameter(const char *part, size_t length) {
    for (const la_adapter_kind *const *kind = la_adapter_kinds; *kind; kind++)
        for (const char *const *s = (*kind)->suffixes; s && (*kind)->library->strips && *s; s++)
            if (strcspn(*s, ".") == length && !strncmp(*s, part, length))
                return true;
    return false;
}

/* The name behind a parameter in key, *length characters; NULL: none. */
static const char *name_in(const char *key, size_t *length) {
    for (const char *part = key; part; part = strchr(part, '.')) {
        part += *part == '.';
        size_t n = strcspn(part, ".");
        if (!part[n] || !is_parameter(part, n))
            continue;
        const char *name = part + n + 1;
        *length = strcspn(name, ".");
        bool leaf = !strcmp(name, "weight") || !strcmp(name, "bias");
        return leaf ? NULL : name;
    }
    return NULL;
}

static bool is_known(const la_adapter_names *names, const char *name, size_t length) {
    for (int64_t i = 0; i < names->n; i++)
        if (strlen(names->names[i]) == length && !strncmp(names->names[i], name, length))
            return true;
    return false;
}

la_status la_adapter_names_read(const la_checkpoint *file, const char *name, bool in_directory,
                                la_pool *pool, la_adapter_names *out, la_error *err) {
    *out = (la_adapter_names){.wanted = name ? name : "default"};
    out->names = la_pool_take(pool, LISTED_MAX, sizeof *out->names, err);
    if (!out->names)
        return err->status;
    const char *path = "";
    for (int64_t i = 0; i < la_checkpoint_count(file); i++) {
        const la_tensor *tensor = la_checkpoint_at(file, i);
        size_t length;
        const char *found = name_in(tensor->name, &length);
        path = tensor->file;
        if (!found || out->n == LISTED_MAX || is_known(out, found, length))
            continue;
        out->names[out->n] = la_pool_text(pool, found, length, err);
        if (!out->names[out->n])
            return err->status;
        out->n++;
    }
    if (is_known(out, out->wanted, strlen(out->wanted)) || (!out->n && (in_directory || !name)) ||
        (!out->n && !strcmp(name, "default")))
        return LA_OK;
    char text[TEXT_MAX];
    if (!out->n)
        return la_fail(err, LA_USAGE,
                       "%s: holds one adapter without a name; leave --adapter-name \"%s\" out",
                       path, name);
    list_text(out->names, out->n, text, sizeof text);
    return la_fail(err, LA_USAGE,
                   "%s: holds no adapter \"%s\", but %s; choose one with --adapter-name", path,
                   out->wanted, text);
}

bool la_adapter_names_other(const la_adapter_names *names, const char *key) {
    static const char saved[] = ".modules_to_save.";
    size_t length;
    const char *name = name_in(key, &length);
    if (!name && (name = strstr(key, saved))) {
        name += sizeof saved - 1;
        length = strcspn(name, ".");
    }
    return name && is_known(names, name, length) &&
           (strlen(names->wanted) != length || strncmp(name, names->wanted, length) != 0);
}

/* Drops the first occurrence of piece from text. */
static void cut(char *text, const char *piece, const char *instead) {
    char *at = strstr(text, piece);
    if (!at)
        return;
    size_t with = strlen(instead);
    memmove(at + with, at + strlen(piece), strlen(at + strlen(piece)) + 1);
    memcpy(at, instead, with);
}

void la_adapter_names_strip(const la_adapter_names *names, char *key) {
    static const char saved[] = ".modules_to_save.";
    if (!strncmp(key, "base_model.model.", 17))
        memmove(key, key + 17, strlen(key + 17) + 1);
    cut(key, ".base_layer.", ".");
    size_t length, wanted = strlen(names->wanted);
    const char *name = name_in(key, &length);
    if (name) /* with the dot before it */
        memmove(key + (name - key) - 1, name + length, strlen(name + length) + 1);
    char *copy = strstr(key, saved);
    if (!copy) {
        if (!strcmp(names->wanted, "default"))
            cut(key, ".default.", ".");
        return;
    }
    char *rest = copy + sizeof saved - 1;
    if (!strncmp(rest, names->wanted, wanted) && rest[wanted] == '.')
        rest += wanted + 1;
    memmove(copy + 1, rest, strlen(rest) + 1);
}

/* Options of two adapters or posteriors by name, and which of them differ. */
#include "bayes/structure.h"
#include "input/json.h"
#include "output/posterior_fields.h"
#include "pipeline/diff.h"
#include "base/visible.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Options that change answers beside the blocks: scale and rank, for example, are in what is added
 * to the weights. Keys of the `adapters` library all do, but for those. */
static const char *const of_adapter[] = {"peft_type", "task_type", "use_dora",
                                         "feedforward_modules", "trainable_token_indices"};
static const char library[] = "config.";
static const char *const in_blocks[] = {"alpha", "r", "dropout"};
/* Where something was, which is no part of it. */
static const char *const places[] = {"base_path", "adapter_path"};

static bool is_among(const char *name, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!strcmp(name, list[i]))
            return true;
    return false;
}
#define IS_AMONG(name, list) is_among(name, list, sizeof(list) / sizeof *(list))

/* ---- adapters ---- */

static la_status flatten(const json_t *object, const char *prefix, json_t *out, la_error *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        char name[1024];
        snprintf(name, sizeof name, "%s%s", prefix, key);
        if (json_is_object(value) && json_object_size(value) && strlen(name) < sizeof name - 2) {
            strcat(name, ".");
            LA_TRY(flatten(value, name, out, err));
        } else if (json_object_set(out, name, value)) {
            return la_fail(err, LA_RESOURCE, "out of memory for options");
        }
    }
    return LA_OK;
}

la_status la_adapter_options(const la_adapter *adapter, json_t **options, la_error *err) {
    *options = json_object();
    for (; adapter && *options && err->status == LA_OK; adapter = adapter->next) {
        char prefix[512];
        snprintf(prefix, sizeof prefix, "%s%s", adapter->mark ? adapter->mark : "",
                 adapter->mark ? ": " : "");
        if (!adapter->shares)
            (void)flatten(adapter->config, prefix, *options, err);
    }
    return *options ? err->status : la_fail(err, LA_RESOURCE, "out of memory for options");
}

/* ---- posteriors ---- */

typedef struct collecting {
    json_t *out;
    char prefix[256];
    size_t ends[LA_FIELDS_DEPTH]; /* of the prefixes of the groups around */
    int depth;
} collecting;

static la_status collect_value(void *state, const la_field *f, const char *name, const void *at) {
    collecting *c = state;
    char full[512];
    la_error err = {0};
    json_t *value;
    snprintf(full, sizeof full, "%s%s", c->prefix, name);
    switch (f->kind) {
    case LA_FIELD_INT:
        value = json_integer(*(const int64_t *)at);
        break;
    case LA_FIELD_FLAG:
        value = json_integer(*(const int *)at);
        break;
    case LA_FIELD_NUMBER:
    case LA_FIELD_POSITIVE:
        value = json_real(*(const double *)at);
        break;
    case LA_FIELD_NAME:
        value = json_string(f->names[*(const int *)at]);
        break;
    case LA_FIELD_DIGEST:
        value = json_string(at);
        break;
    default: {
        const char *text = *(const char *const *)at;
        char *shown = (value = json_string(text)) ? NULL : la_visible_copy(text, &err);
        value = value ? value : json_string(shown);
        free(shown);
    }
    }
    return json_object_set_new(c->out, full, value)
               ? la_fail(&err, LA_RESOURCE, "out of memory for options")
               : LA_OK;
}

static la_status collect_array(void *state, const la_field *f, const void *data,
                               const int64_t *shape) {
    const collecting *c = state;
    if (f->kind != LA_FIELD_I32)
        return LA_OK;
    json_t *list = json_array();
    for (int64_t i = 0; i < shape[0]; i++)
        json_array_append_new(list, json_integer(((const int32_t *)data)[i]));
    json_object_set_new(c->out, f->name, list);
    return LA_OK;
}

static la_status open_group(void *state, const la_field *f, const char *name) {
    collecting *c = state;
    size_t used = strlen(c->prefix);
    (void)f;
    c->ends[c->depth++] = used;
    snprintf(c->prefix + used, sizeof c->prefix - used, "%s.", name);
    return LA_OK;
}

static void close_group(void *state) {
    collecting *c = state;
    c->prefix[c->ends[--c->depth]] = 0;
}

/* The blocks are compared by themselves; other rows have another data_digest. */
static bool is_skipped(void *state, const la_field *f) {
    static const char *const groups[] = {"blocks", "inputs", "directions", "row_digests"};
    (void)state;
    return f->name && IS_AMONG(f->name, groups);
}

static const la_field *find_field(const la_field_list *list, const char *name, size_t length,
                                  bool deep) {
    for (int i = 0; i < list->n; i++) {
        const la_field *f = &list->fields[i], *inner = NULL;
        if (f->name && strlen(f->name) == length && !memcmp(f->name, name, length))
            return f;
        if (deep && f->list)
            inner = find_field(f->list, name, length, true);
        if (inner)
            return inner;
    }
    return NULL;
}

/* What "choice.temperature.nll" of a posterior is, by the list of its fields; NULL: not known. */
static const char *meaning_of(const char *name) {
    const la_field_list *list = &la_posterior_fields;
    const la_field *f = NULL;
    for (size_t length; *name && list; name += length + (name[length] == '.')) {
        length = strcspn(name, ".");
        if (*name >= '0' && *name <= '9') /* number of one of many */
            continue;
        f = find_field(list, name, length, false);
        if (!f && list != &la_posterior_fields)
            f = find_field(list, name, length, true);
        list = f ? f->list ? f->list : list : NULL;
    }
    return f && f->meaning && *f->meaning ? f->meaning : NULL;
}

/* Precisions of several parts, and their geometric mean: one that is another shows in it. */
static json_t *range_of_priors(const la_posterior *p) {
    double least = INFINITY, most = 0, mean = 0;
    for (int64_t b = 0; b < p->n_blocks; b++) {
        least = fmin(least, p->blocks[b].prior_precision);
        most = fmax(most, p->blocks[b].prior_precision);
        mean += log(p->blocks[b].prior_precision) / (double)p->n_blocks;
    }
    return json_sprintf("%.6g to %.6g, mean %.6g", least, most, exp(mean));
}

la_status la_posterior_options(const la_posterior *p, json_t **options, la_error *err) {
    collecting c = {.out = json_object()};
    const la_fields_visitor visitor = {.posterior = p,
                                       .state = &c,
                                       .value = collect_value,
                                       .array = collect_array,
                                       .open = open_group,
                                       .close = close_group,
                                       .skips = is_skipped};
    *options = c.out;
    if (!c.out || la_fields_visit(&visitor, &la_posterior_fields, p) != LA_OK)
        return la_fail(err, LA_RESOURCE, "out of memory for options");
    if (p->likelihood->task)
        json_object_set_new(c.out, "task", json_string(p->likelihood->task));
    if (!la_prior_is_one(p->prior)) {
        json_object_del(c.out, "prior_precision");
        json_object_set_new(c.out, "prior_precisions", range_of_priors(p));
    }
    return LA_OK;
}

/* ---- both ---- */

static int by_text(const void *a, const void *b) {
    const char *x = json_string_value(*(json_t *const *)a);
    const char *y = json_string_value(*(json_t *const *)b);
    return strcmp(x ? x : "", y ? y : "");
}

/* A list of names as the set that it is: sorted, each once. The caller gives it back. */
static json_t *in_order(json_t *list) {
    size_t n = json_array_size(list), i;
    json_t **items = malloc((n + 1) * sizeof(json_t *)), *item, *sorted = json_array();
    json_array_foreach(list, i, item) {
        if (items)
            items[i] = item;
    }
    if (items)
        qsort(items, n, sizeof(json_t *), by_text);
    for (i = 0; items && i < n; i++)
        if (!i || !json_equal(items[i], items[i - 1]))
            json_array_append(sorted, items[i]);
    free(items);
    return sorted;
}

static bool is_equal(json_t *a, json_t *b) {
    if (!la_json_is_set(a) && !la_json_is_set(b))
        return true;
    if (json_is_number(a) && json_is_number(b))
        return json_number_value(a) == json_number_value(b);
    if (!json_is_array(a) || !json_is_array(b) || !json_is_string(json_array_get(a, 0)))
        return json_equal(a, b);
    json_t *x = in_order(a), *y = in_order(b);
    bool equal = json_equal(x, y);
    json_decref(x);
    json_decref(y);
    return equal;
}

static bool changes_answers(const char *name, bool of_posterior) {
    if (of_posterior)
        return !IS_AMONG(name, places);
    const char *mark = strstr(name, ": ");
    name = mark ? mark + 2 : name;
    const char *last = strrchr(name, '.');
    if (!strncmp(name, library, sizeof library - 1))
        return !IS_AMONG(last + 1, in_blocks);
    size_t whole = strcspn(name, ".");
    char first[64];
    snprintf(first, sizeof first, "%.*s", (int)(whole < 63 ? whole : 63), name);
    return IS_AMONG(first, of_adapter);
}

static la_status add_one(const char *name, json_t *a, json_t *b, bool of_posterior, json_t *list,
                         bool *matters, la_error *err) {
    if (is_equal(a, b))
        return LA_OK;
    *matters |= changes_answers(name, of_posterior);
    json_t *none = json_null();
    return json_array_append_new(list, json_pack("{s:s, s:s*, s:O, s:O}", "name", name, "meaning",
                                                 of_posterior ? meaning_of(name) : NULL, "a",
                                                 a ? a : none, "b", b ? b : none))
               ? la_fail(err, LA_RESOURCE, "out of memory for options")
               : LA_OK;
}

la_status la_options_compare(const json_t *a, const json_t *b, bool of_posteriors, json_t **list,
                             bool *matters, la_error *err) {
    const char *name;
    json_t *value;
    *matters = false;
    *list = json_array();
    if (!*list)
        return la_fail(err, LA_RESOURCE, "out of memory for options");
    json_object_foreach((json_t *)(uintptr_t)a, name, value)
        LA_TRY(add_one(name, value, json_object_get(b, name), of_posteriors, *list, matters, err));
    json_object_foreach((json_t *)(uintptr_t)b, name, value) {
        if (!json_object_get(a, name))
            LA_TRY(add_one(name, NULL, value, of_posteriors, *list, matters, err));
    }
    return LA_OK;
}

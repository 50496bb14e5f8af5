/* Answers of two prediction files, row by row. */
#include "base/numbers.h"
#include "input/json.h"
#include "output/prediction_file.h"
#include "pipeline/diff.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* An answer. Texts are JSON, of the file's pool. */
typedef struct answer {
    const char *id;  /* NULL: none */
    const char *key; /* the id, with the token's number where the answer is a token's */
    const char *prediction, *label, *title; /* NULL: none */
    int64_t index, line;
    double confidence; /* NaN: none */
    bool failed;       /* an error in place of a prediction */
} answer;

typedef struct answers {
    const char *path;
    la_pool pool;
    answer *list;
    size_t n, capacity, n_ids;
} answers;

static bool is_plain(const la_json_value *value) {
    for (size_t i = 0; i < value->length; i++)
        if ((unsigned char)value->text[i] < ' ' || (unsigned char)value->text[i] > 126 ||
            value->text[i] == '"' || value->text[i] == '\\')
            return false;
    return value->type == '"' || value->type == 't' || value->type == 'f' ||
           (value->type == '0' && value->text[0] != '-' && value->text[0] != '+' &&
            !memchr(value->text, '.', value->length) && !memchr(value->text, 'e', value->length) &&
            !memchr(value->text, 'E', value->length) &&
            (value->text[0] != '0' || value->length == 1));
}

/* JSON of a value as jansson writes it, in the pool; NULL: missing. */
static const char *text_of(answers *a, const la_prediction_entry *entry, const char *key,
                           la_error *err) {
    const la_json_value *value = la_entry_member(entry, key);
    const char *kept = NULL;
    if (!value || value->type == 'n' || (value->type == '"' && !value->length))
        return NULL;
    if (is_plain(value)) { /* as it is, but for quotes */
        size_t quotes = value->type == '"';
        char *copy = la_pool_take(&a->pool, value->length + 2 * quotes + 1, 1, err);
        if (copy && quotes)
            copy[0] = copy[value->length + 1] = '"';
        if (copy)
            memcpy(copy + quotes, value->text, value->length);
        return copy;
    }
    json_t *parsed = la_json_value_parse(value);
    char *text =
        parsed ? json_dumps(parsed, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (text)
        kept = la_pool_text(&a->pool, text, strlen(text), err);
    free(text);
    json_decref(parsed);
    if (!kept)
        (void)la_fail(err, LA_RESOURCE, "out of memory for rows");
    return kept;
}

/* NaN: none. */
static double number_of(const la_json_value *value) {
    double number;
    char text[LA_JSON_DIGITS + 1];
    if (value && value->type == '0')
        return la_json_value_number(value);
    if (!value || value->type != '"' || value->length > LA_JSON_DIGITS)
        return NAN;
    snprintf(text, sizeof text, "%.*s", (int)value->length, value->text);
    return la_number_parse(text, &number) ? number : NAN;
}

static la_status fail(const answers *a, const la_prediction_entry *entry, const char *what,
                      la_error *err) {
    return la_fail(err, LA_BAD_INPUT, "%s:%lld: %s", a->path, (long long)entry->line, what);
}

static la_status take(answers *a, const la_prediction_entry *entry, la_error *err) {
    const la_json_value *title = la_entry_member(entry, "prediction_label");
    LA_TRY(la_grow(&a->list, &a->capacity, a->n + 1, sizeof *a->list, err));
    double number = number_of(la_entry_member(entry, "index"));
    answer *to = &a->list[a->n++];
    *to = (answer){.id = text_of(a, entry, "id", err),
                   .prediction = text_of(a, entry, "prediction", err),
                   .label = text_of(a, entry, "label", err),
                   .title = title && title->type == '"' ? text_of(a, entry, "prediction_label", err)
                                                        : NULL,
                   .index = number >= 0 && number < 1e15 ? (int64_t)number : entry->index,
                   .line = entry->line,
                   .confidence = number_of(la_entry_member(entry, "confidence")),
                   .failed = entry->failed};
    LA_TRY(err->status);
    a->n_ids += to->id != NULL;
    to->key = to->id;
    if (!to->failed && !to->prediction)
        return fail(a, entry,
                    "no field \"prediction\"; expected rows as laplora predict writes them", err);
    if (!to->failed && la_entry_member(entry, "std"))
        return fail(a, entry,
                    "the prediction is a number of a regression, which does not flip; "
                    "--predictions compares classes",
                    err);
    const la_json_value *token = la_entry_member(entry, "token");
    if (!token)
        return LA_OK;
    /* every token of a row has its id */
    char key[512];
    int length = snprintf(key, sizeof key, "%s token %lld", to->id ? to->id : "",
                          (long long)number_of(token));
    to->key = to->id ? la_pool_text(&a->pool, key, (size_t)length, err) : NULL;
    return err->status;
}

static la_status read_answers(const char *path, answers *a, la_error *err) {
    la_prediction_file *file;
    la_prediction_entry entry;
    *a = (answers){.path = strcmp(path, "-") ? path : "standard input"};
    LA_TRY(la_prediction_file_open(path, NULL, false, &file, err));
    for (bool more = true; err->status == LA_OK;) {
        if (la_prediction_file_next(file, &entry, &more, err) != LA_OK || !more)
            break;
        (void)take(a, &entry, err);
    }
    la_prediction_file_close(file);
    return err->status == LA_OK && !a->n
               ? la_fail(err, LA_BAD_INPUT, "%s: is empty, expected prediction rows", path)
               : err->status;
}

static int by_id(const void *x, const void *y) {
    const answer *a = x, *b = y;
    int order = strcmp(a->key, b->key);
    return order ? order : (a->line > b->line) - (a->line < b->line);
}

static int by_index(const void *x, const void *y) {
    const answer *a = x, *b = y;
    if (a->index != b->index)
        return a->index < b->index ? -1 : 1;
    return (a->line > b->line) - (a->line < b->line);
}

static void name_row(const answer *row, bool ids, char text[128]) {
    if (ids)
        snprintf(text, 128, "id %.100s", row->key);
    else
        snprintf(text, 128, "index %lld", (long long)row->index);
}

static int compare_keys(const answer *a, const answer *b, bool ids) {
    return ids ? strcmp(a->key, b->key) : (a->index > b->index) - (a->index < b->index);
}

/* The rows in the order of their ids, or where a file has rows without one, of their indices. */
static la_status sort(answers *a, bool ids, la_error *err) {
    char text[128];
    qsort(a->list, a->n, sizeof *a->list, ids ? by_id : by_index);
    for (size_t i = 1; i < a->n; i++)
        if (!compare_keys(&a->list[i - 1], &a->list[i], ids)) {
            name_row(&a->list[i], ids, text);
            return la_fail(err, LA_BAD_INPUT,
                           "%s:%lld: has the %s of line %lld; expected every row once", a->path,
                           (long long)a->list[i].line, text, (long long)a->list[i - 1].line);
        }
    return LA_OK;
}

/* LA_BAD_INPUT naming the first row of one, in its file's order, that the other has not. */
static la_status check_rows(const answers *a, const answers *b, bool ids, la_error *err) {
    const answer *first = NULL;
    char text[128];
    size_t j = 0;
    for (size_t i = 0; i < a->n; i++) {
        while (j < b->n && compare_keys(&b->list[j], &a->list[i], ids) < 0)
            j++;
        bool there = j < b->n && !compare_keys(&b->list[j], &a->list[i], ids);
        if (!there && (!first || a->list[i].line < first->line))
            first = &a->list[i];
    }
    if (!first)
        return LA_OK;
    name_row(first, ids, text);
    return la_fail(err, LA_BAD_INPUT,
                   "%s:%lld: the row with %s is not in %s; expected predictions of the same rows",
                   a->path, (long long)first->line, text, b->path);
}

static json_t *value_of(const char *text) {
    json_t *value = text ? la_json_loadb(text, strlen(text), JSON_DECODE_ANY, NULL) : NULL;
    return value ? value : json_null();
}

static json_t *flip_json(const answer *a, const answer *b) {
    json_t *row = json_pack("{s:I}", "index", (json_int_t)a->index);
    if (a->id)
        json_object_set_new(row, "id", value_of(a->id));
    json_object_set_new(row, "from", value_of(a->prediction));
    json_object_set_new(row, "to", value_of(b->prediction));
    if (a->title && b->title) {
        json_object_set_new(row, "from_label", value_of(a->title));
        json_object_set_new(row, "to_label", value_of(b->title));
    }
    json_object_set_new(row, "label", value_of(a->label ? a->label : b->label));
    json_object_set_new(row, "confidence_a",
                        isfinite(a->confidence) ? json_real(a->confidence) : json_null());
    json_object_set_new(row, "confidence_b",
                        isfinite(b->confidence) ? json_real(b->confidence) : json_null());
    return row;
}

typedef struct flip {
    int64_t index;
    const answer *a, *b;
} flip;

static int by_place(const void *x, const void *y) {
    const flip *a = x, *b = y;
    return (a->index > b->index) - (a->index < b->index);
}

static la_status count(const answers *a, const answers *b, la_answer_changes *to, la_error *err) {
    flip *flips = la_alloc(a->n, sizeof *flips, err);
    double sum = 0;
    int64_t n_labelled = 0, n_sure = 0;
    if (!flips)
        return err->status;
    *to = (la_answer_changes){.rows = json_array()};
    for (size_t i = 0; i < a->n; i++) {
        const answer *x = &a->list[i], *y = &b->list[i];
        const char *label = x->label ? x->label : y->label;
        if (x->failed || y->failed)
            continue;
        bool same = !strcmp(x->prediction, y->prediction);
        to->n++;
        if (isfinite(x->confidence) && isfinite(y->confidence)) {
            sum += y->confidence - x->confidence;
            n_sure++;
        }
        n_labelled += label != NULL;
        if (same)
            continue;
        to->right_to_wrong += label && !strcmp(x->prediction, label);
        to->wrong_to_right += label && !strcmp(y->prediction, label);
        flips[to->flips++] = (flip){x->index, x, y};
    }
    if (!n_labelled)
        to->right_to_wrong = to->wrong_to_right = -1;
    to->mean_confidence_change = n_sure ? sum / (double)n_sure : NAN;
    qsort(flips, (size_t)to->flips, sizeof *flips, by_place);
    for (int64_t i = 0; i < to->flips; i++)
        if (json_array_append_new(to->rows, flip_json(flips[i].a, flips[i].b)))
            (void)la_fail(err, LA_RESOURCE, "out of memory for rows");
    free(flips);
    return err->status;
}

la_status la_answers_compare(const char *const paths[2], la_answer_changes *changes,
                             la_error *err) {
    answers files[2] = {{0}, {0}};
    la_status status = read_answers(paths[0], &files[0], err);
    if (status == LA_OK)
        status = read_answers(paths[1], &files[1], err);
    bool ids = files[0].n_ids == files[0].n && files[1].n_ids == files[1].n;
    for (int i = 0; i < 2 && status == LA_OK; i++)
        status = sort(&files[i], ids, err);
    for (int i = 0; i < 2 && status == LA_OK; i++)
        status = check_rows(&files[i], &files[!i], ids, err);
    if (status == LA_OK)
        status = count(&files[0], &files[1], changes, err);
    for (int i = 0; i < 2; i++) {
        free(files[i].list);
        la_pool_free(&files[i].pool);
    }
    return status;
}

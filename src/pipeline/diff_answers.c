/* Answers of two prediction files, row by row. */
#include "base/stop.h"
#include "input/json.h"
#include "input/rows.h"
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
    bool table;
    answer *list;
    size_t n, capacity, n_ids;
} answers;

/* Text of a value; NULL: missing. A cell of a table is the JSON that it spells, else a string. */
static const char *text_of(answers *a, const json_t *row, const char *key, la_error *err) {
    const json_t *value = json_object_get(row, key);
    const char *cell = a->table ? json_string_value(value) : NULL;
    json_t *spelt = cell ? la_json_loadb(cell, strlen(cell), JSON_DECODE_ANY, NULL) : NULL;
    if (!value || json_is_null(value) || (json_is_string(value) && !json_string_length(value)))
        return NULL;
    char *text = json_dumps(spelt ? spelt : value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
    char *kept = text ? la_pool_text(&a->pool, text, strlen(text), err) : NULL;
    free(text);
    json_decref(spelt);
    if (!kept)
        (void)la_fail(err, LA_RESOURCE, "out of memory for rows");
    return kept;
}

static double number_of(const json_t *value) {
    const char *text = json_string_value(value);
    char *end = NULL;
    double number = json_is_number(value) ? json_number_value(value) : NAN;
    if (text && *text)
        number = strtod(text, &end);
    return end && *end ? NAN : number;
}

static la_status take(answers *a, const la_row_reader *rows, const la_row *row, la_error *err) {
    const json_t *object = row->object, *index = json_object_get(object, "index");
    const json_t *title = json_object_get(object, "prediction_label");
    LA_TRY(la_grow(&a->list, &a->capacity, a->n + 1, sizeof *a->list, err));
    double number = number_of(index);
    answer *to = &a->list[a->n++];
    *to = (answer){.id = text_of(a, object, "id", err),
                   .prediction = text_of(a, object, "prediction", err),
                   .label = text_of(a, object, "label", err),
                   .title =
                       json_is_string(title) ? text_of(a, object, "prediction_label", err) : NULL,
                   .index = number >= 0 && number < 1e15 ? (int64_t)number : row->index,
                   .line = row->line,
                   .confidence = number_of(json_object_get(object, "confidence")),
                   .failed = text_of(a, object, "error", err) != NULL};
    LA_TRY(err->status);
    a->n_ids += to->id != NULL;
    to->key = to->id;
    if (json_object_get(object, "tokens"))
        return la_row_fail(rows, row, err,
                           "the answers of a row's tokens are a list; write them with predict "
                           "--flat to compare them");
    if (!to->failed && !to->prediction)
        return la_row_fail(rows, row, err,
                           "no field \"prediction\"; expected rows as laplora predict writes them");
    if (!to->failed && json_object_get(object, "std"))
        return la_row_fail(rows, row, err,
                           "the prediction is a number of a regression, which does not flip; "
                           "--predictions compares classes");
    const json_t *token = json_object_get(object, "token");
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
    la_row_fields fields = {.objects = true, .expected = "a prediction file"};
    la_row_reader *rows;
    la_row row;
    *a = (answers){.path = path};
    LA_TRY(la_row_reader_open(path, &fields, &rows, err));
    a->table = la_row_reader_is_table(rows);
    for (bool more = true; err->status == LA_OK;) {
        if (la_row_reader_next(rows, &row, &more, err) != LA_OK || !more)
            break;
        if (take(a, rows, &row, err) == LA_OK && row.index % 1024 == 0)
            (void)la_check_interrupt(err);
    }
    la_row_reader_close(rows);
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

#include "cli/file_facts.h"
#include "base/stop.h"
#include "base/visible.h"
#include "input/json_text.h"
#include "input/rows.h"
#include "input/text_file.h"
#include "input/text_source.h"
#include "output/row_kind.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { TEXT_BYTES_MAX = 256 << 20 };

static const char expected[] = "a posterior, predictions, rows of data or a prompt";

void la_facts_text(json_t *object, const char *key, const char *text) {
    json_t *value = json_string(text);
    la_error ignored = {0};
    char *shown = value ? NULL : la_visible_copy(text, &ignored);
    json_object_set_new(object, key, value ? value : json_string(shown));
    free(shown);
}

/* ---- what is in it ---- */

static la_status add_predictions(const char *path, json_t *out, la_error *err) {
    la_predictions p;
    LA_TRY(la_predictions_read(path, &p, err));
    json_object_set_new(out, "kind", json_string("predictions"));
    if (p.kind->likelihood->task)
        json_object_set_new(out, "task", json_string(p.kind->likelihood->task));
    la_facts_text(out, "confidence_kind", p.confidence_kind);
    json_object_update_new(out,
                           json_pack("{s:I, s:I, s:I, s:I}", "n_labelled", (json_int_t)p.n,
                                     "n_unlabelled", (json_int_t)p.n_unlabelled, "n_errors",
                                     (json_int_t)p.n_errors, "n_classes", (json_int_t)p.n_classes));
    la_predictions_free(&p);
    return LA_OK;
}

static json_t *names_of(const json_t *row) {
    json_t *list = json_array();
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)row, key, value)
        json_array_append_new(list, json_string(key));
    return list;
}

/* Any fields may be the text's: options of fit and predict say which. */
static la_status add_data(const char *path, json_t *out, la_error *err) {
    static const la_row_fields any = {.tagged = true};
    la_row_reader *reader;
    la_row row;
    bool more;
    int64_t n = 0;
    LA_TRY(la_row_reader_open(path, &any, &reader, err));
    json_object_set_new(out, "kind", json_string("data"));
    json_object_set_new(out, "form",
                        json_string(la_row_reader_is_table(reader) ? "table" : "JSON"));
    la_status status = la_row_reader_next(reader, &row, &more, err);
    if (status == LA_OK && more)
        json_object_set_new(out, "fields", names_of(row.object));
    while (status == LA_OK && more) {
        n++;
        if (n % 1024 == 0)
            status = la_check_interrupt(err);
        if (status == LA_OK)
            status = la_row_reader_next(reader, &row, &more, err);
    }
    la_row_reader_close(reader);
    json_object_set_new(out, "n_rows", json_integer(n));
    return status == LA_OK && !n ? la_fail(err, LA_BAD_INPUT, "%s: has no rows", path) : status;
}

/* A text with braces that make a template is a prompt. */
static la_status add_text(const char *path, json_t *out, la_error *err) {
    char *text;
    size_t length;
    la_template *prompt = NULL;
    la_error other = {0};
    int64_t lines = 0;
    LA_TRY(la_text_file_read(path, expected, TEXT_BYTES_MAX, &text, &length, err));
    for (size_t i = 0; i < length; i++)
        lines += text[i] == '\n' || i + 1 == length;
    bool nul = memchr(text, 0, length) != NULL;
    if (!nul && strchr(text, '{') &&
        la_template_parse(path, text, length, &prompt, &other) == LA_OK) {
        json_object_set_new(out, "kind", json_string("prompt"));
        const char *field = la_template_only_field(prompt);
        if (field)
            json_object_set_new(out, "field", json_string(field));
        la_template_free(prompt);
    } else {
        json_object_set_new(out, "kind", json_string("text"));
    }
    json_object_set_new(out, "lines", json_integer(lines));
    free(text);
    return nul ? la_fail(err, LA_BAD_INPUT, "%s: is no text, expected %s", path, expected) : LA_OK;
}

/* ---- which of them ---- */

static bool has(const char *text, size_t length, const char *name, char first) {
    const char *value;
    size_t n;
    la_json_member(text, length, name, &value, &n);
    return value && (!first || *value == first);
}

/* True where the row is one that predict writes; a row of data may have words as its tokens. */
static bool is_prediction(const char *row, size_t length) {
    const char *tokens;
    size_t n;
    la_json_member(row, length, "tokens", &tokens, &n);
    if (has(row, length, "probs", '[') ||
        (has(row, length, "prediction", 0) && has(row, length, "variance", 0)))
        return true;
    if (tokens && *tokens == '[')
        return tokens[1 + strspn(tokens + 1, " \t")] == '{' ||
               (has(row, length, "index", 0) && tokens[1] == ']');
    return has(row, length, "index", 0) && has(row, length, "error", '"');
}

/* JSON of a folder's, which is no rows. */
static la_status check_rows(const char *path, const char *row, size_t length, la_error *err) {
    static const struct {
        const char *key, *what;
    } known[] = {
        {"peft_type", "an adapter's configuration; give the folder that it lies in"},
        {"model_type", "a model's configuration; give the folder that it lies in"},
        {"weight_map", "the index of a model's shards; give the folder that it lies in"},
        {"added_tokens", "a tokenizer; give the folder that it lies in"},
        {"added_tokens_decoder", "a tokenizer's configuration; give the folder that it lies in"},
        {"schema", "a file of laplora's (a report, a threshold, ..), which holds no rows"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (has(row, length, known[i].key, 0) && !has(row, length, "text", 0))
            return la_fail(err, LA_BAD_INPUT, "%s: is %s", path, known[i].what);
    return LA_OK;
}

static la_status add_by_text(const char *path, const char *text, size_t length, json_t *out,
                             la_error *err) {
    size_t at = 0;
    while (at < length && strchr(" \t\r\n", text[at]) && text[at])
        at++;
    if (at == length)
        return la_fail(err, LA_BAD_INPUT, "%s: is empty, expected %s", path, expected);
    size_t entry = at;
    if (text[at] == '[')
        entry += 1 + strspn(text + at + 1, " \t\r\n");
    if (text[entry] == '{') {
        bool closed;
        size_t row = la_json_extent(text + entry, length - entry, &closed);
        if (is_prediction(text + entry, row))
            return add_predictions(path, out, err);
    }
    if (text[at] == '{') {
        bool closed;
        size_t row = la_json_extent(text + at, length - at, &closed);
        /* "{field}" is no JSON */
        size_t key = at + 1;
        while (key < length && strchr(" \t\r\n", text[key]) && text[key])
            key++;
        if (key < length && text[key] != '"' && text[key] != '}')
            return add_text(path, out, err);
        LA_TRY(check_rows(path, text + at, row, err));
        return add_data(path, out, err);
    }
    return text[at] == '[' || la_table_delimiter(path) ? add_data(path, out, err)
                                                       : add_text(path, out, err);
}

la_status la_file_facts(const char *path, json_t *out, la_error *err) {
    la_text_source *source;
    const char *text;
    size_t length;
    struct stat info;
    /* a stream that can be read only once cannot be examined first */
    if (!stat(path, &info) && !S_ISREG(info.st_mode))
        return add_predictions(path, out, err);
    LA_TRY(la_text_source_open(path, expected, false, NULL, &source, err));
    la_status status = la_text_source_peek(source, &text, &length, err);
    char *copy = NULL;
    if (status == LA_OK) {
        /* a text with a NUL behind it, as strspn takes it */
        copy = calloc(length + 1, 1);
        if (copy)
            memcpy(copy, text, length);
        else
            status = la_fail(err, LA_RESOURCE, "out of memory for %s", path);
    }
    la_text_source_close(source);
    if (status == LA_OK)
        status = add_by_text(path, copy, length, out, err);
    free(copy);
    return status;
}

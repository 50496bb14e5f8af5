#include "input/tags.h"
#include "base/visible.h"
#include "base/memory.h"
#include "input/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* transformers' mark of tokens that no loss is taken of */
enum { IGNORED = -100 };

static const char *const word_names[] = {"tokens", "words", NULL};
static const char *const tag_names[] = {"tags", "ner_tags", "labels", NULL};

static void clear(la_tags *tags) {
    for (int i = 0; i < 2; i++) {
        json_decref(tags->parsed[i]);
        tags->parsed[i] = NULL;
    }
    tags->words = NULL;
    tags->tagged = false;
    tags->n = 0;
}

void la_tags_free(la_tags *tags) {
    clear(tags);
    free(tags->labels);
    *tags = (la_tags){0};
}

/* The list in the named field, or in the first usual one; NULL: none. A cell of a table holds it as
 * JSON text. */
static la_status find_list(const la_row_reader *reader, const la_row *row, const char *wanted,
                           const char *const *usual, json_t **parsed, const char **key,
                           const json_t **list, la_error *err) {
    const json_t *value = wanted ? json_object_get(row->object, wanted) : NULL;
    *key = wanted;
    for (; !wanted && *usual && !value; usual++) {
        *key = *usual;
        value = json_object_get(row->object, *usual);
    }
    *list = NULL;
    if (!value || json_is_null(value))
        return LA_OK;
    const char *text = json_string_value(value);
    if (text && !*text)
        return LA_OK;
    if (text && *text == '[')
        value = *parsed = la_json_loadb(text, strlen(text), 0, NULL);
    if (!json_is_array(value))
        return la_row_fail(reader, row, err, "field \"%s\" is %s, expected a list", *key,
                           value ? la_json_kind(value) : "not valid JSON");
    *list = value;
    return LA_OK;
}

static la_status find_words(const la_row_reader *reader, const la_row *row,
                            const la_row_fields *fields, la_tags *tags, la_error *err) {
    const char *key;
    const json_t *list;
    LA_TRY(find_list(reader, row, fields->text, word_names, &tags->parsed[0], &key, &list, err));
    if (!list) {
        char columns[400];
        la_row_columns(row, columns, sizeof columns);
        return la_row_fail(reader, row, err,
                           "no words; the adapter classifies tokens, expected a list of words "
                           "in \"%s\" or token ids in \"input_ids\"; the row has: %s",
                           fields->text ? fields->text : "tokens\" or \"words", columns);
    }
    size_t n = json_array_size(list);
    for (size_t i = 0; i < n; i++)
        if (!json_is_string(json_array_get(list, i)))
            return la_row_fail(reader, row, err, "%s[%zu] is %s, expected a word", key, i,
                               la_json_kind(json_array_get(list, i)));
    if (!n)
        return la_row_fail(reader, row, err, "\"%s\" is empty, expected at least one word", key);
    tags->words = list;
    tags->n = (int64_t)n;
    return LA_OK;
}

static la_status read_tag(const la_row_reader *reader, const la_row *row, const char *key,
                          const json_t *value, size_t i, const la_label_rule *rule, la_label *label,
                          la_error *err) {
    if (json_is_number(value) && json_number_value(value) == IGNORED)
        return LA_OK;
    la_row one = *row;
    one.label = value;
    if (la_row_label(reader, &one, rule, label, err) == LA_OK)
        return LA_OK;
    la_error inner = *err;
    *err = (la_error){0};
    return la_fail(err, inner.status, "%.*s (%s[%zu]; null or %d where there is none)",
                   (int)la_visible_cut(inner.message, 900), inner.message, key, i, (int)IGNORED);
}

la_status la_tags_read(const la_row_reader *reader, const la_row *row, const la_row_fields *fields,
                       const la_label_rule *rule, bool with_labels, la_tags *tags, la_error *err) {
    const json_t *list = NULL;
    const char *key = NULL;
    clear(tags);
    if (rule->kind == LA_LABEL_SET)
        return la_fail(err, LA_UNSUPPORTED, "%s: several labels a token are not supported",
                       la_row_reader_name(reader));
    tags->n = row->n_ids;
    if (!row->ids)
        LA_TRY(find_words(reader, row, fields, tags, err));
    if (with_labels)
        LA_TRY(
            find_list(reader, row, fields->label, tag_names, &tags->parsed[1], &key, &list, err));
    size_t n = (size_t)tags->n;
    if (list && json_array_size(list) != n)
        return la_row_fail(reader, row, err, "\"%s\" has %zu tags, expected %zu, one a %s", key,
                           json_array_size(list), n, tags->words ? "word" : "token id");
    tags->tagged = list != NULL;
    LA_TRY(la_grow(&tags->labels, &tags->labels_capacity, n, sizeof *tags->labels, err));
    for (size_t i = 0; i < n; i++) {
        tags->labels[i] = la_label_none(rule->kind);
        if (list)
            LA_TRY(read_tag(reader, row, key, json_array_get(list, i), i, rule, &tags->labels[i],
                            err));
    }
    return LA_OK;
}

#include "output/prediction_file.h"
#include "base/memory.h"
#include "base/numbers.h"
#include "base/stop.h"
#include "base/visible.h"
#include "input/json.h"
#include "input/rows.h"
#include "output/row_kind.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MEMBERS_MOST = 64 };

/* Members of an object, from its text where it has one, else from an object of jansson. */
typedef struct member_list {
    la_json_value *list; /* [n] */
    size_t capacity;
    int n;
    const char *text; /* NULL: the object is json */
    size_t length;
    json_t *json; /* NULL where it was not asked for yet */
    bool owned;   /* json is given back */
} member_list;

struct la_prediction_file {
    la_row_fields fields;
    la_row_reader *rows;
    const char *name;
    bool table, lists;
    int64_t n_lists;
    int64_t index, line;
    member_list row, token;
    la_pool texts; /* of members that are not from the text of a row */
    /* tokens of the row at hand */
    bool in_tokens;
    la_json_value tokens;
    const char *at;
    int64_t number;
};

/* ---- members ---- */

static void clear(member_list *members) {
    if (members->owned)
        json_decref(members->json);
    members->json = NULL;
    members->owned = false;
    members->text = NULL;
    members->n = 0;
}

static bool from_text(member_list *members, const char *text, size_t length) {
    members->text = text;
    members->length = length;
    return la_json_members(text, length, members->list, MEMBERS_MOST, &members->n);
}

/* cell: the value as it stands in a table; NULL: it is from none. */
static la_status describe(la_prediction_file *file, const json_t *value, const char *cell,
                          la_json_value *out, la_error *err) {
    static const char types[] = {
        [JSON_OBJECT] = '{', [JSON_ARRAY] = '[', [JSON_STRING] = '"', [JSON_INTEGER] = '0',
        [JSON_REAL] = '0',   [JSON_TRUE] = 't',  [JSON_FALSE] = 'f',  [JSON_NULL] = 'n'};
    out->type = types[json_typeof(value)];
    out->count = (int64_t)json_array_size(value);
    out->escaped = false;
    out->text = json_is_string(value) ? json_string_value(value) : NULL;
    out->length = json_is_string(value) ? json_string_length(value) : 0;
    if (json_is_number(value) && cell && strlen(cell) < LA_JSON_DIGITS) {
        out->text = cell;
        out->length = strlen(cell);
    }
    if (out->text)
        return LA_OK;
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    out->length = text ? strlen(text) : 0;
    out->text = text ? la_pool_text(&file->texts, text, out->length, err) : NULL;
    free(text);
    return out->text ? LA_OK : la_fail(err, LA_RESOURCE, "out of memory for a row");
}

/* cells: the row as a table has it; NULL: it is from none. */
static la_status from_json(la_prediction_file *file, member_list *members, json_t *json,
                           const json_t *cells, la_error *err) {
    const char *key;
    json_t *value;
    members->json = json;
    LA_TRY(la_grow(&members->list, &members->capacity, json_object_size(json),
                   sizeof *members->list, err));
    json_object_foreach(json, key, value) {
        la_json_value *member = &members->list[members->n++];
        *member = (la_json_value){.key = key, .key_length = strlen(key)};
        LA_TRY(describe(file, value, json_string_value(json_object_get(cells, key)), member, err));
    }
    return LA_OK;
}

static json_t *parse(member_list *members, la_error *err) {
    if (!members->json) {
        members->json = la_json_loadb(members->text, members->length, JSON_ALLOW_NUL, NULL);
        members->owned = true;
    }
    if (!members->json)
        (void)la_fail(err, LA_RESOURCE, "out of memory for a row");
    return members->json;
}

static const la_json_value *member_of(const member_list *members, const char *name) {
    return la_json_member_of(members->list, members->n, name);
}

/* ---- tables ---- */

/* The vector that a column is an entry of; NULL: a field of its own. */
static const la_row_field *vector_of(const char *column) {
    for (int k = 0; k < LA_ROW_KINDS; k++)
        for (int f = 0; f < la_row_kinds[k]->n_fields; f++) {
            const la_row_field *field = &la_row_kinds[k]->fields[f];
            size_t stem = field->column && field->into ? strlen(field->column) : 0;
            if (stem && !strncmp(column, field->column, stem) && column[stem] == '_')
                return field;
        }
    return NULL;
}

static json_t *value_of_cell(const char *text) {
    double number;
    json_t *nested =
        *text == '[' || *text == '{' ? la_json_loadb(text, strlen(text), 0, NULL) : NULL;
    if (nested)
        return nested;
    if (!la_number_parse(text, &number))
        return json_string(text);
    bool whole = !text[strspn(text, "+-0123456789")] && fabs(number) < 1e15;
    return whole ? json_integer((json_int_t)number) : json_real(number);
}

/* The row as JSON has it. An empty cell is a missing field. The caller frees it. */
static json_t *object_of_cells(const json_t *cells, la_error *err) {
    json_t *object = json_object(), *cell, *list;
    const char *column;
    int bad = !object;
    json_object_foreach((json_t *)(uintptr_t)cells, column, cell) {
        const la_row_field *vector = vector_of(column);
        if (!json_string_length(cell))
            continue;
        json_t *value = value_of_cell(json_string_value(cell));
        if (!vector) {
            bad |= json_object_set_new(object, column, value);
            continue;
        }
        list = json_object_get(object, vector->name);
        if (!list)
            bad |= json_object_set_new(object, vector->name, list = json_array());
        bad |= json_array_append_new(list, value);
    }
    if (!bad)
        return object;
    json_decref(object);
    (void)la_fail(err, LA_RESOURCE, "out of memory for a row");
    return NULL;
}

/* ---- rows ---- */

static bool scan(void *user, const char *text, size_t length) {
    la_prediction_file *file = user;
    clear(&file->row);
    return from_text(&file->row, text, length);
}

static la_status take_parsed(la_prediction_file *file, const la_row *row, la_error *err) {
    json_t *own = (json_t *)(uintptr_t)row->object, *object = own;
    clear(&file->row);
    if (file->table) {
        object = object_of_cells(row->object, err);
        file->row.owned = true;
    }
    return object ? from_json(file, &file->row, object, file->table ? own : NULL, err)
                  : err->status;
}

static la_status bad_tokens(const la_prediction_file *file, const char *index, const char *expected,
                            const json_t *found, la_error *err) {
    return la_fail(err, LA_BAD_INPUT, "%s:%lld: \"tokens\"%s is %s, expected %s", file->name,
                   (long long)file->line, index, la_json_kind(found), expected);
}

/* The next token of the row. */
static la_status next_token(la_prediction_file *file, bool *more, la_error *err) {
    la_json_value value;
    char index[32];
    *more = la_json_entry(&file->tokens, &file->at, &value);
    clear(&file->token);
    if (!*more || (value.type == '{' && from_text(&file->token, value.text, value.length))) {
        file->number += *more;
        return LA_OK;
    }
    json_t *list = json_object_get(parse(&file->row, err), "tokens");
    json_t *token = json_array_get(list, (size_t)file->number);
    snprintf(index, sizeof index, "[%lld]", (long long)file->number++);
    LA_TRY(err->status);
    clear(&file->token);
    if (!json_is_object(token))
        return bad_tokens(file, index, "a prediction", token, err);
    return from_json(file, &file->token, token, NULL, err);
}

/* A row with predictions of its own is one, whatever else is in it. */
static bool is_nested(const member_list *row) {
    return member_of(row, "tokens") && !member_of(row, "probs") &&
           !(member_of(row, "variance") && member_of(row, "prediction"));
}

static la_status begin_tokens(la_prediction_file *file, la_error *err) {
    const la_json_value *tokens = member_of(&file->row, "tokens");
    if (!file->lists)
        return la_fail(err, LA_BAD_INPUT,
                       "%s:%lld: the answers of a row's tokens are a list; write them with predict "
                       "--flat to compare them",
                       file->name, (long long)file->line);
    if (tokens->type != '[') {
        json_t *row = parse(&file->row, err);
        return row ? bad_tokens(file, "", "a list of predictions", json_object_get(row, "tokens"),
                                err)
                   : err->status;
    }
    file->n_lists++;
    file->in_tokens = true;
    file->tokens = *tokens;
    file->number = 0;
    la_json_entries(tokens, &file->at);
    return LA_OK;
}

static void fill(la_prediction_file *file, const member_list *members, la_prediction_entry *entry) {
    *entry = (la_prediction_entry){.file = file,
                                   .index = file->index,
                                   .line = file->line,
                                   .members = members->list,
                                   .n_members = members->n,
                                   .row = file->row.list,
                                   .n_row = file->row.n};
}

la_status la_prediction_file_next(la_prediction_file *file, la_prediction_entry *entry, bool *more,
                                  la_error *err) {
    for (;;) {
        la_row row;
        if (file->in_tokens) {
            LA_TRY(next_token(file, &file->in_tokens, err));
            fill(file, &file->token, entry);
            if (file->in_tokens)
                return LA_OK;
        }
        *more = false;
        if (file->texts.chunks)
            la_pool_free(&file->texts);
        LA_TRY(la_row_reader_next(file->rows, &row, more, err));
        if (!*more)
            return LA_OK;
        file->index = row.index;
        file->line = row.line;
        if (row.index % 1024 == 0)
            LA_TRY(la_check_interrupt(err));
        if (row.object)
            LA_TRY(take_parsed(file, &row, err));
        const la_json_value *error = member_of(&file->row, "error");
        fill(file, &file->row, entry);
        entry->failed = error && error->type != 'n';
        if (entry->failed || !is_nested(&file->row))
            return LA_OK;
        LA_TRY(begin_tokens(file, err));
    }
}

la_status la_prediction_file_open(const char *path, la_digest *digest, bool lists,
                                  la_prediction_file **out, la_error *err) {
    la_prediction_file *file = la_alloc(1, sizeof *file, err);
    *out = NULL;
    if (!file)
        return err->status;
    file->fields = (la_row_fields){.objects = true,
                                   .expected = "a prediction file",
                                   .scan = scan,
                                   .user = file,
                                   .digest = digest};
    file->lists = lists;
    member_list *both[] = {&file->row, &file->token};
    for (int i = 0; i < 2 && err->status == LA_OK; i++)
        (void)la_grow(&both[i]->list, &both[i]->capacity, MEMBERS_MOST, sizeof *both[i]->list, err);
    if (err->status == LA_OK)
        (void)la_row_reader_open(path, &file->fields, &file->rows, err);
    if (err->status != LA_OK) {
        la_prediction_file_close(file);
        return err->status;
    }
    file->name = la_row_reader_name(file->rows);
    file->table = la_row_reader_is_table(file->rows);
    *out = file;
    return LA_OK;
}

void la_prediction_file_close(la_prediction_file *file) {
    if (!file)
        return;
    clear(&file->row);
    clear(&file->token);
    free(file->row.list);
    free(file->token.list);
    la_pool_free(&file->texts);
    la_row_reader_close(file->rows);
    free(file);
}

const char *la_prediction_file_name(const la_prediction_file *file) {
    return file->name;
}

int64_t la_prediction_file_lists(const la_prediction_file *file) {
    return file->n_lists;
}

/* ---- of an entry ---- */

const la_json_value *la_entry_member(const la_prediction_entry *entry, const char *name) {
    return la_json_member_of(entry->members, entry->n_members, name);
}

const la_json_value *la_entry_field(const la_prediction_entry *entry, const char *name) {
    const la_json_value *own = la_entry_member(entry, name);
    return own || entry->row == entry->members ? own
                                               : la_json_member_of(entry->row, entry->n_row, name);
}

bool la_entry_is(const la_prediction_entry *entry, const char *name) {
    const la_json_value *flag = la_entry_field(entry, name);
    return flag && (flag->type == 't' ||
                    (flag->type == '"' && flag->length == 4 && !memcmp(flag->text, "true", 4)));
}

json_t *la_entry_json(const la_prediction_entry *entry, la_error *err) {
    bool token = entry->members != entry->row;
    return parse(token ? &entry->file->token : &entry->file->row, err);
}

json_t *la_entry_row_json(const la_prediction_entry *entry, la_error *err) {
    return parse(&entry->file->row, err);
}

const char *la_entry_place(const la_prediction_entry *entry, char place[LA_ENTRY_PLACE]) {
    const char *name = entry->file->name;
    snprintf(place, LA_ENTRY_PLACE, "%.*s:%lld", (int)la_visible_cut(name, 400), name,
             (long long)entry->line);
    return place;
}

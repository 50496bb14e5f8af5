#include "input/template.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct piece {
    const char *text; /* literal, or the name of a field */
    size_t length;
    bool is_field;
} piece;

struct la_template {
    la_pool pool;
    char *source;
    const char *only_field; /* its name, where there is one */
    piece *pieces;
    size_t n_pieces;
};

static la_status parse_pieces(const char *name, la_template *prompt, la_error *err) {
    const char *source = prompt->source;
    size_t at = 0, n = 0;
    char *literal = la_pool_take(&prompt->pool, strlen(source) + 1, 1, err);
    /* every piece takes at least one byte of source */
    prompt->pieces = la_pool_take(&prompt->pool, strlen(source) + 1, sizeof(piece), err);
    if (!literal || !prompt->pieces)
        return err->status;
    while (source[at]) {
        piece *p = &prompt->pieces[n++];
        if (source[at] == '{' && source[at + 1] != '{') {
            size_t end = at + 1 + strcspn(source + at + 1, "{}\n");
            if (source[end] != '}' || end == at + 1)
                return la_fail(err, LA_BAD_INPUT,
                               "%s: byte %zu: \"{\" without a field name and \"}\"; write \"{{\" "
                               "for a brace",
                               name, at);
            *p = (piece){source + at + 1, end - at - 1, true};
            at = end + 1;
            continue;
        }
        *p = (piece){literal, 0, false};
        while (source[at] && !(source[at] == '{' && source[at + 1] != '{')) {
            if (source[at] == '}' && source[at + 1] != '}')
                return la_fail(err, LA_BAD_INPUT,
                               "%s: byte %zu: \"}\" without \"{\"; write \"}}\" for a brace", name,
                               at);
            size_t step = source[at] == '{' || source[at] == '}' ? 2 : 1;
            *literal++ = source[at];
            p->length++;
            at += step;
        }
    }
    prompt->n_pieces = n;
    return LA_OK;
}

static la_status find_only_field(la_template *prompt, la_error *err) {
    const piece *field = NULL;
    for (size_t i = 0; i < prompt->n_pieces; i++) {
        const piece *p = &prompt->pieces[i];
        if (!p->is_field)
            continue;
        if (field && (p->length != field->length || memcmp(p->text, field->text, p->length)))
            return LA_OK;
        field = p;
    }
    if (field &&
        !(prompt->only_field = la_pool_text(&prompt->pool, field->text, field->length, err)))
        return err->status;
    return LA_OK;
}

la_status la_template_parse(const char *name, const char *text, size_t length, la_template **out,
                            la_error *err) {
    *out = NULL;
    if (memchr(text, 0, length))
        return la_fail(err, LA_BAD_INPUT, "%s: holds a NUL byte, expected text", name);
    la_template *prompt = la_alloc(1, sizeof *prompt, err);
    if (!prompt)
        return err->status;
    prompt->source = la_pool_text(&prompt->pool, text, length, err);
    la_status status = prompt->source ? parse_pieces(name, prompt, err) : err->status;
    if (status == LA_OK)
        status = find_only_field(prompt, err);
    if (status != LA_OK) {
        la_template_free(prompt);
        return status;
    }
    *out = prompt;
    return LA_OK;
}

void la_template_free(la_template *prompt) {
    if (!prompt)
        return;
    la_pool_free(&prompt->pool);
    free(prompt);
}

la_status la_template_fill(const la_template *prompt, const json_t *fields, const char *where,
                           char **out, size_t *length, la_error *err) {
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    la_status status = LA_OK;
    *out = NULL;
    if (!stream)
        return la_fail(err, LA_RESOURCE, "out of memory for a prompt");
    for (size_t i = 0; i < prompt->n_pieces && status == LA_OK; i++) {
        const piece *p = &prompt->pieces[i];
        if (!p->is_field) {
            fwrite(p->text, 1, p->length, stream);
            continue;
        }
        const json_t *value = json_object_getn(fields, p->text, p->length);
        if (!value || json_is_null(value)) {
            status = la_fail(err, LA_BAD_INPUT, "%s: the template's field \"%.*s\" is missing",
                             where, (int)p->length, p->text);
        } else if (json_is_string(value)) {
            fwrite(json_string_value(value), 1, json_string_length(value), stream);
        } else {
            json_dumpf(value, stream, JSON_ENCODE_ANY | JSON_COMPACT);
        }
    }
    if (fclose(stream) && status == LA_OK)
        status = la_fail(err, LA_RESOURCE, "out of memory for a prompt");
    if (status != LA_OK) {
        free(text);
        return status;
    }
    *out = text;
    *length = size;
    return LA_OK;
}

const char *la_template_text(const la_template *prompt) {
    return prompt->source;
}

bool la_template_has_fields(const la_template *prompt) {
    for (size_t i = 0; i < prompt->n_pieces; i++)
        if (prompt->pieces[i].is_field)
            return true;
    return false;
}

const char *la_template_only_field(const la_template *prompt) {
    return prompt->only_field;
}

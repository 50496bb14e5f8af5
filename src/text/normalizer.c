#include "text/parts.h"

#include <string.h>

static la_status pool_codes(const la_text_source *source, const char *text, size_t length,
                            la_codes *out) {
    la_codes codes = {0};
    la_status status = la_codes_decode(&codes, text, length, source->err);
    if (status == LA_OK) {
        out->data = la_pool_take(source->pool, codes.n, sizeof *out->data, source->err);
        out->n = codes.n;
        if (!out->data)
            status = source->err->status;
        else if (codes.n)
            memcpy(out->data, codes.data, codes.n * sizeof *out->data);
    }
    la_codes_free(&codes);
    return status;
}

static la_status load_bert(const la_text_source *source, const json_t *json,
                           la_normalizer_step *step) {
    step->clean = step->ideographs = step->lower = true;
    LA_TRY(la_json_bool(json, source->path, "clean_text", false, &step->clean, source->err));
    LA_TRY(la_json_bool(json, source->path, "handle_chinese_chars", false, &step->ideographs,
                        source->err));
    LA_TRY(la_json_bool(json, source->path, "lowercase", false, &step->lower, source->err));
    /* null: as lowercase */
    step->accents = step->lower;
    return la_json_bool(json, source->path, "strip_accents", false, &step->accents, source->err);
}

static la_status load_replace(const la_text_source *source, const json_t *json,
                              la_normalizer_step *step) {
    const json_t *pattern = json_object_get(json_object_get(json, "pattern"), "String");
    const json_t *content = json_object_get(json, "content");
    if (!json_is_string(pattern) || !json_string_length(pattern) || !json_is_string(content))
        return la_fail(source->err, LA_UNSUPPORTED,
                       "%s: normalizer Replace: only a non-empty String pattern is supported",
                       source->path);
    LA_TRY(
        pool_codes(source, json_string_value(pattern), json_string_length(pattern), &step->from));
    return pool_codes(source, json_string_value(content), json_string_length(content), &step->to);
}

static la_status load_step(const la_text_source *source, const json_t *json, const char *type,
                           la_normalizer_step *step) {
    static const struct {
        const char *type;
        la_normalizer_kind kind;
        la_form form;
    } kinds[] = {
        {"BertNormalizer", LA_NORMALIZE_BERT, 0},
        {"NFC", LA_NORMALIZE_FORM, LA_FORM_NFC},
        {"NFD", LA_NORMALIZE_FORM, LA_FORM_NFD},
        {"NFKC", LA_NORMALIZE_FORM, LA_FORM_NFKC},
        {"NFKD", LA_NORMALIZE_FORM, LA_FORM_NFKD},
        {"Lowercase", LA_NORMALIZE_LOWER, 0},
        {"StripAccents", LA_NORMALIZE_STRIP_ACCENTS, 0},
        {"Strip", LA_NORMALIZE_STRIP, 0},
        {"Replace", LA_NORMALIZE_REPLACE, 0},
    };
    size_t i = 0;
    while (i < sizeof kinds / sizeof *kinds && strcmp(kinds[i].type, type))
        i++;
    if (i == sizeof kinds / sizeof *kinds)
        return la_fail(source->err, LA_UNSUPPORTED, "%s: normalizer \"%s\" is not supported",
                       source->path, type);
    *step = (la_normalizer_step){.kind = kinds[i].kind, .form = kinds[i].form};
    if (step->kind == LA_NORMALIZE_BERT)
        return load_bert(source, json, step);
    if (step->kind == LA_NORMALIZE_REPLACE)
        return load_replace(source, json, step);
    if (step->kind == LA_NORMALIZE_STRIP) {
        step->left = step->right = true;
        LA_TRY(la_json_bool(json, source->path, "strip_left", false, &step->left, source->err));
        return la_json_bool(json, source->path, "strip_right", false, &step->right, source->err);
    }
    return LA_OK;
}

/* Sequences may be nested: count, then fill. */
static la_status load_steps(const la_text_source *source, const json_t *json, int depth,
                            la_normalizer *out, bool count_only) {
    const char *type = NULL;
    LA_TRY(la_json_text(json, source->path, "type", true, &type, source->err));
    if (depth > 16)
        return la_fail(source->err, LA_BAD_INPUT, "%s: normalizers are nested too deep",
                       source->path);
    if (strcmp(type, "Sequence")) {
        if (!count_only)
            LA_TRY(load_step(source, json, type, &out->steps[out->n_steps]));
        out->n_steps++;
        return LA_OK;
    }
    const json_t *list = json_object_get(json, "normalizers");
    size_t i;
    json_t *item;
    if (!json_is_array(list))
        return la_fail(source->err, LA_BAD_INPUT, "%s: \"normalizers\" is %s, expected an array",
                       source->path, la_json_kind(list));
    json_array_foreach(list, i, item) {
        LA_TRY(load_steps(source, item, depth + 1, out, count_only));
    }
    return LA_OK;
}

la_status la_normalizer_load(const la_text_source *source, const json_t *json, la_normalizer *out) {
    *out = (la_normalizer){0};
    if (!json || json_is_null(json))
        return LA_OK;
    LA_TRY(load_steps(source, json, 0, out, true));
    out->steps = la_pool_take(source->pool, (size_t)out->n_steps, sizeof *out->steps, source->err);
    if (!out->steps)
        return source->err->status;
    out->n_steps = 0;
    return load_steps(source, json, 0, out, false);
}

/* ---- application ---- */

static la_status lower(la_codes *text, la_codes *spare, la_error *err) {
    spare->n = 0;
    for (size_t i = 0; i < text->n; i++)
        LA_TRY(la_codes_push_lower(spare, text->data[i], err));
    la_codes swap = *text;
    *text = *spare;
    *spare = swap;
    return LA_OK;
}

static void remove_if(la_codes *text, bool (*test)(int32_t)) {
    size_t n = 0;
    for (size_t i = 0; i < text->n; i++)
        if (!test(text->data[i]))
            text->data[n++] = text->data[i];
    text->n = n;
}

static la_status normal_form(la_form form, la_codes *text, la_codes *spare, la_error *err) {
    LA_TRY(la_codes_normal_form(form, text, spare, err));
    la_codes swap = *text;
    *text = *spare;
    *spare = swap;
    return LA_OK;
}

static void clean(la_codes *text) {
    size_t n = 0;
    for (size_t i = 0; i < text->n; i++) {
        int32_t code = text->data[i];
        if (!code || code == 0xfffd || la_is_control(code))
            continue;
        text->data[n++] = la_is_white_space(code) ? ' ' : code;
    }
    text->n = n;
}

static la_status space_ideographs(la_codes *text, la_codes *spare, la_error *err) {
    spare->n = 0;
    for (size_t i = 0; i < text->n; i++) {
        bool apart = la_is_ideograph(text->data[i]);
        if (apart)
            LA_TRY(la_codes_push(spare, ' ', err));
        LA_TRY(la_codes_push(spare, text->data[i], err));
        if (apart)
            LA_TRY(la_codes_push(spare, ' ', err));
    }
    la_codes swap = *text;
    *text = *spare;
    *spare = swap;
    return LA_OK;
}

static la_status apply_bert(const la_normalizer_step *step, la_codes *text, la_codes *spare,
                            la_error *err) {
    if (step->clean)
        clean(text);
    if (step->ideographs)
        LA_TRY(space_ideographs(text, spare, err));
    if (step->accents) {
        LA_TRY(normal_form(LA_FORM_NFD, text, spare, err));
        remove_if(text, la_is_nonspacing_mark);
    }
    return step->lower ? lower(text, spare, err) : LA_OK;
}

static la_status replace(const la_normalizer_step *step, la_codes *text, la_codes *spare,
                         la_error *err) {
    spare->n = 0;
    for (size_t i = 0; i < text->n;) {
        bool match = text->n - i >= step->from.n &&
                     !memcmp(text->data + i, step->from.data, step->from.n * sizeof(int32_t));
        if (match)
            LA_TRY(la_codes_append(spare, step->to.data, step->to.n, err));
        else
            LA_TRY(la_codes_push(spare, text->data[i], err));
        i += match ? step->from.n : 1;
    }
    la_codes swap = *text;
    *text = *spare;
    *spare = swap;
    return LA_OK;
}

static void strip(const la_normalizer_step *step, la_codes *text) {
    size_t from = 0, to = text->n;
    while (step->left && from < to && la_is_white_space(text->data[from]))
        from++;
    while (step->right && to > from && la_is_white_space(text->data[to - 1]))
        to--;
    if (from)
        memmove(text->data, text->data + from, (to - from) * sizeof *text->data);
    text->n = to - from;
}

la_status la_normalizer_apply(const la_normalizer *normalizer, la_codes *text, la_codes *spare,
                              la_error *err) {
    for (int i = 0; i < normalizer->n_steps; i++) {
        const la_normalizer_step *step = &normalizer->steps[i];
        switch (step->kind) {
        case LA_NORMALIZE_BERT:
            LA_TRY(apply_bert(step, text, spare, err));
            break;
        case LA_NORMALIZE_FORM:
            LA_TRY(normal_form(step->form, text, spare, err));
            break;
        case LA_NORMALIZE_LOWER:
            LA_TRY(lower(text, spare, err));
            break;
        case LA_NORMALIZE_STRIP_ACCENTS:
            remove_if(text, la_is_mark);
            break;
        case LA_NORMALIZE_STRIP:
            strip(step, text);
            break;
        case LA_NORMALIZE_REPLACE:
            LA_TRY(replace(step, text, spare, err));
            break;
        }
    }
    return LA_OK;
}

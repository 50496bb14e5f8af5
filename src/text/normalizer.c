#include "text/normalizer.h"
#include "text/bytelevel.h"

#include <string.h>

/* ---- loading ---- */

static la_status load_bert(const la_text_source *source, const json_t *json,
                           la_normalizer_step *step) {
    step->clean = step->ideographs = step->lower = true;
    LA_TRY(la_source_flag(source, json, "clean_text", &step->clean));
    LA_TRY(la_source_flag(source, json, "handle_chinese_chars", &step->ideographs));
    LA_TRY(la_source_flag(source, json, "lowercase", &step->lower));
    /* null: as lowercase */
    step->accents = step->lower;
    return la_source_flag(source, json, "strip_accents", &step->accents);
}

static la_status load_fields(const la_text_source *source, const json_t *json,
                             la_normalizer_step *step) {
    switch (step->kind) {
    case LA_NORMALIZE_BERT:
        return load_bert(source, json, step);
    case LA_NORMALIZE_REPLACE:
        LA_TRY(la_source_text(source, json_object_get(json, "content"),
                              "normalizer Replace: \"content\"", &step->content));
        return la_pattern_load(source, "normalizer Replace", json_object_get(json, "pattern"),
                               &step->pattern);
    case LA_NORMALIZE_PREPEND:
        return la_source_text(source, json_object_get(json, "prepend"),
                              "normalizer Prepend: \"prepend\"", &step->content);
    case LA_NORMALIZE_CHARSMAP:
        return la_charsmap_load(source, json_object_get(json, "precompiled_charsmap"),
                                &step->charsmap);
    case LA_NORMALIZE_STRIP:
        step->left = step->right = true;
        LA_TRY(la_source_flag(source, json, "strip_left", &step->left));
        return la_source_flag(source, json, "strip_right", &step->right);
    default:
        return LA_OK;
    }
}

/* Counted before they are loaded: every step is freed, whether or not all could be loaded. */
static la_status count_step(const la_text_source *source, const json_t *json, const char *type,
                            void *out) {
    (void)source, (void)json, (void)type;
    ++*(size_t *)out;
    return LA_OK;
}

static la_status load_step(const la_text_source *source, const json_t *json, const char *type,
                           void *out) {
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
        {"Prepend", LA_NORMALIZE_PREPEND, 0},
        {"Nmt", LA_NORMALIZE_NMT, 0},
        {"Precompiled", LA_NORMALIZE_CHARSMAP, 0},
        {"ByteLevel", LA_NORMALIZE_BYTES, 0},
    };
    la_normalizer *normalizer = out;
    la_normalizer_step *step = &normalizer->steps[normalizer->n_steps++];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].type, type)) {
            step->kind = kinds[i].kind;
            step->form = kinds[i].form;
            return load_fields(source, json, step);
        }
    return la_fail(source->err, LA_UNSUPPORTED, "%s: normalizer \"%s\" is not supported",
                   source->path, type);
}

la_status la_normalizer_load(const la_text_source *source, const json_t *json, la_normalizer *out) {
    size_t n = 0;
    LA_TRY(la_source_components(source, json, "normalizers", count_step, &n));
    out->steps = la_pool_take(source->pool, n, sizeof *out->steps, source->err);
    return out->steps ? la_source_components(source, json, "normalizers", load_step, out)
                      : source->err->status;
}

void la_normalizer_free(la_normalizer *normalizer) {
    for (int i = 0; i < normalizer->n_steps; i++)
        la_pattern_free(&normalizer->steps[i].pattern);
    la_text_free(&normalizer->spare);
    la_cuts_free(&normalizer->cuts);
    *normalizer = (la_normalizer){0};
}

/* ---- application: each from text to out; lead as in the header ---- */

/* Appends the result of one character, or nothing. */
typedef la_status (*rewrite)(la_text *out, int32_t code, la_error *err);

static inline la_status map(rewrite append, const la_text *text, la_text *out, size_t *lead,
                            la_error *err) {
    size_t new_lead = SIZE_MAX;
    LA_TRY(la_grow(&out->data, &out->capacity, text->n, 1, err));
    for (size_t at = 0; at < text->n;) {
        if (at >= *lead && new_lead == SIZE_MAX)
            new_lead = out->n;
        LA_TRY(append(out, la_utf8_next(text->data, &at), err));
    }
    *lead = new_lead == SIZE_MAX ? out->n : new_lead;
    return LA_OK;
}

static la_status put_clean(la_text *out, int32_t code, la_error *err) {
    if (!code || code == 0xfffd || la_is_control(code))
        return LA_OK;
    return la_text_push(out, la_is_white_space(code) ? ' ' : code, err);
}

static la_status put_unmarked(la_text *out, int32_t code, la_error *err) {
    return la_is_mark(code) ? LA_OK : la_text_push(out, code, err);
}

static la_status put_spacing(la_text *out, int32_t code, la_error *err) {
    return la_is_nonspacing_mark(code) ? LA_OK : la_text_push(out, code, err);
}

/* Control characters and spaces by the nmt rules of sentencepiece. */
static la_status put_nmt(la_text *out, int32_t code, la_error *err) {
    if ((code >= 1 && code <= 8) || code == 0x0b || (code >= 0x0e && code <= 0x1f) ||
        code == 0x7f || code == 0x8f || code == 0x9f)
        return LA_OK;
    bool space = code == 9 || code == 10 || code == 12 || code == 13 || code == 0x1680 ||
                 (code >= 0x200b && code <= 0x200f) || code == 0x2028 || code == 0x2029 ||
                 code == 0x2581 || code == 0xfeff || code == 0xfffd;
    return la_text_push(out, space ? ' ' : code, err);
}

static la_status put_spaced_ideograph(la_text *out, int32_t code, la_error *err) {
    bool apart = code >= 0x3400 && la_is_ideograph(code);
    if (apart)
        LA_TRY(la_text_push(out, ' ', err));
    LA_TRY(la_text_push(out, code, err));
    return apart ? la_text_push(out, ' ', err) : LA_OK;
}

static la_status normal_form(la_form form, const la_text *text, la_text *out, size_t *lead,
                             la_error *err) {
    LA_TRY(la_normal_form(form, text->data, text->n, out, err));
    /* the result of the first character, at least its beginning */
    if (*lead)
        *lead = out->n ? la_utf8_size(out->data[0]) : 0;
    return LA_OK;
}

static la_status replace(la_normalizer *normalizer, const la_normalizer_step *step,
                         const la_text *text, la_text *out, size_t *lead, la_error *err) {
    la_cuts *cuts = &normalizer->cuts;
    size_t new_lead = SIZE_MAX;
    LA_TRY(la_pattern_cut(&step->pattern, text->data, text->n, cuts, err));
    for (size_t i = 0; i < cuts->n; i++) {
        const la_cut *cut = &cuts->data[i];
        /* a replacement stands where the last character of the match stood */
        size_t place =
            cut->match && cut->to > cut->from ? la_utf8_last(text->data, cut->to) : cut->from;
        if (new_lead == SIZE_MAX && place >= *lead)
            new_lead = out->n;
        else if (new_lead == SIZE_MAX && !cut->match && cut->to > *lead)
            new_lead = out->n + (*lead - cut->from);
        if (cut->match)
            LA_TRY(la_text_append(out, step->content.data, step->content.n, err));
        else
            LA_TRY(la_text_append(out, text->data + cut->from, cut->to - cut->from, err));
    }
    *lead = new_lead == SIZE_MAX ? out->n : new_lead;
    return LA_OK;
}

static la_status prepend(const la_normalizer_step *step, const la_text *text, la_text *out,
                         size_t *lead, la_error *err) {
    if (text->n)
        LA_TRY(la_text_append(out, step->content.data, step->content.n, err));
    if (text->n && *lead)
        *lead += step->content.n;
    return la_text_append(out, text->data, text->n, err);
}

static void strip(const la_normalizer_step *step, la_text *text, size_t *lead) {
    size_t from = 0, to = text->n;
    for (size_t next = 0; step->left && from < to; from = next)
        if (!la_is_white_space(la_utf8_next(text->data, &next)))
            break;
    while (step->right && to > from) {
        size_t last = la_utf8_last(text->data, to), next = last;
        if (!la_is_white_space(la_utf8_next(text->data, &next)))
            break;
        to = last;
    }
    if (from)
        memmove(text->data, text->data + from, to - from);
    text->n = to - from;
    *lead = *lead > from ? *lead - from : 0;
    if (*lead > text->n)
        *lead = text->n;
}

/* One pass from text to spare, which then is the text. */
#define PASS(call)                                                                                 \
    do {                                                                                           \
        spare->n = 0;                                                                              \
        LA_TRY(call);                                                                              \
        la_text_swap(text, spare);                                                                 \
    } while (0)

static la_status apply_bert(const la_normalizer_step *step, la_text *text, la_text *spare,
                            size_t *lead, la_error *err) {
    if (step->clean)
        PASS(map(put_clean, text, spare, lead, err));
    bool ascii = la_utf8_is_ascii(text->data, text->n);
    if (step->ideographs && !ascii)
        PASS(map(put_spaced_ideograph, text, spare, lead, err));
    if (step->accents && !ascii) {
        PASS(normal_form(LA_FORM_NFD, text, spare, lead, err));
        PASS(map(put_spacing, text, spare, lead, err));
    }
    if (step->lower)
        PASS(map(la_text_push_lower, text, spare, lead, err));
    return LA_OK;
}

static la_status apply_step(la_normalizer *normalizer, const la_normalizer_step *step,
                            la_text *text, size_t *lead, la_error *err) {
    la_text *spare = &normalizer->spare;
    switch (step->kind) {
    case LA_NORMALIZE_BERT:
        return apply_bert(step, text, spare, lead, err);
    case LA_NORMALIZE_FORM:
        if (!la_is_normal(step->form, text->data, text->n))
            PASS(normal_form(step->form, text, spare, lead, err));
        break;
    case LA_NORMALIZE_LOWER:
        PASS(map(la_text_push_lower, text, spare, lead, err));
        break;
    case LA_NORMALIZE_STRIP_ACCENTS:
        PASS(map(put_unmarked, text, spare, lead, err));
        break;
    case LA_NORMALIZE_STRIP:
        strip(step, text, lead);
        break;
    case LA_NORMALIZE_REPLACE:
        PASS(replace(normalizer, step, text, spare, lead, err));
        break;
    case LA_NORMALIZE_PREPEND:
        PASS(prepend(step, text, spare, lead, err));
        break;
    case LA_NORMALIZE_NMT:
        PASS(map(put_nmt, text, spare, lead, err));
        break;
    case LA_NORMALIZE_CHARSMAP:
        PASS(la_charsmap_apply(&step->charsmap, text->data, text->n, spare, lead, err));
        break;
    case LA_NORMALIZE_BYTES:
        spare->n = 0;
        if (*lead)
            LA_TRY(la_bytelevel_append(spare, text->data, *lead, err));
        *lead = spare->n;
        PASS(la_bytelevel_append(spare, text->data, text->n, err));
        break;
    }
    return LA_OK;
}

la_status la_normalizer_apply(la_normalizer *normalizer, la_text *text, size_t *lead,
                              la_error *err) {
    for (int i = 0; i < normalizer->n_steps; i++)
        LA_TRY(apply_step(normalizer, &normalizer->steps[i], text, lead, err));
    return LA_OK;
}

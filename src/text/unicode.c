#include "text/unicode.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

void la_codes_free(la_codes *codes) {
    free(codes->data);
    *codes = (la_codes){0};
}

la_status la_codes_push(la_codes *codes, int32_t code, la_error *err) {
    LA_TRY(la_grow(&codes->data, &codes->capacity, codes->n + 1, sizeof *codes->data, err));
    codes->data[codes->n++] = code;
    return LA_OK;
}

la_status la_codes_append(la_codes *codes, const int32_t *data, size_t n, la_error *err) {
    LA_TRY(la_grow(&codes->data, &codes->capacity, codes->n + n, sizeof *codes->data, err));
    if (n)
        memcpy(codes->data + codes->n, data, n * sizeof *data);
    codes->n += n;
    return LA_OK;
}

la_status la_codes_decode(la_codes *codes, const char *text, size_t length, la_error *err) {
    codes->n = 0;
    LA_TRY(la_grow(&codes->data, &codes->capacity, length, sizeof *codes->data, err));
    for (size_t at = 0; at < length;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t step = utf8proc_iterate((const utf8proc_uint8_t *)text + at,
                                                 (utf8proc_ssize_t)(length - at), &code);
        if (step <= 0)
            return la_fail(err, LA_BAD_INPUT, "the text is not valid UTF-8 (byte %zu)", at);
        codes->data[codes->n++] = code;
        at += (size_t)step;
    }
    return LA_OK;
}

size_t la_code_encode(int32_t code, char *out) {
    return (size_t)utf8proc_encode_char(code, (utf8proc_uint8_t *)out);
}

la_status la_codes_normal_form(la_form form, const la_codes *in, la_codes *out, la_error *err) {
    static const int options[] = {
        [LA_FORM_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
        [LA_FORM_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
        [LA_FORM_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
        [LA_FORM_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
    };
    bool ascii = true;
    for (size_t i = 0; i < in->n; i++)
        ascii &= in->data[i] < 0x80;
    out->n = 0;
    if (ascii)
        return la_codes_append(out, in->data, in->n, err);
    char *text = la_alloc(4 * in->n + 1, 1, err);
    if (!text)
        return err->status;
    size_t length = 0;
    for (size_t i = 0; i < in->n; i++)
        length += la_code_encode(in->data[i], text + length);
    utf8proc_uint8_t *mapped = NULL;
    utf8proc_ssize_t size = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length,
                                         &mapped, (utf8proc_option_t)options[form]);
    la_status status = LA_OK;
    if (size < 0)
        status = la_fail(err, size == UTF8PROC_ERROR_NOMEM ? LA_RESOURCE : LA_BAD_INPUT,
                         "Unicode normalisation failed: %s", utf8proc_errmsg(size));
    else
        status = la_codes_decode(out, (const char *)mapped, (size_t)size, err);
    free(mapped);
    free(text);
    return status;
}

bool la_is_white_space(int32_t code) {
    return (code >= 9 && code <= 13) || code == ' ' || code == 0x85 || code == 0xa0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 ||
           code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

bool la_is_punctuation(int32_t code) {
    if (code < 0x80)
        return (code >= '!' && code <= '/') || (code >= ':' && code <= '@') ||
               (code >= '[' && code <= '`') || (code >= '{' && code <= '~');
    utf8proc_category_t category = utf8proc_category(code);
    return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool la_is_numeric(int32_t code) {
    utf8proc_category_t category = utf8proc_category(code);
    return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

bool la_is_word(int32_t code) {
    if (code == 0x200c || code == 0x200d || (code >= 0x24b6 && code <= 0x24e9) ||
        (code >= 0x1f130 && code <= 0x1f149) || (code >= 0x1f150 && code <= 0x1f169) ||
        (code >= 0x1f170 && code <= 0x1f189))
        return true;
    utf8proc_category_t category = utf8proc_category(code);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) ||
           category == UTF8PROC_CATEGORY_PC;
}

bool la_is_mark(int32_t code) {
    utf8proc_category_t category = utf8proc_category(code);
    return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
}

bool la_is_nonspacing_mark(int32_t code) {
    return utf8proc_category(code) == UTF8PROC_CATEGORY_MN;
}

bool la_is_control(int32_t code) {
    if (code == '\t' || code == '\n' || code == '\r')
        return false;
    utf8proc_category_t category = utf8proc_category(code);
    return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
           category == UTF8PROC_CATEGORY_CO;
}

bool la_is_ideograph(int32_t code) {
    /* 2B920 and not 2B820 is what the library does */
    return (code >= 0x4e00 && code <= 0x9fff) || (code >= 0x3400 && code <= 0x4dbf) ||
           (code >= 0x20000 && code <= 0x2a6df) || (code >= 0x2a700 && code <= 0x2b81f) ||
           (code >= 0x2b920 && code <= 0x2ceaf) || (code >= 0xf900 && code <= 0xfaff) ||
           (code >= 0x2f800 && code <= 0x2fa1f);
}

la_status la_codes_push_lower(la_codes *codes, int32_t code, la_error *err) {
    if (code == 0x130) {
        LA_TRY(la_codes_push(codes, 'i', err));
        return la_codes_push(codes, 0x307, err);
    }
    return la_codes_push(codes, utf8proc_tolower(code), err);
}

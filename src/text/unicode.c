#include "text/unicode.h"
#include "base/memory.h"
#include "text/unicode_age.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- classes ---- */

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
    return la_age_correct(LA_AGE_PUNCTUATION, code,
                          category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO);
}

bool la_is_numeric(int32_t code) {
    if (code < 0x80)
        return code >= '0' && code <= '9';
    utf8proc_category_t category = utf8proc_category(code);
    return la_age_correct(LA_AGE_NUMERIC, code,
                          category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO);
}

static bool is_ascii_letter(int32_t code) {
    return (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z');
}

bool la_is_word(int32_t code) {
    if (code < 0x80)
        return is_ascii_letter(code) || (code >= '0' && code <= '9') || code == '_';
    if (code == 0x200c || code == 0x200d || (code >= 0x24b6 && code <= 0x24e9) ||
        (code >= 0x1f130 && code <= 0x1f149) || (code >= 0x1f150 && code <= 0x1f169) ||
        (code >= 0x1f170 && code <= 0x1f189))
        return true;
    utf8proc_category_t category = utf8proc_category(code);
    return la_age_correct(LA_AGE_WORD, code,
                          (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) ||
                              category == UTF8PROC_CATEGORY_PC);
}

bool la_is_mark(int32_t code) {
    if (code < 0x300)
        return false;
    utf8proc_category_t category = utf8proc_category(code);
    return la_age_correct(LA_AGE_MARK, code,
                          category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME);
}

bool la_is_nonspacing_mark(int32_t code) {
    return code >= 0x300 &&
           la_age_correct(LA_AGE_NONSPACING, code, utf8proc_category(code) == UTF8PROC_CATEGORY_MN);
}

bool la_is_control(int32_t code) {
    if (code < 0x80)
        return (code < ' ' || code == 0x7f) && code != '\t' && code != '\n' && code != '\r';
    utf8proc_category_t category = utf8proc_category(code);
    return la_age_correct(LA_AGE_CONTROL, code,
                          category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
                              category == UTF8PROC_CATEGORY_CO);
}

bool la_is_ideograph(int32_t code) {
    /* 2B920 and not 2B820, as in the library */
    return (code >= 0x4e00 && code <= 0x9fff) || (code >= 0x3400 && code <= 0x4dbf) ||
           (code >= 0x20000 && code <= 0x2a6df) || (code >= 0x2a700 && code <= 0x2b81f) ||
           (code >= 0x2b920 && code <= 0x2ceaf) || (code >= 0xf900 && code <= 0xfaff) ||
           (code >= 0x2f800 && code <= 0x2fa1f);
}

la_pattern_class la_classify(int32_t code) {
    if (code < 0x80)
        return is_ascii_letter(code)                           ? LA_CLASS_LETTER
               : code >= '0' && code <= '9'                    ? LA_CLASS_NUMBER
               : code == ' ' || (code >= '\t' && code <= '\r') ? LA_CLASS_SPACE
                                                               : LA_CLASS_OTHER;
    if (la_is_white_space(code))
        return LA_CLASS_SPACE;
    utf8proc_category_t category = utf8proc_category(code);
    if (la_age_correct(LA_AGE_LETTER, code,
                       category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO))
        return LA_CLASS_LETTER;
    return la_age_correct(LA_AGE_NUMBER, code,
                          category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO)
               ? LA_CLASS_NUMBER
               : LA_CLASS_OTHER;
}

la_status la_text_push_lower(la_text *text, int32_t code, la_error *err) {
    if (code < 0x80)
        return la_text_push(text, code >= 'A' && code <= 'Z' ? code + 32 : code, err);
    if (code == 0x130)
        return la_text_append(text, "i\xcc\x87", 3, err);
    return la_text_push(text, la_age_lower(code, utf8proc_tolower(code)), err);
}

/* ---- normal forms ---- */

/* True for characters that are their own normal form (whichever), never the later half of a
 * composition, and never reordered. */
static bool is_inert(int32_t code, bool compatible) {
    if (code < 0xa0)
        return true;
    if (compatible)
        return (code >= 0x4e00 && code <= 0x9fff) || (code >= 0x3041 && code <= 0x304a);
    return code < 0x300 || (code >= 0x400 && code <= 0x482) || (code >= 0x5d0 && code <= 0x5ea) ||
           (code >= 0x628 && code <= 0x64a) || (code >= 0xe01 && code <= 0xe30) ||
           (code >= 0x2010 && code <= 0x2027) || (code >= 0x3001 && code <= 0x3029) ||
           (code >= 0x3041 && code <= 0x3098) || (code >= 0x309b && code <= 0x30fe) ||
           (code >= 0x4e00 && code <= 0x9fff) || (code >= 0xac00 && code <= 0xd7a3) ||
           (code >= 0x1f300 && code <= 0x1f64f) || (code >= 0xff01 && code <= 0xffee);
}

bool la_is_normal(la_form form, const char *text, size_t n) {
    if (la_utf8_is_ascii(text, n))
        return true;
    bool decomposing = form == LA_FORM_NFD || form == LA_FORM_NFKD;
    for (size_t at = 0; at < n;) {
        int32_t code = la_utf8_next(text, &at);
        if (code >= 0x80 && (decomposing || !is_inert(code, form == LA_FORM_NFKC)))
            return false;
    }
    return true;
}

static la_status map_run(la_form form, const char *text, size_t n, la_text *out, la_error *err) {
    static const int options[] = {
        [LA_FORM_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
        [LA_FORM_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
        [LA_FORM_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
        [LA_FORM_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
    };
    if (!n || la_is_normal(form, text, n))
        return la_text_append(out, text, n, err);
    utf8proc_uint8_t *mapped = NULL;
    utf8proc_ssize_t size = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n,
                                         &mapped, (utf8proc_option_t)options[form]);
    if (size < 0)
        return la_fail(err, size == UTF8PROC_ERROR_NOMEM ? LA_RESOURCE : LA_BAD_INPUT,
                       "Unicode normalisation failed: %s", utf8proc_errmsg(size));
    la_status status = la_text_append(out, (const char *)mapped, (size_t)size, err);
    free(mapped);
    return status;
}

la_status la_normal_form(la_form form, const char *text, size_t n, la_text *out, la_error *err) {
    /* to the library, characters that its tables lack are starters that nothing composes with: the
     * text on either side is normalised alone */
    size_t from = 0;
    for (size_t at = 0; at < n;) {
        size_t start = at;
        int32_t code = la_utf8_next(text, &at);
        if (code < 0x300 || !la_age_correct(LA_AGE_BARRIER, code, false))
            continue;
        LA_TRY(map_run(form, text + from, start - from, out, err));
        LA_TRY(la_text_append(out, text + start, at - start, err));
        from = at;
    }
    return map_run(form, text + from, n - from, out, err);
}

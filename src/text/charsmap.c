#include "text/charsmap.h"
#include "text/unicode.h"
#include "text/unicode_age.h"

#include <string.h>
#include <utf8proc.h>

/* Longest cluster of characters that is looked up as a whole. */
enum { CLUSTER_BYTES_MAX = 5 };

static int base64_digit(char c) {
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/* Number of bytes decoded; SIZE_MAX when text is no base64. */
static size_t decode_base64(const char *text, size_t length, unsigned char *out) {
    size_t padding = 0, n = 0;
    if (length % 4)
        return SIZE_MAX;
    while (padding < 2 && padding < length && text[length - 1 - padding] == '=')
        padding++;
    uint32_t bits = 0;
    for (size_t i = 0; i < length; i++) {
        int digit = i < length - padding ? base64_digit(text[i]) : 0;
        if (digit < 0)
            return SIZE_MAX;
        bits = bits << 6 | (uint32_t)digit;
        if (i % 4 == 3) {
            out[n++] = (unsigned char)(bits >> 16);
            out[n++] = (unsigned char)(bits >> 8);
            out[n++] = (unsigned char)bits;
            bits = 0;
        }
    }
    return n - padding;
}

static uint32_t unit_at(const unsigned char *data, size_t i) {
    data += 4 * i;
    return data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24;
}

la_status la_charsmap_load(const la_text_source *source, const json_t *json, la_charsmap *out) {
    la_error ignored = {0};
    if (!json_is_string(json))
        return la_fail(
            source->err, LA_BAD_INPUT,
            "%s: normalizer Precompiled: \"precompiled_charsmap\" is %s, expected base64",
            source->path, la_json_kind(json));
    size_t length = json_string_length(json);
    unsigned char *data = la_pool_take(source->pool, length / 4 + 1, 3, source->err);
    if (!data)
        return source->err->status;
    size_t n = decode_base64(json_string_value(json), length, data);
    size_t units = n == SIZE_MAX || n < 4 ? 0 : unit_at(data, 0) / 4;
    if (n == SIZE_MAX || n < 4 || !units || units > (n - 4) / 4 ||
        la_utf8_check((char *)data + 4 + 4 * units, n - 4 - 4 * units, &ignored) != LA_OK)
        return la_fail(source->err, LA_BAD_INPUT,
                       "%s: normalizer Precompiled: \"precompiled_charsmap\" is no charsmap",
                       source->path);
    out->units = la_pool_take(source->pool, units, sizeof *out->units, source->err);
    if (!out->units)
        return source->err->status;
    for (size_t i = 0; i < units; i++)
        out->units[i] = unit_at(data, i + 1);
    out->n_units = units;
    out->texts = (char *)data + 4 + 4 * units;
    out->n_texts = n - 4 - 4 * units;
    return LA_OK;
}

static size_t offset_of(uint32_t unit) {
    return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
}

/* Offset of the replacement of the shortest key that text begins with; -1: none, -2: the array
 * leads nowhere. */
static int64_t find_prefix(const la_charsmap *map, const char *text, size_t n) {
    size_t node = offset_of(map->units[0]);
    for (size_t i = 0; i < n && text[i]; i++) {
        unsigned char byte = (unsigned char)text[i];
        node ^= byte;
        if (node >= map->n_units)
            return -2;
        uint32_t unit = map->units[node];
        if ((unit & (1u << 31 | 0xff)) != byte)
            return -1;
        node ^= offset_of(unit);
        if (unit >> 8 & 1) {
            if (node >= map->n_units)
                return -2;
            return map->units[node] & ~(1u << 31);
        }
    }
    return -1;
}

/* *replaced: text had a replacement, which was appended to out. */
static la_status replace(const la_charsmap *map, const char *text, size_t n, la_text *out,
                         bool *replaced, la_error *err) {
    int64_t at = find_prefix(map, text, n);
    *replaced = at >= 0;
    if (at == -1)
        return LA_OK;
    /* a replacement may begin inside another, but not inside a character */
    if (at == -2 || (size_t)at > map->n_texts ||
        ((size_t)at < map->n_texts && ((unsigned char)map->texts[at] & 0xc0) == 0x80))
        return la_fail(err, LA_BAD_INPUT, "the tokenizer's precompiled_charsmap is damaged");
    const char *start = map->texts + at;
    return la_text_append(out, start, strnlen(start, map->n_texts - (size_t)at), err);
}

/* End of the grapheme cluster that begins at `from`. */
static size_t cluster_end(const char *text, size_t n, size_t from) {
    size_t at = from;
    utf8proc_int32_t state = 0, last = la_utf8_next(text, &at);
    while (at < n) {
        size_t next = at;
        utf8proc_int32_t code = la_utf8_next(text, &next);
        bool simple = code < 0x300 && last < 0x300 && code != '\n' && code != 0xad && last != 0xad;
        if (simple)
            break;
        bool together = !utf8proc_grapheme_break_stateful(last, code, &state);
        /* no character shares a cluster with a control character */
        if (!together && !la_is_control(last) && last >= ' ')
            together = la_age_correct(LA_AGE_EXTENDS, code, together);
        if (!together)
            break;
        last = code;
        at = next;
    }
    return at;
}

la_status la_charsmap_apply(const la_charsmap *map, const char *text, size_t n, la_text *out,
                            size_t *lead, la_error *err) {
    size_t begin = out->n, old_lead = *lead, new_lead = old_lead ? SIZE_MAX : 0;
    for (size_t at = 0; at < n;) {
        size_t end = cluster_end(text, n, at);
        bool replaced = false;
        if (new_lead == SIZE_MAX && at >= old_lead)
            new_lead = out->n - begin;
        if (end - at <= CLUSTER_BYTES_MAX)
            LA_TRY(replace(map, text + at, end - at, out, &replaced, err));
        while (!replaced && at < end) {
            size_t size = la_utf8_size(text[at]);
            bool known;
            if (new_lead == SIZE_MAX && at >= old_lead)
                new_lead = out->n - begin;
            LA_TRY(replace(map, text + at, size, out, &known, err));
            if (!known)
                LA_TRY(la_text_append(out, text + at, size, err));
            at += size;
        }
        at = end;
    }
    *lead = new_lead == SIZE_MAX ? out->n - begin : new_lead;
    return LA_OK;
}

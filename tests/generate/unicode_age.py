#!/usr/bin/env python3
"""Write src/text/unicode_age.c: where the `tokenizers` package has other characters in a class than
utf8proc.

Usage:

    pip install tokenizers==0.23.3
    python tests/generate/unicode_age.py > src/text/unicode_age.c

The package is a sum of crates with tables of several ages: categories of Unicode 8, normalisation
of Unicode 9, the classes of its regular expressions of Unicode 16, lower case of Unicode 17. Every
code point is put to the package and to utf8proc (through ctypes); what differs is written as
ranges.
"""

import base64
import ctypes
import sys
import unicodedata

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

import tokenizer_parts

CODES = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
LIB = ctypes.CDLL("libutf8proc.so.2")
LIB.utf8proc_category_string.restype = ctypes.c_char_p
LIB.utf8proc_unicode_version.restype = ctypes.c_char_p
LIB.utf8proc_map.argtypes = [ctypes.c_char_p, ctypes.c_ssize_t, ctypes.POINTER(ctypes.c_void_p),
                             ctypes.c_int]
LIB.utf8proc_map.restype = ctypes.c_ssize_t
LIBC = ctypes.CDLL(None)
LIBC.free.argtypes = [ctypes.c_void_p]

CATEGORY = {c: LIB.utf8proc_category_string(c).decode() for c in CODES}
ENCLOSED = [*range(0x24B6, 0x24EA), *range(0x1F130, 0x1F14A), *range(0x1F150, 0x1F16A),
            *range(0x1F170, 0x1F18A)]


def matches(pattern):
    """Code points that a regular expression of one character matches."""
    found = set()
    normalizer = normalizers.Replace(Regex(pattern), "\x02")
    for i in range(0, len(CODES), 2000):
        part = [c for c in CODES[i:i + 2000] if c not in (1, 2)]
        pieces = normalizer.normalize_str("".join("\x01" + chr(c) for c in part)).split("\x01")[1:]
        found.update(c for c, piece in zip(part, pieces) if piece == "\x02")
    return found


def splits(pre_tokenizer, text, n):
    return {c for c in CODES if len(pre_tokenizer.pre_tokenize_str(text % chr(c))) == n}


def removed(normalizer):
    return {c for c in CODES if normalizer.normalize_str("a%sb" % chr(c)) == "ab"}


def category(*names):
    return {c for c in CODES if CATEGORY[c] in names or CATEGORY[c][0] in names}


def bert(**options):
    off = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return normalizers.BertNormalizer(**{**off, **options})


def mapped(text, options):
    data, out = text.encode(), ctypes.c_void_p()
    n = LIB.utf8proc_map(data, len(data), ctypes.byref(out), options)
    result = ctypes.string_at(out, n).decode()
    LIBC.free(out)
    return result


def barriers():
    """Characters that the normal forms leave alone and do not reorder, as if they were
    unassigned."""
    forms = [(normalizers.NFC(), 2 | 8), (normalizers.NFD(), 2 | 16),
             (normalizers.NFKC(), 2 | 8 | 4), (normalizers.NFKD(), 2 | 16 | 4)]
    found = set()
    for c in CODES:
        for text in (chr(c), "\u0345" + chr(c), chr(c) + "\u0334"):
            if any(form.normalize_str(text) != mapped(text, options)
                   for form, options in forms[1:2]):
                found.add(c)
        if any(form.normalize_str(chr(c)) != mapped(chr(c), options) for form, options in forms):
            found.add(c)
    # both halves of what is composed since
    for c in sorted(found):
        parts = mapped(chr(c), 2 | 16)
        if len(parts) == 2:
            found.update(map(ord, parts))
    for c in found:
        for form, _ in forms:
            assert form.normalize_str(chr(c)) == chr(c), hex(c)
    return found


def joins():
    """Characters that are of one grapheme cluster with an a before them: found by a charsmap of
    that letter alone, which replaces short clusters as a whole."""
    charsmap = normalizers.Precompiled(base64.b64decode(tokenizer_parts.charsmap({"a": "a"})))
    return {c for c in CODES if charsmap.normalize_str("a" + chr(c)) == "a"}


def ranges(codes):
    out = []
    for c in sorted(codes):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def table(name, codes):
    print("static const la_range %s[] = {%s};" % (
        name, ",".join("{0x%x,0x%x}" % tuple(r) for r in ranges(codes)) or "{0,-1}"))


def main():
    word = category("L", "M", "Nd", "Nl", "Pc") | {0x200C, 0x200D} | set(ENCLOSED)
    ascii_punctuation = {c for c in range(128) if chr(c) in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"}
    control = category("Cc", "Cf", "Co") - {9, 10, 13}
    clean = removed(bert(clean_text=True)) - {0xFFFD}
    classes = [
        ("WORD", splits(pre_tokenizers.Whitespace(), "a%sb", 1), word),
        ("NUMERIC", splits(pre_tokenizers.Digits(True), "a%s", 2), category("N")),
        ("PUNCTUATION", splits(pre_tokenizers.Punctuation(), "a%s", 2),
         category("P") | ascii_punctuation),
        ("CONTROL", clean | {0}, control | {0}),
        ("NONSPACING", removed(bert(strip_accents=True)), category("Mn")),
        ("MARK", removed(normalizers.StripAccents()), category("M")),
        ("LETTER", matches(r"\p{L}"), category("L")),
        ("NUMBER", matches(r"\p{N}"), category("N")),
        ("BARRIER", barriers(), set()),
        ("EXTENDS", joins(), {c for c in CODES if not LIB.utf8proc_grapheme_break(ord("a"), c)}),
    ]
    print("/* Characters that the `tokenizers` package (%s) has in other classes than utf8proc "
          "(Unicode %s).\n"
          " * Written by tests/generate/unicode_age.py. */" % (
              tokenizers.__version__, LIB.utf8proc_unicode_version().decode()))
    print("#include \"text/unicode_age.h\"\n\n#include <string.h>\n")
    print("typedef struct la_range { int32_t first, last; } la_range;\n")
    for name, theirs, ours in classes:
        table("more_" + name.lower(), theirs - ours)
        table("less_" + name.lower(), ours - theirs)
    lower = []
    for c in CODES:
        theirs = normalizers.Lowercase().normalize_str(chr(c))
        ours = "i\u0307" if c == 0x130 else chr(LIB.utf8proc_tolower(c))
        if theirs != ours:
            assert len(theirs) == 1
            lower.append((c, ord(theirs)))
    runs = []
    for upper, to in lower:
        if runs and runs[-1][1] == upper - 1 and runs[-1][2] == to - upper:
            runs[-1][1] = upper
        else:
            runs.append([upper, upper, to - upper])
    print("static const struct { int32_t first, last, by; } lowers[] = {%s};" % ",".join(
        "{0x%x,0x%x,%d}" % tuple(r) for r in runs))
    print("""
#define COUNT(table) (sizeof(table) / sizeof *(table))
#define CLASS(name) {more_##name, less_##name, COUNT(more_##name), COUNT(less_##name)}
static const struct { const la_range *more, *less; size_t n_more, n_less; } classes[] = {""")
    for name, _, _ in classes:
        low = name.lower()
        print("[LA_AGE_%s] = CLASS(%s)," % (name, low))
    print("""};

static bool within(const la_range *ranges, size_t n, int32_t code) {
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (code > ranges[middle].last)
            low = middle + 1;
        else if (code < ranges[middle].first)
            high = middle;
        else
            return true;
    }
    return false;
}

bool la_age_correct(la_age_class class, int32_t code, bool here) {
    return here ? !within(classes[class].less, classes[class].n_less, code)
                : within(classes[class].more, classes[class].n_more, code);
}

int32_t la_age_lower(int32_t code, int32_t here) {
    for (size_t i = 0; i < COUNT(lowers) && code >= lowers[i].first; i++)
        if (code <= lowers[i].last)
            return code + lowers[i].by;
    return here;
}""")
    regex_table()


def regex_table():
    """Characters that PCRE2 with Unicode 14 lacks, by property; one named twice does no harm."""
    print("\n/* For patterns: since Unicode 14. Categories of one letter: those of two. */")
    print("static const struct { const char *property, *more; } properties[] = {")
    names = ("Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Cf Zs Zl Zp "
             "Han Hiragana Katakana "
             "Cyrillic Arabic Latin Greek Hangul Devanagari Bengali Hebrew Thai Common Inherited")
    for name in names.split():
        known = {c for c in CODES if unicodedata.category(chr(c)).startswith(name)}
        if len(name) > 2:
            known = {c for c in CODES if unicodedata.category(chr(c)) != "Cn"}
        more = matches(r"\p{%s}" % name) - known
        if not more:
            continue
        text = "".join(r"\\x{%x}" % a if a == b else r"\\x{%x}-\\x{%x}" % (a, b)
                       for a, b in ranges(more))
        print('{"%s", "%s"},' % (name, text))
    print("""};

const char *la_age_property(const char *name, size_t *at) {
    while (*at < COUNT(properties)) {
        const char *property = properties[(*at)++].property;
        bool within_name = !name[1] && *property == *name && strlen(property) == 2;
        if (within_name || !strcmp(property, name))
            return properties[*at - 1].more;
    }
    return NULL;
}""")


if __name__ == "__main__":
    if unicodedata.unidata_version != "14.0.0":
        sys.exit("a Python with Unicode 14 is needed (3.11)")
    main()

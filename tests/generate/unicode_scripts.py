#!/usr/bin/env python3
"""Write src/text/unicode_scripts.c: the scripts of characters as the `tokenizers` package's
UnicodeScripts has them.

Usage:

    pip install tokenizers==0.23.3
    python tests/generate/unicode_scripts.py > src/text/unicode_scripts.c

The package is only asked whether it splits between two characters: two that are split have
different scripts, and one that is split from neither a letter nor a digit has none.  The scripts
get numbers in the order of their first code point.
"""

import tokenizers
from tokenizers import pre_tokenizers

SPLITTER = pre_tokenizers.UnicodeScripts()
LETTER, DIGIT = "a", "1"


def splits(text):
    return len(SPLITTER.pre_tokenize_str(text)) > 1


def main():
    codes = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF
             and (splits(LETTER + chr(c)) or splits(DIGIT + chr(c)))]
    runs = []  # [first, last] of one script, whatever lies between them having it too
    for c in codes:
        if runs and runs[-1][1] == c - 1 and not splits(chr(c - 1) + chr(c)):
            runs[-1][1] = c
        else:
            runs.append([c, c])
    examples, entries = [], []
    for first, last in runs:
        number = next((i for i, e in enumerate(examples) if not splits(chr(e) + chr(first))), None)
        if number is None:
            number = len(examples)
            examples.append(first)
        entries.append(f"{{{first:#x}, {last:#x}, {number + 1}}}")
    print(f"""/* Scripts of characters as UnicodeScripts of the `tokenizers` package
 * ({tokenizers.__version__}) has them, which joins those of Japanese and Chinese. Written by
 * tests/generate/unicode_scripts.py. */
#include "text/unicode_scripts.h"

#include <stddef.h>

static const struct {{
    int32_t first, last;
    int script;
}} runs[] = {{{", ".join(entries)}}};

int la_unicode_script(int32_t code) {{
    size_t low = 0, high = sizeof runs / sizeof *runs;
    while (low < high) {{
        size_t middle = (low + high) / 2;
        if (code > runs[middle].last)
            low = middle + 1;
        else
            high = middle;
    }}
    bool found = low < sizeof runs / sizeof *runs && code >= runs[low].first;
    return found ? runs[low].script : 0;
}}""")


if __name__ == "__main__":
    main()

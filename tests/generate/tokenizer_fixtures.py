#!/usr/bin/env python3
"""Write the WordPiece tokenizer fixtures under tests/fixtures/tokenizer/.

Usage:

    pip install tokenizers==0.23.3
    python tests/generate/tokenizer_fixtures.py [OUTPUT_FOLDER]

Every variant becomes a folder NAME holding

    tokenizer.json   a small tokenizer, trained on corpus.txt beside this script
    NAME.jsonl       one case a line, what the `tokenizers` package answers

A case is an object with

    text        the text to encode
    pair        the second text (only in pair cases)
    max_length  (only where given) truncate to this many tokens, special tokens
                included: longest first, from the right, whatever the truncation
                preset in tokenizer.json
    ids         the expected token ids, special tokens added
    type_ids    the expected segment ids

A case without max_length is encoded with whatever tokenizer.json presets.
All files are ASCII (other characters are \\u escapes, with surrogate pairs
above U+FFFF) and contain no surrogate code points.

The output is a function of this script, of corpus.txt and of the version of
the `tokenizers` package; no clock, locale, hash seed or Unicode database of the
running Python enters it. Two details make it so:

* The trainer of the package numbers the continuing characters ("##x") in the
  order of a randomly seeded hash table, and breaks ties by number. They are
  therefore announced to it as leading special tokens, in code point order.
* Random characters are drawn from those already assigned in Unicode 3.2
  (unicodedata.ucd_3_2_0, the same in every Python) and from listed ranges.

The package works with Unicode tables of several ages (its categories are from
Unicode 8, its decompositions and combining marks from Unicode 9, the \\w of its
regular expressions from Unicode 16, its lowercasing and numbers from 17). Code
points on which these tables and those of Unicode 15 disagree are kept out of
the ordinary variants, and are what the variants `unicode-age` and
`unicode-age-sequence` consist of.
"""

import json
import os
import random
import sys
import unicodedata
from collections import Counter

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import AddedToken, Tokenizer, models, normalizers, trainers  # noqa: E402
from tokenizers import pre_tokenizers, processors  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
DEFAULT_OUTPUT = os.path.join(HERE, "..", "fixtures", "tokenizer")

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SMALLMAX_SPECIALS = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]


def read_corpus():
    with open(os.path.join(HERE, "corpus.txt"), encoding="utf-8") as f:
        return [line for line in f.read().split("\n") if line]


CORPUS = read_corpus()


# --------------------------------------------------------------------------
# Training
# --------------------------------------------------------------------------

def train(normalizer, pre_tokenizer, vocab_size, specials=None, prefix="##",
          max_input_chars=100, post=None):
    """A WordPiece tokenizer trained on the corpus, the same on every run."""
    specials = specials or SPECIALS
    unk, cls, sep = specials[1], specials[2], specials[3]

    # The words of the corpus less the characters that hardly occur in it: these
    # would fill the vocabulary, and words of unknown characters are wanted too.
    lines = []
    for line in CORPUS:
        text = normalizer.normalize_str(line) if normalizer else line
        lines.append([word for word, _ in pre_tokenizer.pre_tokenize_str(text)])
    count = Counter(c for line in lines for word in line for c in word)
    lines = [["".join(c for c in word if count[c] >= 2) for word in line] for line in lines]

    # The characters that continue a word, in code point order (see above).
    continuing = {c for line in lines for word in line for c in word[1:]}
    leading = specials + [prefix + c for c in sorted(continuing)]

    trained = Tokenizer(models.WordPiece(unk_token=unk, continuing_subword_prefix=prefix))
    if normalizer:
        trained.normalizer = normalizer
    trained.pre_tokenizer = pre_tokenizer
    trained.train_from_iterator([" ".join(line) for line in lines], trainers.WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=leading,
        continuing_subword_prefix=prefix, show_progress=False))

    # Only the vocabulary is taken over: "##x" must not stay a special token.
    tok = Tokenizer(models.WordPiece(
        trained.get_vocab(), unk_token=unk, continuing_subword_prefix=prefix,
        max_input_chars_per_word=max_input_chars))
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = pre_tokenizer
    tok.add_special_tokens(specials)
    ids = [(cls, tok.token_to_id(cls)), (sep, tok.token_to_id(sep))]
    if post == "bert":
        tok.post_processor = processors.BertProcessing(ids[1], ids[0])
    else:
        tok.post_processor = processors.TemplateProcessing(
            single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} $B:1 {sep}:1", special_tokens=ids)
    return tok


def bert(**options):
    return normalizers.BertNormalizer(**options)


BERT_PRE = pre_tokenizers.BertPreTokenizer()


# --------------------------------------------------------------------------
# Characters
# --------------------------------------------------------------------------

# Code points the package treats by other Unicode tables than Unicode 15 has,
# by the behaviour that shows it.
AGE_FORMAT = "890-891 8E2 110CD 13430-1343F"                      # Cf, yet not cleaned away
AGE_MARK = (                                                      # Mn, yet not stripped by
    "7FD 898-89F 8CA-8E1 9FE AFA AFF B55 C04 C3C D00 D3B-D3C D81 EBA ECE 180F 1885-1886 "
    "1ABF 1ACE 1DF6 1DFB A82C A8C5 A8FF A9BD 10D24-10D27 10EAB-10EAC 10EFD-10EFF "
    "10F46-10F50 10F82-10F85 11070 11073-11074 110C2 111C9 111CF 1123E 11241 1133B "
    "11438-1143F 11442-11444 11446 1145E 1182F-11837 11839-1183A 1193B-1193C 1193E 11943 "
    "119D4-119D7 119E0 11A01-11A0A 11A33-11A38 11A47 11C30-11C36 11C3F 1734")  # BertNormalizer
AGE_PUNCTUATION = (
    "166D 61D 9FD A76 C77 C84 1B7D-1B7E 2E43-2E4F 2E52-2E5D 10EAD 10F55-10F59 10F86-10F89 "
    "1144B-1144F 1145A-1145B 1145D 11660-1166C 116B9 111C9 1183B 11944-11946 119E2 "
    "11A3F-11A46 11A9A-11A9C 11A9E-11AA2 11C41-11C45 11C70-11C71 11EF7-11EF8 11FFF "
    "16E97-16E9A 16FE2 1E95E-1E95F")
AGE_LOWERCASE = "1C89 A7CB-A7CC A7DA A7DC 10D50-10D65"            # lowercased, unknown to 15
AGE_COMPAT = "32FF A7F2-A7F4 AB69 10781-10785 10787-107B0 1E030-1E06D 1F16C 1FBF0-1FBF9"
AGE_WORD = ("897 1C89-1C8A A7CB-A7CD A7DA-A7DC 105C0-105F3 10D40-10D65 11380-11389 "
            "116D0-116E3 11BC0-11BE0 16100-16139 1CCF0-1CCF9 1E5D0-1E5FA 2EBF0-2EE5D")
AGE_SPACING_MARK = "CF3 1715 1CF2-1CF3 1CF7 11145-11146 11930-11935 119D1-119DF 11D8A-11D8E"


def expand(ranges):
    """The code points of a list such as "41-5A 61"."""
    out = []
    for part in ranges.split():
        first, _, last = part.partition("-")
        out.extend(range(int(first, 16), int(last or first, 16) + 1))
    return out


AGE_ALL = set()
for _ranges in (AGE_FORMAT, AGE_MARK, AGE_PUNCTUATION, AGE_LOWERCASE, AGE_COMPAT, AGE_WORD,
                AGE_SPACING_MARK):
    AGE_ALL.update(expand(_ranges))


def stable_pool():
    """Characters assigned in Unicode 3.2, and a choice of later ones, by category."""
    pool = {}
    ucd = unicodedata.ucd_3_2_0
    for cp in range(0x110000):
        if 0xD800 <= cp <= 0xDFFF or cp in AGE_ALL:
            continue
        category = ucd.category(chr(cp))
        if category not in ("Cn", "Cs"):
            pool.setdefault(category, []).append(chr(cp))
    # Ideographs, syllables and private use come as ranges; a few of each are enough.
    for category in ("Lo", "Co"):
        pool[category] = pool[category][::7]
    pool["Later"] = [chr(c) for c in expand(
        "13A0-13F4 AB70-ABBF 1C90-1CBA 10D0-10FA 1E900-1E943 10400-1044F 1F300-1F64F "
        "1F680-1F6C0 1F900-1F93E 1F1E6-1F1FF 2C00-2C2E 2C60-2C7F A640-A66D A720-A787 "
        "2A700-2A720 2B740-2B760 2B820-2B840 2CEB0-2CEC0 30000-30010 9FA6-9FEF 4DB6-4DBF "
        "1D00-1DBF 2150-2189 1D400-1D41F FF00-FF9F 24B6-24E9 1F130-1F149 E0100-E01EF")]
    # Noncharacters and planes nothing is assigned in: unassigned for good.
    pool["Cn"] = [chr(c) for c in expand(
        "FDD0-FDEF FFFE-FFFF 1FFFE-1FFFF 40000-40010 50000-50004 DFFFE 10FFFE-10FFFF")]
    return pool


POOL = stable_pool()
CATEGORIES = sorted(POOL)
LETTERS = sorted({c for line in CORPUS for c in line})


def random_text(rng, length):
    """Random characters, each category as likely as any other."""
    return "".join(rng.choice(POOL[rng.choice(CATEGORIES)]) for _ in range(length))


def mutated_line(rng):
    """A piece of a corpus line with characters inserted, replaced and recased."""
    line = rng.choice(CORPUS)
    start = rng.randrange(len(line))
    text = list(line[start:start + rng.randrange(3, 40)])
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(text) + 1)
        kind = rng.randrange(6)
        if kind <= 1:
            text.insert(at, random_text(rng, 1))
        elif kind == 2:
            text.insert(at, rng.choice(POOL["Mn"]) * rng.randrange(1, 3))
        elif kind == 3:
            text.insert(at, rng.choice([" ", "  ", "\t", "\n", "\u00a0", "\u3000", "\u200b",
                                        "\x00", "\ufffd", "[SEP]", "[MASK]", "-", "##"]))
        elif kind == 4 and text:
            at %= len(text)
            text[at] = text[at].upper() if len(text[at].upper()) == 1 else text[at]
        else:
            text.insert(at, rng.choice(LETTERS))
    return "".join(text)


def soup(rng):
    """Letters the vocabulary knows, mixed with a few it does not."""
    return "".join(
        rng.choice(LETTERS) if rng.random() < 0.7 else random_text(rng, 1)
        for _ in range(rng.randrange(1, 24)))


def fuzz_text(rng):
    kind = rng.randrange(10)
    if kind < 5:
        return mutated_line(rng)
    if kind < 8:
        return soup(rng)
    return random_text(rng, rng.randrange(1, 16))


# --------------------------------------------------------------------------
# Written texts
# --------------------------------------------------------------------------

PLAIN = [
    "", " ", "   ", "\t\n\r", "a", "A", "the", "The ferry leaves the old harbour.",
    "unbelievable internationalization", "Hello, World!", "  spaces   around  ",
    "tab\tseparated\tvalues", "line one\nline two\r\nline three\rline four",
    "don't can't won't", "state-of-the-art", "e-mail: office@example.org (today)",
    "a.b.c...d", "$12.50 + 5% = ?", "https://example.org/a/b?c=d&e=f#g", "C++ && C#",
    "snake_case camelCase kebab-case", "1234567890", "3.14159 1,000,000 0x1F",
    "...", "!?!?", "[]{}()<>", "~`@#$%^&*_+-=|\\:;\"'<>,./?", "#", "##", "##ing", "## ing",
    "a##b", "ÄÖÜ äöü ß ẞ", "STRASSE Straße STRAẞE", "crème brûlée", "naïve café CAFÉ",
    "Žluťoučký kůň", "zażółć gęślą jaźń", "İstanbul ISPARTA ısı İı", "I i İ ı I\u0307 i\u0307",
    "ΌΔΟΣ οδός ΟΔΟΣ. ΣΑΣ Σ ς σ", "ΑΙ\u0301ΓΑ \u1f88 \u1fbc \u1ffc \u0390", "Ёлка ёлка Й й ЙОД",
    "ДОРОГА дорога", "ǅ ǈ ǋ ǲ Ǆ ǆ", "ﬁ ﬂ ﬀ ﬃ ﬄ ﬅ ﬆ offﬁce", "Å Å Å Ω K ℃ № ™ ½ ² ₂",
    "Tiếng Việt: ắ ằ ẵ ặ ố ộ ữ ự Đ đ", "Chiếc phà rời bến cảng",
    "渡船每天早上七点出发。", "舊港口的船長看著海，沒有說話。", "渡し船は毎朝七時に出ます。",
    "コーヒーとパン ｺｰﾋｰ ガギグ か\u3099 ぱ", "나룻배는 매일 아침", "\u1112\u1161\u11ab\u1100\u1173\u11af 한글 ㅎㅏㄴ",
    "각 \u1100\u1161\u11a8 가\u11a8 \ud7a3 \uac00", "في الشتاء تتجمد البحيرة", "كَتَبَ المُعَلِّمُ",
    "ﷺ ﷲ ﻻ ـــ", "הַיֶּלֶד צָבַע אֶת הַגָּדֵר", "שׁ שׂ שּׁ \ufb2a \ufb2c", "नाव हर सुबह सात बजे",
    "क़ ख़ ड़ ढ़ फ़", "ภาษาไทย กำ น้ำ ๐๑๒", "ສະບາຍດີ ຳ", "ខ្មែរ", "မြန်မာ",
    "বাংলা ক\u09cb ক\u09c7\u09be", "தமிழ் கொ க\u0bc6\u0bbe", "తెలుగు", "ಕನ್ನಡ", "മലയാളം", "සිංහල",
    "ქართული ᲥᲐᲠᲗᲣᲚᲘ Ⴀ", "հայերեն ՀԱՅԵՐԵՆ և", "አማርኛ ፡ ።", "ᏣᎳᎩ ꮳꮃꭹ Ᏸ ᏸ", "བོད་ཡིག", "ᠮᠣᠩᠭᠣᠯ",
    "𐐀𐐁 𐐨𐐩 𞤀𞤢", "𝐀𝐁𝐂 𝒜 𝟘𝟙 Ａｂｃ１２３！？", "ⓐⒶ ①② ㍻ ㌔ ㎏ Ⅷ ⅷ ⅓",
    "😀", "😀😃", "a😀b", "👍🏽 👩‍🚀 👨‍👩‍👧‍👦", "🇩🇪🇯🇵", "❤️ ❤ ☕️", "1️⃣ #️⃣",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "“quoted” ‘text’ «guillemets» ‹x› „unten“", "en–dash em—dash ‐hyphen‑ ―bar −minus",
    "…‥․ ‽ ⁇ ¿qué? ¡hola!", "。、「」『』【】・〜！？；：", "§ ¶ † ‡ • ‰ ′ ″ ※ ¬ ¦ ° ´ ¨ ¯ ¸ ·",
    "€ £ ¥ ¢ ₺ ₽ ₹ ¤ ﷼", "± × ÷ ≤ ≥ ≠ ∞ ∑ √ → ⇒ ← ⊕", "░▒▓█ ─│┌┐ ■□▲ ♠♣ ♩ ✓✗",
    "؟ ، ؛ ۔ ٪ ־ ׀ ׃ । ॥ ๏ ๚ ། ༎ ჻ ։ ՞ ፠ ᛫ ។", "_‿⁀⁔︳︴﹍﹎﹏＿",
]

INVISIBLE = (
    ["a%sb" % c for c in (
        "\x00", "\x01", "\x08", "\t", "\n", "\x0b", "\x0c", "\r", "\x0e", "\x1b", "\x1c", "\x1f",
        "\x7f", "\x80", "\x85", "\x9f", "\u00a0", "\u00ad", "\u034f", "\u061c", "\u0600", "\u06dd",
        "\u070f", "\u115f", "\u1160", "\u1680", "\u17b4", "\u180b", "\u180e", "\u2000", "\u2003",
        "\u2007", "\u200a", "\u200b", "\u200c", "\u200d", "\u200e", "\u200f", "\u2028", "\u2029",
        "\u202a", "\u202e", "\u202f", "\u205f", "\u2060", "\u2061", "\u2064", "\u2066", "\u2069",
        "\u206f", "\u2800", "\u3000", "\u3164", "\ue000", "\uf8ff", "\ufe00", "\ufe0f", "\ufeff",
        "\uffa0", "\ufff9", "\ufffc", "\ufffd", "\ufffe", "\uffff", "\ufdd0", "\U0001d173",
        "\U0001fffe", "\U000e0001", "\U000e0020", "\U000e0100", "\U000e01ef", "\U000f0000",
        "\U00100000", "\U0010fffd", "\U0010ffff", "\u0378", "\u0530", "\U00050000")]
    + ["\ufeffthe boat", "\u200bthe\u200b \u200bboat\u200b", "th\u00ade bo\u00adat",
       "\x00", "\x00\x00 \x00", "\ufffd\ufffd", "\u200b", "\u00a0\u3000\u2028", "the\x00boat\x00",
       "the\u2028boat\u2029house", "the\x85boat", "the\x0bboat\x0chouse", "the \u200d boat"])

MARKS = [
    "e\u0301", "e\u0301\u0301", "a\u0323\u0302", "a\u0302\u0323", "q\u0307\u0323", "q\u0323\u0307",
    "\u0301", "\u0301a", " \u0301 ", "a \u0301b", "the\u0301 boat\u0302",
    "\u1e69 s\u0323\u0307 s\u0307\u0323", "a\u0315\u0300\u05ae\u0062",
    "\u0344 \u0340 \u0341 \u0343", "a\u0345\u0301", "\u0958 \u0929 \u09dc",
    "a\u20dd 1\u20e3 \u0488", "\u0903 \u093f \u094d \u0d3e", "\u05d0\u05b7\u05b8\u05bc",
    "\u0627\u0653 \u0622", "\u3099 \u304b\u3099 \u30cf\u309a",
    "x\u0335\u0336\u0337\u0338 o\u0338 \u00f8 \u0142 \u0111",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319"
    "a\u0325\u0353l\u033b\u0348g\u0348o",
    "\u1ea4 \u1ea5 A\u0302\u0301 \u01d5 \u01d6 \u022d \u0230", "\u0f43 \u0f73 \u0f75 \u0f81",
    "\u2adc \u1d15e \U0001d15e \U0001d1bb", "\u0130 \u0130\u0307 i\u0307\u0301",
    "\u212a \u212b \u2126 \u1e9b\u0323", "\u0149 \u01f0 \u1e96 \u1fe4",
    "\u0374 \u037e \u0387 \u1fef",
]

IDEOGRAPHS = [
    "a\u4e00b", "a\u9fa5b\u9fa6c\u9fffd", "a\u3400b\u4db5c\u4dbfd",
    "\u33ff\u3400\u4dbf\u4dc0\u4dff\u4e00\ua000", "a\U00020000b\U0002a6d6c\U0002a6dfd",
    "a\U0002a6e0b\U0002a700c\U0002b734d\U0002b73fe", "a\U0002b740b\U0002b81dc\U0002b81fd",
    "a\U0002b820b\U0002b91fc\U0002b920d", "a\U0002cea1b\U0002ceafc\U0002ceb0d", "a\U00030000b",
    "\uf900 \uf901x \ufa0e\ufa0f \ufa70 \ufaff", "\U0002f800x\U0002fa1d\U0002fa1f",
    "\u2e80 \u2f00x \u3005 \u3006 \u3007 \u3021", "\u3105 \u31a0 \u31c0 \u31f0",
    "\u3042\u4e00\u30a2\u4e8c\uac00\u4e09", "the\u8239boat\u6865", "\u7b2c1\u7ae0", "\u91d1\uf90a",
    "每天，早上。七点！", "一二三 四五", "ー々〆〇ヶ",
]

SPECIAL_TEXT = [
    "[CLS]", "[SEP]", "[PAD][UNK][CLS][SEP][MASK]", "a[CLS]b", "the[SEP]boat", "the [SEP] boat",
    "[cls] [Sep] [mask]", "[MASK]ed and un[MASK]", "[[MASK]]", "[MASK", "MASK]", "[ MASK ]",
    "[UNK] [PAD]", "  [MASK]  ", "[MA\u200bSK]", "[MA\x00SK]", "[MASK]\u0301", "É[SEP]É",
    "渡[SEP]船", "[SEP][SEP] [SEP]", "[MASK].[MASK],", "\u0301[MASK]\u0301",
]

LONG = [
    "a" * 99, "a" * 100, "a" * 101, "A" * 100, "é" * 100, "é" * 101, "e\u0301" * 50 + "a" * 50,
    "e\u0301" * 51 + "a" * 50, "ab" * 75 + " the", "the " + "x" * 300 + " boat", "-" * 101,
    "1" * 100, "9" * 120, "ő" * 101, "ж" * 100, "a" * 60 + "\u200b" + "a" * 60, "船" * 101,
    "가" * 34, "가" * 101, "a" * 50 + "-" + "b" * 60, "the" * 33 + "q", "the" * 33 + "q\u0301",
    "the" * 33 + "qz",
]

PAIRS = [
    ("the boat", "the bridge"), ("", "the boat"), ("the boat", ""), ("", ""),
    ("  ", "\t"), ("The old harbour.", "Die alte Brücke!"), ("渡船", "나룻배"),
    ("a [SEP] b", "[CLS] c"), ("\x00", "x"), ("Where is the key?", "Under the flower pot."),
]

TRUNCATED = [
    ("The ferry leaves the old harbour at seven in the morning.", None, (2, 3, 4, 5, 8, 13, 64)),
    ("the", None, (2, 3, 4)), ("", None, (2, 3, 8)),
    ("the boat is here", "the bridge is there", (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 64)),
    ("the", "the ferry leaves the old harbour at seven in the morning", (4, 5, 6, 7, 12)),
    ("the ferry leaves the old harbour at seven in the morning", "the", (4, 5, 6, 7, 12)),
    ("", "the ferry leaves the harbour", (3, 4, 6)),
    ("the ferry leaves the harbour", "", (3, 4, 6)),
    ("one two three four five six seven eight nine ten eleven twelve", "a b c d e f g h",
     (7, 8, 9, 10)),
    ("a b c d e f g h", "one two three four five six seven eight nine ten eleven twelve",
     (7, 8, 9, 10)),
    ("x" * 150 + " boat", "[SEP] " * 6, (5, 6, 9)),
    ("unbelievable internationalization", None, (3, 4, 6, 9)),
]


def age_texts(ranges, around=("ab", "cd")):
    """One text a range: its first, middle and last code point, each inside a word."""
    texts = []
    for part in ranges.split():
        points = expand(part)
        chosen = sorted({points[0], points[len(points) // 2], points[-1]})
        texts.append(" ".join(around[0] + chr(c) + around[1] for c in chosen))
    return texts


# --------------------------------------------------------------------------
# Cases
# --------------------------------------------------------------------------

class Cases:
    """The cases of one variant, answered by its tokenizer.json as loaded."""

    def __init__(self, name, tok):
        self.name = name
        self.json = json.dumps(json.loads(tok.to_str()), ensure_ascii=True, indent=1)
        self.preset = Tokenizer.from_str(self.json)
        self.limited = Tokenizer.from_str(self.json)
        self.rng = random.Random("tokenizer fixture " + name)
        self.rows = []
        self.seen = set()

    def row(self, text, pair=None, max_length=None):
        tok = self.preset
        if max_length is not None:
            tok = self.limited
            tok.enable_truncation(max_length, stride=0, strategy="longest_first",
                                  direction="right")
        got = tok.encode(text) if pair is None else tok.encode(text, pair)
        row = {"text": text}
        if pair is not None:
            row["pair"] = pair
        if max_length is not None:
            row["max_length"] = max_length
        row["ids"] = got.ids
        row["type_ids"] = got.type_ids
        return row

    def add(self, text, pair=None, max_length=None):
        key = (text, pair, max_length)
        if key not in self.seen:
            self.seen.add(key)
            self.rows.append(self.row(text, pair, max_length))

    def texts(self, texts):
        for text in texts:
            self.add(text)

    def sample(self, texts, count):
        for at in sorted(self.rng.sample(range(len(texts)), min(count, len(texts)))):
            self.add(texts[at])

    def pairs(self, pairs=PAIRS):
        for text, pair in pairs:
            self.add(text, pair)

    def truncated(self, table=TRUNCATED):
        for text, pair, lengths in table:
            for length in lengths:
                self.add(text, pair, length)

    def fuzz(self, count):
        for _ in range(count):
            kind = self.rng.randrange(10)
            text = fuzz_text(self.rng)
            pair = fuzz_text(self.rng) if kind < 2 else None
            length = self.rng.randrange(3, 24) if kind in (0, 2) else None
            self.add(text, pair, length)

    def write(self, output):
        folder = os.path.join(output, self.name)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "tokenizer.json"), "w", encoding="ascii", newline="\n") as f:
            f.write(self.json + "\n")
        with open(os.path.join(folder, self.name + ".jsonl"), "w", encoding="ascii",
                  newline="\n") as f:
            for row in self.rows:
                f.write(json.dumps(row, ensure_ascii=True, separators=(", ", ": ")) + "\n")
        return len(self.rows)


def general(cases, plain, invisible, marks, ideographs, special, long, fuzz):
    """A share of every kind of written text, pairs, truncation and random texts."""
    cases.sample(PLAIN, plain)
    cases.sample(INVISIBLE, invisible)
    cases.sample(MARKS, marks)
    cases.sample(IDEOGRAPHS, ideographs)
    cases.sample(SPECIAL_TEXT, special)
    cases.sample(LONG, long)
    cases.pairs(PAIRS[:4])
    cases.truncated(TRUNCATED[3:4])
    cases.fuzz(fuzz)
    return cases


# --------------------------------------------------------------------------
# Variants
# --------------------------------------------------------------------------

def variant_uncased():
    tok = train(bert(clean_text=True, handle_chinese_chars=True, strip_accents=None,
                     lowercase=True), BERT_PRE, 1100)
    cases = Cases("uncased", tok)
    cases.texts(PLAIN + INVISIBLE + MARKS + IDEOGRAPHS + SPECIAL_TEXT + LONG)
    cases.pairs()
    cases.truncated()
    cases.fuzz(60)
    return cases


def variant_cased():
    tok = train(bert(lowercase=False, strip_accents=None), BERT_PRE, 1150)
    return general(Cases("cased", tok), 50, 20, 18, 6, 5, 4, 30)


def variant_cased_strip():
    tok = train(bert(lowercase=False, strip_accents=True), BERT_PRE, 1100)
    return general(Cases("cased-strip", tok), 40, 10, 30, 8, 4, 3, 30)


def variant_nochinese():
    tok = train(bert(clean_text=False, handle_chinese_chars=False, lowercase=True,
                     strip_accents=False), BERT_PRE, 1150)
    return general(Cases("nochinese", tok), 40, 60, 12, 20, 6, 4, 30)


def variant_bertprocessing():
    tok = train(bert(), BERT_PRE, 1000, post="bert")
    cases = general(Cases("bertprocessing", tok), 15, 5, 5, 5, 5, 2, 20)
    cases.pairs()
    cases.truncated()
    return cases


def variant_smallmax():
    tok = train(bert(), BERT_PRE, 950, specials=SMALLMAX_SPECIALS, prefix="@@",
                max_input_chars=12)
    cases = Cases("smallmax", tok)
    cases.texts(["a" * n for n in (1, 11, 12, 13, 24)])
    cases.texts(["é" * 12, "é" * 13, "e\u0301" * 12, "e\u0301" * 13, "가" * 4, "가" * 5, "가" * 12,
                 "the" * 4, "the" * 4 + "a", "船" * 13, "ab" * 6 + "-" + "ba" * 6, "##ing @@ing @@",
                 "<s> </s> <unk> <pad> <mask>", "a<s>b", "[CLS] [SEP] [UNK]", "in<mask>ing",
                 "1" * 12, "1" * 13, "information", "informations", "internationalization",
                 "\u200b" * 3 + "a" * 12, "ﬁ" * 12, "😀" * 12, "😀" * 13])
    return general(cases, 30, 8, 8, 4, 0, 0, 30)


# Added tokens: one of each combination of flags in angle brackets (not special)
# and one in letters (special), then some made to overlap or to be altered by
# the normalizer.
def added_tokens():
    out = []
    for family, special in (("<T%02d>", False), ("Mark%02dx", True)):
        for i in range(16):
            out.append(AddedToken(family % i, normalized=bool(i & 1), lstrip=bool(i & 2),
                                  rstrip=bool(i & 4), single_word=bool(i & 8), special=special))
    plain = dict(lstrip=False, rstrip=False, single_word=False)
    out += [
        AddedToken("foo", normalized=False, **plain),
        AddedToken("foobar", normalized=False, **plain),
        AddedToken("foobarbaz", normalized=True, **plain),
        AddedToken("barb", normalized=True, **plain),
        AddedToken("rba", normalized=False, **plain),
        AddedToken("New York", normalized=True, **plain),
        AddedToken("Rio de", normalized=False, **plain),
        AddedToken("Éclair", normalized=True, **plain),
        AddedToken("Crêpe", normalized=False, **plain),
        AddedToken("船長", normalized=True, **plain),
        AddedToken("橋上", normalized=False, **plain),
        AddedToken("harbour", normalized=False, lstrip=False, rstrip=False, single_word=True),
        AddedToken("<|End|>", normalized=True, lstrip=True, rstrip=True, single_word=False),
        AddedToken("😀👍", normalized=False, lstrip=False, rstrip=False, single_word=True),
        AddedToken("été", normalized=False, lstrip=False, rstrip=False, single_word=True),
        # Spaces in the content show whether a neighbour's lstrip or rstrip took them.
        AddedToken(" zork", normalized=True, **plain),
        AddedToken("plim ", normalized=True, **plain),
        AddedToken(" quux", normalized=False, **plain),
        AddedToken("@user", normalized=True, lstrip=False, rstrip=False, single_word=True),
    ]
    return out


def variant_added():
    tok = train(bert(), BERT_PRE, 1000)
    tok.add_tokens([t for t in added_tokens() if not t.special])
    tok.add_special_tokens([t for t in added_tokens() if t.special])
    cases = Cases("added", tok)
    contents = [t.content for t in added_tokens()]
    for content in contents[:32]:
        cases.add("the %s boat%s  %s \u00a0\t%s\u3000x%sy" % ((content,) * 5))
    for content in contents[1:32:2]:
        cases.add("a %s B %s c%s %s" % (content.upper(), content.lower(), content.upper(),
                                        content[:2] + "\u0301" + content[2:]))
    for content in contents[8:16] + contents[24:32]:
        cases.add("%s é%s %s1 _%s %s_ -%s- %s\u0301 \u0301%s 船%s %s中" % ((content,) * 10))
    cases.texts([
        "foobarbaz foobar foo", "FooBarBaz FOOBAR FOO", "xfoobarbazx", "foobarba", "foofoobarfoo",
        "barb BARB barbarb", "rbarb rba", "foorba", "fobarbaz", "f\u00f3obarbaz", "foo\u200bbar",
        "foobarb", "New York new york NEW YORK NewYork New  York New\u00a0York New\tYork",
        "I ♥ New York.", "New\nYork", "Rio de Janeiro rio de", "Rio\u00a0de", "Rio\tde",
        "Éclair eclair ÉCLAIR E\u0301clair éclairs", "Crêpe crêpe Cre\u0302pe crepe CRÊPE Crêpes",
        "船長", "a船長b", "船 長", "舊港口的船長看著", "橋上", "a橋上b", "橋 上", "船長船長", "橋上船長",
        "harbour harbours Harbour HARBOUR the-harbour-s", "harbourharbour harbour", "harbour.",
        "harbour\u0301", "\u200bharbour\u200b", "harbour\u200d",
        "1harbour harbour1 _harbour ⓐharbour ½harbour", "a <|End|> b", "a<|end|>b", "  <|END|>  ",
        "<|End|><|End|>", "<|End|>  <|End|>", "<| End |>", "😀👍 😀👍😀👍 x😀👍 😀👍\ufe0f",
        "été étés l'été É\u0301té", "ete", "@user @User @USER me@user @users @user.",
        "  <T02>  <T04>  <T06>  ", "<T02><T04><T06>", "<T06>  <T06>  <T06>", "<T04>   <T02>",
        "x <T03> y <T05> z <T07> w", "X <t03> y <t05> z <t07> w", "<T04> <T03>", "<T04>  <t03>",
        "<t05> <T02>", "<T07>\u200b<T07>", "<T00><T01><T08><T09>", "<T00", "T00>", "<<T00>>",
        "<T0\u200b1>", "<T0\u200b0>", "<T01\u0301>", "[CLS]<T02>[SEP]",
        "[MASK] Mark00x [MASK]Mark00x", "Mark00xMark08x", "Mark08xMark08x", "Mark08x Mark08x",
        "mark01xMark01xMARK01X", "Mark00x-Mark08x-mark09x", "Mark10x Mark12x Mark14x",
        " Mark10x  Mark12x  Mark14x ", "mark11x MARK13X mark15x", "ⓜMark08x \u0300Mark08x",
        "Mark08x\u200d \u200cMark08x Mark08x\u00ad", "\x00<T02>\x00 <T04>\x00", "\x1f <T02> \x1f",
        "\x85<T02>\x85<T04>\x85 x", "\u180e<T02>\u200b <T04>\u200b",
    ])
    for space in ("", " ", "  ", "\t", "\t ", " \t", "\u00a0 ", " \u3000", "\n ", " \x1f", "\x85 "):
        for left, right in (("<T04>", "zork"), ("<T00>", "zork"), ("plim", "<T02>"),
                            ("plim", "<T00>"), ("<T06>", "quux")):
            cases.add("the " + left + space + right + " boat")
    cases.texts(["zork  Zork ZORK\tzork", "plim plim  PLIM\tplim", "plim zork",
                 "<|End|> zork plim <|End|>", "<T04> zork plim <T02>", "Mark06x zork plim Mark06x",
                 "Mark07x zork plim Mark07x", "<T05> zork", "<T05>  zork", "plim <T03>",
                 "plim  <T03>", "foo quux", "<T04> quux quux"])
    cases.add("foo New York", "Éclair 船長")
    cases.add("harbour <T06>", " <T06> harbour")
    cases.truncated([("foo New York <T06> Mark08x the old harbour", "Éclair 船長 the boat",
                      (5, 8, 11, 14)),
                     ("harbour foo <T00>", None, (3, 4, 5))])
    rng = cases.rng
    glue = ["", "", " ", "  ", "\t", "\u00a0", "a", "É", "-", "1", "_", "\u0301", "\u200b", "中",
            "the", " the "]
    for _ in range(30):
        text = ""
        for _ in range(rng.randrange(2, 7)):
            content = rng.choice(contents)
            content = rng.choice([content, content, content.upper(), content.lower()])
            text += content + rng.choice(glue)
        cases.add(text)
    return cases


def truncating(name, direction):
    tok = train(bert(), BERT_PRE, 900)
    tok.enable_truncation(16, stride=0, strategy="longest_first", direction=direction)
    cases = Cases(name, tok)
    words = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    words = "a b c d e f g h i j k l m n o p q r s t u v w x y z " + words
    for n in (0, 1, 12, 13, 14, 15, 16, 17, 18, 40):
        cases.add(" ".join(words.split()[:n]))
    letters = "a b c d e f g h i j k l m n o p q r s t u v w x y z".split()
    for n, m in ((0, 20), (20, 0), (1, 12), (1, 13), (12, 1), (13, 1), (6, 7), (7, 6), (6, 8),
                 (8, 6), (7, 7), (5, 9), (9, 5), (6, 20), (7, 20), (20, 6), (20, 7), (13, 13),
                 (14, 20), (20, 14), (20, 21), (21, 20), (16, 17), (17, 16), (26, 26)):
        cases.add(" ".join(letters[:n]), " ".join(reversed(letters[-m:] if m else [])))
    cases.texts(["unbelievable internationalization of the old harbour and the wooden bridge",
                 "渡船每天早上七点从老港口出发，冬天湖水结冰", "[MASK] " * 20, "a[SEP]" * 12, "x" * 150,
                 CORPUS[0], CORPUS[60], CORPUS[100]])
    cases.add(CORPUS[1], CORPUS[2])
    cases.add(CORPUS[60], CORPUS[61])
    cases.truncated(TRUNCATED[3:6] + [TRUNCATED[0]])
    cases.fuzz(15)
    return cases


def variant_sequence():
    norm = normalizers.Sequence([
        normalizers.NFC(), normalizers.Replace("``", '"'), normalizers.Replace("ß", "ss"),
        normalizers.Lowercase(), normalizers.NFD(), normalizers.StripAccents()])
    pre = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(),
                                   pre_tokenizers.Punctuation("isolated")])
    cases = Cases("sequence", train(norm, pre, 1100))
    cases.texts(["``quoted``", "```", "````", "`", "a``b", "Straße STRASSE ẞ ß", "ßß", "``[SEP]``",
                 "İ ı I\u0307", "a\u0903 क\u093f \u20dd", "a\u0345 \u1fb3 \u1fbc",
                 "\u0bca \u0bc6\u0bbe"])
    return general(cases, 35, 15, 25, 6, 4, 2, 30)


def variant_sequence_nfkc():
    norm = normalizers.Sequence([
        normalizers.NFKC(), normalizers.Strip(left=True, right=True), normalizers.Lowercase(),
        normalizers.Replace("''", '"'), normalizers.Replace("-", "")])
    pre = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(),
                                   pre_tokenizers.Digits(individual_digits=True)])
    cases = Cases("sequence-nfkc", train(norm, pre, 1100))
    cases.texts(["  stripped  ", "\u3000stripped\u00a0\n", "\u200b not stripped \u200b", "''a''",
                 "'''", "-a-b--c-", "---", "abc123def 4.5", "a1b2c3", "½ ² ③ Ⅷ ٣٤ १२ 一二 ㈠ 〇 ௧ ᛮ",
                 "1st 2nd x²", "!!! ?!. ... a!b", "foo_bar __x__ a‿b", "don't _x", "e\u0301\u0301",
                 "\u200c\u200d a\u200cb a\u200db", "ⓐⒷ ⓐx 🄰🄱 🅐x 🆀y", "☃☃ →→a ☃a☃", "a\u20dd\u0903b",
                 "x[SEP]y 1[SEP]2", "ﬁﬂ ﷺ ㌔ ｶﾞ Ａ１", "\u1e9b\u0323 \u212b \u2126",
                 "\u00a0[SEP]\u00a0 a [SEP] b "])
    return general(cases, 35, 15, 20, 6, 4, 2, 30)


def variant_sequence_nfkd():
    norm = normalizers.Sequence([
        normalizers.NFKD(), normalizers.StripAccents(), normalizers.Strip(left=True, right=False),
        normalizers.Replace("ab", "b"), normalizers.Replace("€", " euro ")])
    pre = pre_tokenizers.Sequence([BERT_PRE, pre_tokenizers.Digits(individual_digits=False)])
    cases = Cases("sequence-nfkd", train(norm, pre, 1100))
    cases.texts(["  left  ", "\u0301 left", "aab abab aaab", "a\u0301b", "5€ €", "abc123def456",
                 "12½34 x²y³", "٣٤5६ Ⅷ9 〇一1", "1.2.3", "ÅÅÅ ﬁ", "가각힣 \u1100\u1161",
                 "क\u093f क़ \u20dd"])
    return general(cases, 30, 12, 20, 6, 4, 2, 30)


def variant_unicode_age():
    cases = Cases("unicode-age", train(bert(), BERT_PRE, 900))
    for ranges in (AGE_FORMAT, AGE_MARK, AGE_PUNCTUATION, AGE_LOWERCASE):
        cases.texts(age_texts(ranges))
    return cases


def variant_unicode_age_sequence():
    norm = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(),
                                 normalizers.Lowercase()])
    pre = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(True)])
    cases = Cases("unicode-age-sequence", train(norm, pre, 900))
    for ranges in (AGE_COMPAT, AGE_WORD, AGE_SPACING_MARK):
        cases.texts(age_texts(ranges))
    return cases


VARIANTS = [
    variant_uncased, variant_cased, variant_cased_strip, variant_nochinese, variant_added,
    lambda: truncating("truncating", "right"), lambda: truncating("truncating-left", "left"),
    variant_bertprocessing, variant_sequence, variant_sequence_nfkc, variant_sequence_nfkd,
    variant_smallmax, variant_unicode_age, variant_unicode_age_sequence,
]


def main():
    output = sys.argv[1] if len(sys.argv) > 1 else DEFAULT_OUTPUT
    for variant in VARIANTS:
        cases = variant()
        print("%-22s %4d cases" % (cases.name, cases.write(output)))


if __name__ == "__main__":
    main()

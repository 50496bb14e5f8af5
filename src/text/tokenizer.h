/* Text to token ids, as the `tokenizers` library does it from the same tokenizer.json. */
#ifndef LA_TEXT_TOKENIZER_H
#define LA_TEXT_TOKENIZER_H

#include "base/digest.h"
#include "base/error.h"

#include <stdbool.h>

typedef struct la_tokenizer la_tokenizer;

/* Reads DIR/tokenizer.json, and from the files beside it what they change (side_files.h). log (may
 * be NULL) gets a warning where transformers 5 would not use the file. Free with
 * la_tokenizer_close. */
la_status la_tokenizer_open(const char *dir, const la_log *log, la_tokenizer **tokenizer,
                            la_error *err);
/* Reads tokenizer.json alone, as versions did that did not read the files beside it. */
la_status la_tokenizer_open_alone(const char *dir, la_tokenizer **tokenizer, la_error *err);
/* True when DIR has a tokenizer, in any format. */
bool la_tokenizer_is_in(const char *dir);
void la_tokenizer_close(la_tokenizer *tokenizer);
/* Digest of the file and of the changes by those beside it, 32 hex digits. */
const char *la_tokenizer_digest(const la_tokenizer *tokenizer);
/* Number of tokens that a text is cut to, by the directory's files; 0: not given. */
int64_t la_tokenizer_max_length(const la_tokenizer *tokenizer);
/* True when the directory has a template of conversations, which is not applied here. */
bool la_tokenizer_has_chat(const la_tokenizer *tokenizer);
/* True when, by the directory's files, long texts lose their beginning. */
bool la_tokenizer_cuts_left(const la_tokenizer *tokenizer);

typedef struct la_encode_options {
    int64_t max_length; /* tokens, special ones counted; 0: as the file presets */
    bool truncate_left; /* keep the end (prompts); with max_length */
    bool no_special;    /* the text's own tokens alone */
} la_encode_options;

/* Grown as needed and reused from call to call; zero it first, free with la_encoding_free. */
typedef struct la_encoding {
    int32_t *ids, *types;
    int64_t n;
    bool truncated;
    size_t ids_capacity, types_capacity;
} la_encoding;

void la_encoding_free(la_encoding *encoding);

/* pair NULL: one text. Not for several threads at once on one tokenizer. */
la_status la_tokenizer_encode(la_tokenizer *tokenizer, const char *text, size_t length,
                              const char *pair, size_t pair_length,
                              const la_encode_options *options, la_encoding *out, la_error *err);

/* Word of a text that was split before. */
typedef struct la_word {
    const char *text;
    size_t length;
    int64_t place; /* index of its first token; -1: none, or cut off */
} la_word;

/* Encodes one text from its words, each tokenised as if it stood alone (is_split_into_words of the
 * library); special tokens go around them all. Sets the words' places. */
la_status la_tokenizer_encode_words(la_tokenizer *tokenizer, la_word *words, int64_t n_words,
                                    const la_encode_options *options, la_encoding *out,
                                    la_error *err);

#endif

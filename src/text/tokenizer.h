/* Text to token ids, as the `tokenizers` library does it from the same tokenizer.json. */
#ifndef LA_TEXT_TOKENIZER_H
#define LA_TEXT_TOKENIZER_H

#include "base/digest.h"
#include "base/error.h"

#include <stdbool.h>

typedef struct la_tokenizer la_tokenizer;

/* Reads DIR/tokenizer.json, and what the files beside it say of its tokens (side_files.h). Where
 * transformers 5 would not go by the file, log (may be NULL) is told. Free with
 * la_tokenizer_close. */
la_status la_tokenizer_open(const char *dir, const la_log *log, la_tokenizer **tokenizer,
                            la_error *err);
/* By tokenizer.json alone, as before the files beside it were read. */
la_status la_tokenizer_open_alone(const char *dir, la_tokenizer **tokenizer, la_error *err);
/* Whether DIR has a tokenizer, in whatever form. */
bool la_tokenizer_is_in(const char *dir);
void la_tokenizer_close(la_tokenizer *tokenizer);
/* Digest of the file and of what those beside it change, 32 hex digits. */
const char *la_tokenizer_digest(const la_tokenizer *tokenizer);
/* Tokens that a text is cut to, as the folder has it; 0: it does not say. */
int64_t la_tokenizer_max_length(const la_tokenizer *tokenizer);
/* Whether the folder has a template of conversations, which nothing here applies. */
bool la_tokenizer_has_chat(const la_tokenizer *tokenizer);
/* Whether the folder says that long texts lose their beginning. */
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

/* A word of a text that was split before. */
typedef struct la_word {
    const char *text;
    size_t length;
    int64_t place; /* of its first token; -1: it has none, or that was cut */
} la_word;

/* One text from its words, each tokenised by itself, as if it stood alone (what the library does with
 * is_split_into_words); special tokens go around them all. Fills in the words' places. */
la_status la_tokenizer_encode_words(la_tokenizer *tokenizer, la_word *words, int64_t n_words,
                                    const la_encode_options *options, la_encoding *out,
                                    la_error *err);

#endif

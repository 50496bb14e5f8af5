/* Files beside a tokenizer.json that add to its tokens: tokenizer_config.json,
 * special_tokens_map.json, added_tokens.json, and the tokenizer's class in config.json. They are
 * read as AutoTokenizer of transformers 5 reads them. */
#ifndef LA_TEXT_SIDE_FILES_H
#define LA_TEXT_SIDE_FILES_H

#include "text/source.h"

enum { LA_TOKENIZER_BYTES_MAX = 256 << 20 };

typedef enum la_side { LA_SIDE_LEFT = -1, LA_SIDE_UNKNOWN, LA_SIDE_RIGHT } la_side;

typedef struct la_side_files {
    size_t n_own;            /* added tokens that tokenizer.json lists itself */
    bool splits_special;     /* special tokens spelt out in a text are plain text */
    bool no_types;           /* the model gets no token types */
    int64_t max_length;      /* model_max_length; 0: none */
    la_side truncation_side; /* where long texts are cut */
    bool has_chat;           /* a template of conversations is present */
    json_t *changes;         /* changes made in root, for the digest; NULL: none */
} la_side_files;

/* Reads the files of DIR and writes into root (its tokenizer.json) the tokens that they add and the
 * flags that they override. log (may be NULL) gets a warning where that is impossible or where they
 * contradict each other. Free *out with la_side_files_free, also after a failure. */
la_status la_side_files_apply(const char *dir, json_t *root, const la_log *log, la_side_files *out,
                              la_error *err);
/* *agree: two directories, each with a tokenizer.json, give the same ids. Order of added tokens,
 * and settings that only decode, pad or truncate, are not compared. */
la_status la_side_files_agree(const char *a, const char *b, bool *agree, la_error *err);
void la_side_files_free(la_side_files *files);

#endif

/* Tokenizer classes of transformers 5 that build normalizer and pre-tokenizer themselves, passing
 * over those of tokenizer.json. */
#ifndef LA_TEXT_TOKEN_CLASS_H
#define LA_TEXT_TOKEN_CLASS_H

#include <jansson.h>
#include <stdbool.h>

/* The named special tokens, in the order in which transformers adds those that are missing. */
enum { LA_NAMED_TOKENS = 7 };
extern const char *const la_named_tokens[LA_NAMED_TOKENS];

/* Parts that a class builds, in the form of tokenizer.json; new references, NULL for none. */
typedef struct la_pipeline {
    json_t *normalizer, *pre_tokenizer;
} la_pipeline;

/* Special tokens that a class puts around texts, whatever tokenizer.json has. */
typedef enum la_class_wrap {
    LA_WRAP_OF_FILE,
    LA_WRAP_BERT,    /* cls A sep, cls A sep B sep; the second text is of type 1 */
    LA_WRAP_ROBERTA, /* cls A sep, cls A sep sep B sep */
    LA_WRAP_ENDS     /* likewise with bos and eos */
} la_class_wrap;

/* Token of the class's model for unknown text. */
typedef enum la_class_unknown {
    LA_UNKNOWN_OF_FILE,
    LA_UNKNOWN_NAMED, /* unk_token of the configuration */
    LA_UNKNOWN_NONE,  /* nothing */
    LA_UNKNOWN_THIRD  /* the token with id 3 */
} la_class_unknown;

typedef enum la_class_flag {
    /* settings of the configuration count whatever tokenizer.json has, in transformers 4 and 5 */
    LA_CLASS_SETS_BERT = 1,
    LA_CLASS_SETS_PREFIX_SPACE = 2,
    LA_CLASS_READDS_SPECIAL = 4, /* with the flags of a plain special token */
    LA_CLASS_MASK_LEFT = 8       /* a mask spelt out in a text takes the spaces before it */
} la_class_flag;

typedef struct la_token_class {
    const char *name;
    const char *model; /* type of its model */
    la_class_wrap wrap;
    la_class_unknown unknown;
    la_pipeline (*build)(const json_t *config, const json_t *root);
    const char *tokens[LA_NAMED_TOKENS]; /* where the configuration names none; NULL: none */
    int flags;                           /* la_class_flag */
} la_token_class;

/* NULL: a class that uses the file, or an unknown one. */
const la_token_class *la_token_class_find(const char *name);
/* True for a class that is known to use the file. */
bool la_token_class_is_plain(const char *name);
/* Name of the class that transformers takes for a model type; NULL: one that uses the file. */
const char *la_token_class_of_model(const char *model_type);
/* True when the class, despite its own, uses the pre-tokenizer of a byte-level tokenizer.json. */
bool la_token_class_yields(const la_token_class *kind, const json_t *root);
bool la_config_option(const json_t *config, const char *key, bool missing);

#endif

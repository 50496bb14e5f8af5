/* Rotary position embedding (arXiv 2104.09864) with the scalings that checkpoints name in
 * config.json, under the spellings of transformers v4 and v5. */
#ifndef LA_MODEL_ROPE_H
#define LA_MODEL_ROPE_H

#include "base/digest.h"
#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum la_rope_kind {
    LA_ROPE_DEFAULT,
    LA_ROPE_LINEAR,
    LA_ROPE_LLAMA3,
    LA_ROPE_DYNAMIC, /* NTK: the base grows with the row's length */
    LA_ROPE_YARN,    /* arXiv 2309.00071 */
    LA_ROPE_LONGROPE /* arXiv 2402.13753: other factors for long rows */
} la_rope_kind;

enum { LA_ROPE_PAIRS_MAX = 1024 };

typedef struct la_rope {
    la_rope_kind kind;
    int64_t dim; /* columns of a head that rotate, an even number */
    double theta, factor, low_factor, high_factor, original_positions;
    double attention_factor;            /* cosines and sines are multiplied by it */
    double ramp[2];                     /* YaRN: between these pairs frequencies are mixed */
    double *short_factor, *long_factor; /* LongRoPE, [dim / 2]; owned */
} la_rope;

/* Settings of a configuration beside its rope dictionary. */
typedef struct la_rope_context {
    const json_t *root;
    const char *path;
    int64_t head_dim, max_positions;
    double theta; /* where the dictionary has none */
} la_rope_context;

/* dictionary: rope_parameters (of a kind of layer), or rope_scaling; NULL for none. Free with
 * la_rope_free. */
la_status la_rope_read(const la_rope_context *from, const json_t *dictionary, la_rope *rope,
                       la_error *err);
void la_rope_free(la_rope *rope);
/* True when frequencies depend on the length of the row. */
bool la_rope_by_length(const la_rope *rope);
/* inverse frequencies [dim / 2] for a row of that many tokens */
void la_rope_frequencies(const la_rope *rope, int64_t length, double *out);
void la_rope_digest(const la_rope *rope, la_digest *digest);

#endif

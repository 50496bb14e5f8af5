#include "model/rope.h"
#include "base/memory.h"
#include "input/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    la_rope_kind kind;
} kinds[] = {
    {"default", LA_ROPE_DEFAULT}, {"linear", LA_ROPE_LINEAR}, {"llama3", LA_ROPE_LLAMA3},
    {"dynamic", LA_ROPE_DYNAMIC}, {"yarn", LA_ROPE_YARN},     {"longrope", LA_ROPE_LONGROPE},
    {"su", LA_ROPE_LONGROPE},
};

static la_status read_kind(const la_rope_context *from, const json_t *d, la_rope *rope,
                           la_error *err) {
    const char *name = "default";
    LA_TRY(la_json_text(d, from->path, "type", false, &name, err));
    LA_TRY(la_json_text(d, from->path, "rope_type", false, &name, err));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, name))
            continue;
        rope->kind = kinds[i].kind;
        /* early files of the kind with two lists of factors call it yarn */
        if (rope->kind == LA_ROPE_YARN && la_json_is_set(json_object_get(d, "short_factor")))
            rope->kind = LA_ROPE_LONGROPE;
        return LA_OK;
    }
    return la_fail(err, LA_UNSUPPORTED,
                   "%s: rope type \"%s\" is not supported (default, linear, llama3, dynamic, yarn "
                   "and longrope are)",
                   from->path, name);
}

static la_status read_factors(const la_rope_context *from, const json_t *d, const char *key,
                              int64_t n, double **out, la_error *err) {
    const json_t *list = json_object_get(d, key);
    if (!json_is_array(list) || (int64_t)json_array_size(list) != n)
        return la_fail(err, LA_BAD_INPUT, "%s: rope: %s is %s of %zu, expected a list of %lld",
                       from->path, key, la_json_kind(list), json_array_size(list), (long long)n);
    *out = la_alloc((size_t)n, sizeof **out, err);
    if (!*out)
        return err->status;
    for (int64_t i = 0; i < n; i++) {
        const json_t *value = json_array_get(list, (size_t)i);
        (*out)[i] = json_number_value(value);
        if (!((*out)[i] > 0) || isinf((*out)[i]))
            return la_fail(err, LA_BAD_INPUT, "%s: rope: entry %lld of %s is no positive number",
                           from->path, (long long)i, key);
    }
    return LA_OK;
}

/* Context of the pretraining: of the configuration itself, else of the dictionary, else all of it.
 */
static la_status read_original(const la_rope_context *from, const json_t *d, la_rope *rope,
                               la_error *err) {
    static const char key[] = "original_max_position_embeddings";
    rope->original_positions = (double)from->max_positions;
    LA_TRY(la_json_number(d, from->path, key, false, &rope->original_positions, err));
    return la_json_number(from->root, from->path, key, false, &rope->original_positions, err);
}

static double yarn_scale(double factor, double mscale) {
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

/* Pairs that turn often are kept, those that turn less than once are slowed, between them mixed. */
static la_status read_yarn(const la_rope_context *from, const json_t *d, la_rope *rope,
                           la_error *err) {
    double turns[2] = {0, 0}, mscale[2] = {0, 0};
    bool truncate = true;
    LA_TRY(la_json_number(d, from->path, "beta_fast", false, &turns[0], err));
    LA_TRY(la_json_number(d, from->path, "beta_slow", false, &turns[1], err));
    LA_TRY(la_json_number(d, from->path, "mscale", false, &mscale[0], err));
    LA_TRY(la_json_number(d, from->path, "mscale_all_dim", false, &mscale[1], err));
    LA_TRY(la_json_bool(d, from->path, "truncate", false, &truncate, err));
    turns[0] = turns[0] > 0 ? turns[0] : 32;
    turns[1] = turns[1] > 0 ? turns[1] : 1;
    rope->attention_factor =
        mscale[0] != 0 && mscale[1] != 0
            ? yarn_scale(rope->factor, mscale[0]) / yarn_scale(rope->factor, mscale[1])
            : yarn_scale(rope->factor, 1);
    double dim = (double)rope->dim;
    for (int i = 0; i < 2; i++)
        rope->ramp[i] =
            dim * log(rope->original_positions / (turns[i] * 2 * M_PI)) / (2 * log(rope->theta));
    if (truncate) {
        rope->ramp[0] = floor(rope->ramp[0]);
        rope->ramp[1] = ceil(rope->ramp[1]);
    }
    rope->ramp[0] = fmax(rope->ramp[0], 0);
    rope->ramp[1] = fmin(rope->ramp[1], dim - 1);
    if (rope->ramp[0] == rope->ramp[1])
        rope->ramp[1] += 0.001;
    return LA_OK;
}

static la_status read_longrope(const la_rope_context *from, const json_t *d, la_rope *rope,
                               la_error *err) {
    if (rope->factor > 1)
        rope->attention_factor = sqrt(1 + log(rope->factor) / log(rope->original_positions));
    LA_TRY(read_factors(from, d, "short_factor", rope->dim / 2, &rope->short_factor, err));
    return read_factors(from, d, "long_factor", rope->dim / 2, &rope->long_factor, err);
}

static la_status read_scaling(const la_rope_context *from, const json_t *d, la_rope *rope,
                              la_error *err) {
    bool implied = rope->kind == LA_ROPE_YARN || rope->kind == LA_ROPE_LONGROPE;
    if (rope->kind == LA_ROPE_DEFAULT)
        return LA_OK;
    LA_TRY(read_original(from, d, rope, err));
    if (implied)
        rope->factor = (double)from->max_positions / rope->original_positions;
    LA_TRY(la_json_number(d, from->path, "factor", !implied, &rope->factor, err));
    if (rope->kind == LA_ROPE_LLAMA3) {
        LA_TRY(la_json_number(d, from->path, "low_freq_factor", true, &rope->low_factor, err));
        LA_TRY(la_json_number(d, from->path, "high_freq_factor", true, &rope->high_factor, err));
    }
    bool sane = rope->factor > 0 && isfinite(rope->factor) && rope->original_positions > 1 &&
                (rope->kind != LA_ROPE_LLAMA3 ||
                 (rope->low_factor > 0 && rope->high_factor > rope->low_factor));
    if (!sane)
        return la_fail(err, LA_BAD_INPUT, "%s: the rotary embedding's parameters make no sense",
                       from->path);
    if (rope->kind == LA_ROPE_DYNAMIC)
        rope->original_positions = (double)from->max_positions;
    if (rope->kind == LA_ROPE_YARN)
        LA_TRY(read_yarn(from, d, rope, err));
    if (rope->kind == LA_ROPE_LONGROPE)
        LA_TRY(read_longrope(from, d, rope, err));
    if (implied)
        LA_TRY(
            la_json_number(d, from->path, "attention_factor", false, &rope->attention_factor, err));
    return LA_OK;
}

la_status la_rope_read(const la_rope_context *from, const json_t *d, la_rope *rope, la_error *err) {
    double part = 1;
    *rope = (la_rope){.theta = from->theta,
                      .attention_factor = 1,
                      .original_positions = (double)from->max_positions};
    LA_TRY(la_json_number(from->root, from->path, "partial_rotary_factor", false, &part, err));
    if (d) {
        LA_TRY(read_kind(from, d, rope, err));
        LA_TRY(la_json_number(d, from->path, "rope_theta", false, &rope->theta, err));
        LA_TRY(la_json_number(d, from->path, "partial_rotary_factor", false, &part, err));
    }
    rope->dim = part > 0 && part <= 1 ? (int64_t)((double)from->head_dim * part) : 0;
    if (rope->dim < 2 || rope->dim % 2 || rope->dim / 2 > LA_ROPE_PAIRS_MAX)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: %lld of %lld columns of a head rotate, expected an even number of at "
                       "most %d",
                       from->path, (long long)rope->dim, (long long)from->head_dim,
                       2 * LA_ROPE_PAIRS_MAX);
    if (!(rope->theta > 1) || isinf(rope->theta))
        return la_fail(err, LA_BAD_INPUT, "%s: rope_theta is %g, expected more than 1", from->path,
                       rope->theta);
    if (rope->kind == LA_ROPE_DYNAMIC && rope->dim == 2)
        return la_fail(err, LA_BAD_INPUT, "%s: a dynamic rope of 2 columns", from->path);
    la_status status = d ? read_scaling(from, d, rope, err) : LA_OK;
    if (status != LA_OK)
        la_rope_free(rope);
    return status;
}

void la_rope_free(la_rope *rope) {
    free(rope->short_factor);
    free(rope->long_factor);
    rope->short_factor = rope->long_factor = NULL;
}

bool la_rope_by_length(const la_rope *rope) {
    return rope->kind == LA_ROPE_DYNAMIC || rope->kind == LA_ROPE_LONGROPE;
}

void la_rope_frequencies(const la_rope *rope, int64_t length, double *out) {
    double dim = (double)rope->dim, theta = rope->theta, tokens = (double)length;
    if (rope->kind == LA_ROPE_DYNAMIC && tokens > rope->original_positions)
        theta *= pow(rope->factor * tokens / rope->original_positions - (rope->factor - 1),
                     dim / (dim - 2));
    const double *each = tokens > rope->original_positions ? rope->long_factor : rope->short_factor;
    for (int64_t i = 0; i < rope->dim / 2; i++) {
        double f = pow(theta, -2.0 * (double)i / dim);
        if (rope->kind == LA_ROPE_LINEAR)
            f /= rope->factor;
        if (rope->kind == LA_ROPE_LONGROPE)
            f /= each[i];
        if (rope->kind == LA_ROPE_LLAMA3) {
            /* turns made over the original context decide: few turns are slowed, many are kept,
             * between is mixed */
            double turns = rope->original_positions * f / (2 * M_PI);
            double mix = (turns - rope->low_factor) / (rope->high_factor - rope->low_factor);
            mix = mix < 0 ? 0 : mix > 1 ? 1 : mix;
            f = (1 - mix) * f / rope->factor + mix * f;
        }
        if (rope->kind == LA_ROPE_YARN) {
            double slow = ((double)i - rope->ramp[0]) / (rope->ramp[1] - rope->ramp[0]);
            slow = slow < 0 ? 0 : slow > 1 ? 1 : slow;
            f = f / rope->factor * slow + f * (1 - slow);
        }
        out[i] = f;
    }
}

void la_rope_digest(const la_rope *rope, la_digest *digest) {
    const double numbers[] = {(double)rope->kind,
                              (double)rope->dim,
                              rope->theta,
                              rope->factor,
                              rope->low_factor,
                              rope->high_factor,
                              rope->original_positions,
                              rope->ramp[0],
                              rope->ramp[1],
                              rope->attention_factor};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        la_digest_add_number(digest, numbers[i]);
    for (int64_t i = 0; rope->short_factor && i < rope->dim / 2; i++) {
        la_digest_add_number(digest, rope->short_factor[i]);
        la_digest_add_number(digest, rope->long_factor[i]);
    }
}

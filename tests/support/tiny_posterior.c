#include "support/tiny_posterior.h"
#include "bayes/exact.h"
#include "bayes/factored.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const tiny_names[TINY_KINDS] = {"kron",       "low-rank",   "ekfac",   "diag", "exact",
                                            "last-layer", "regression", "guarded", "many"};

static void *take(la_posterior *p, size_t count, size_t size) {
    la_error err = {0};
    void *memory = la_pool_take(&p->pool, count, size, &err);
    if (!memory)
        abort();
    return memory;
}

/* Numbers in (0, 2), falling where they are eigenvalues. */
static double made_up(int64_t i) {
    return 1 + sin((double)i * 1.7) * 0.9;
}

static double *values(la_posterior *p, int64_t n) {
    double *v = take(p, (size_t)n, sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = 8.0 / (double)(i + 1);
    return v;
}

static float *floats(la_posterior *p, int64_t n) {
    float *v = take(p, (size_t)n, sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)made_up(i);
    return v;
}

static la_factor factor(la_posterior *p, int64_t n, int64_t rank) {
    return (la_factor){n, rank, values(p, rank), floats(p, n * rank)};
}

static void add_labels(la_posterior *p) {
    static const char *const names[] = {"no", "perhaps", "s\xc3\xad"};
    la_error err = {0};
    p->provenance.labels.names = la_alloc(3, sizeof *p->provenance.labels.names, &err);
    for (int i = 0; i < 3 && p->provenance.labels.names; i++) {
        p->provenance.labels.names[i] = strdup(names[i]);
        p->provenance.labels.count = i + 1;
    }
}

static void add_choice(la_posterior *p) {
    la_choice *c = &p->choice;
    bool regression = p->noise_variance > 0;
    c->guarded = 1;
    c->cross = 1;
    c->n = 120;
    c->method = regression ? LA_METHOD_LAPLACE : LA_METHOD_AVERAGE;
    for (int k = 0; k < LA_METHODS; k++) {
        c->candidates[k] = (la_candidate){1, 1, NAN, NAN, 0, 0, 0};
        if (!regression || k == LA_METHOD_MAP || k == LA_METHOD_LAPLACE)
            c->candidates[k] = (la_candidate){
                2,    k % 2 ? 1.5 : 1,     0.5 + 0.01 * k, regression ? NAN : 0.75, 0.01 * k,
                0.02, regression ? 0.3 : 0};
    }
    if (regression)
        return;
    c->n_settings = 3;
    c->shortening = 0.001;
    c->settings[0] = (la_setting){LA_METHOD_MAP, 1, 1, 0.25, 0};
    c->settings[1] = (la_setting){LA_METHOD_LAPLACE, 3, 1.5, 0.5, 0};
    c->settings[2] = (la_setting){LA_METHOD_SCALAR, 0.5, 0.75, 0.25, 2};
    c->changes = (la_changes){5, 3, 1};
    c->n_corrections = 2;
    for (int k = 0; k < 2; k++)
        c->corrections[k] =
            (la_correction){.scale = 0.3 + k, .temperature = 1.5, .bias = {-0.5, 0.125 * k, 0.25}};
    c->corrections[1].spread = 0.3;
    c->corrections[0].determined = 0.25;
    for (int k = 0; k < 3; k++) {
        c->corrections[1].weight[k] = 0.5 + 0.5 * k;
        c->centre[k] = k - 1;
    }
}

static void add_extras(la_posterior *p) {
    enum { WIDTH = 4 };
    add_labels(p);
    add_choice(p);
    p->provenance.template_text = "Is {text} good?\nAnswer:";
    p->provenance.adapter_name = "second";
    p->class_rows = take(p, 3, sizeof *p->class_rows);
    p->class_means = take(p, 3, sizeof *p->class_means);
    p->class_held = take(p, 3, sizeof *p->class_held);
    p->class_answers = take(p, 9, sizeof *p->class_answers);
    for (int i = 0; i < 3; i++) {
        p->class_rows[i] = 8 * i;
        p->class_held[i] = 4 + i;
        p->class_means[i] = 0.25 + 0.25 * (i == 2);
        for (int k = 0; k < 3; k++)
            p->class_answers[3 * i + k] = (4 + i) * (0.25 + 0.25 * (i == k));
    }
    p->provenance.n_held_out = 3;
    p->provenance.held_out = take(p, 3, sizeof *p->provenance.held_out);
    for (int i = 0; i < 3; i++)
        p->provenance.held_out[i] = 0x1p50 + i;
    p->provenance.n_row_digests = p->n_rows;
    p->provenance.row_digests = take(p, (size_t)p->n_rows, sizeof *p->provenance.row_digests);
    for (int32_t i = 0; i < p->n_rows; i++) /* negative from the fifth row on: large as unsigned */
        p->provenance.row_digests[i] = (la_row_digest){{i < 4 ? i : i - 100, 1 - i, i, -i}};
    p->provenance.row_weights = take(p, (size_t)p->n_rows, sizeof(double));
    for (int64_t i = 0; i < p->n_rows; i++)
        p->provenance.row_weights[i] = i % 2 ? 0.5 : 0;
    p->rows_weight = 18;
    p->tokens_weight = 195.5;
    p->earlier_rows = 12;
    p->earlier_distance = 3.25;
    p->noise_asked = 0.5;
    p->keep_answers = 1;
    p->choice.older = 1;
    p->provenance.base_quant = (la_base_quant)1;
    p->provenance.choice_ids = take(p, 3, sizeof *p->provenance.choice_ids);
    for (int i = 0; i < 3; i++)
        p->provenance.choice_ids[i] = 37 + 2 * i;
    p->adue = (la_adue){.n_classes = 3,
                        .width = WIDTH,
                        .smooth = 100,
                        .epochs = 9,
                        .best_epoch = 4,
                        .auroc_before = 0.5,
                        .auroc_after = 0.75};
    p->adue.weight = values(p, 3 * WIDTH + 3);
    p->adue.bias = p->adue.weight + 3 * WIDTH;
    p->ood = (la_ood){.n_groups = 3,
                      .rank = 2,
                      .width = WIDTH,
                      .rest = 0.25,
                      .n_table = 5,
                      .n_reference = 5,
                      .held_out = 1};
    p->ood.means = floats(p, 3 * WIDTH);
    p->ood.vectors = floats(p, 2 * WIDTH);
    p->ood.values = values(p, 2);
    p->ood.table = values(p, 5);
    for (int i = 0; i < 5; i++)
        p->ood.table[i] = 0.5 + i;
    p->ood.values[0] = 3;
    p->ood.values[1] = 1.5;
    p->forward = 1;
    p->distilled = (la_distilled){.n_outputs = 3,
                                  .n_contrasts = 2,
                                  .width = WIDTH,
                                  .rank = 2,
                                  .n_features = la_distilled_width(2, 2, true),
                                  .n_scales = 2,
                                  .explained = 0.75};
    p->distilled.mean = floats(p, WIDTH);
    p->distilled.vectors = floats(p, 2 * WIDTH);
    p->distilled.values = values(p, 2);
    p->distilled.centre = values(p, p->distilled.n_features);
    p->distilled.spread = values(p, p->distilled.n_features);
    p->distilled.scales = values(p, 2);
    p->distilled.weights = values(p, 2 * (p->distilled.n_features + 1));
    p->distilled.least = values(p, 2);
    p->distilled.most = values(p, 2);
}

la_posterior tiny_posterior(int kind) {
    static const la_curvature curvatures[TINY_KINDS] = {
        [TINY_EKFAC] = LA_CURVATURE_EKFAC,
        [TINY_DIAG] = LA_CURVATURE_DIAG,
        [TINY_MANY] = LA_CURVATURE_DIAG,
        [TINY_EXACT] = LA_CURVATURE_EXACT,
        [TINY_LAST_LAYER] = LA_CURVATURE_LAST_LAYER,
    };
    la_posterior p = {.curvature = curvatures[kind],
                      .n_blocks = kind == TINY_MANY         ? 20
                                  : kind == TINY_LAST_LAYER ? 1
                                                            : 2,
                      .n_rows = 24,
                      .n_tokens = 260,
                      .n_classes = 3,
                      .likelihood = &la_softmax_likelihood,
                      .log_likelihood = -25.5,
                      .log_marginal_likelihood = -127.75,
                      .prior_precision = 4,
                      .temperature = 1,
                      .provenance.base_path = "/models/base",
                      .provenance.adapter_path = "/models/adapter",
                      .provenance.max_length = 64,
                      .provenance.base_digest = "0123456789abcdef0123456789abcdef",
                      .provenance.adapter_digest = "00000000000000000000000000000001",
                      .provenance.tokenizer_digest = "",
                      .provenance.data_digest = "ffffffffffffffffffffffffffffffff"};
    bool factors = p.curvature == LA_CURVATURE_KRON || p.curvature == LA_CURVATURE_EKFAC;
    if (kind == TINY_REGRESSION) {
        p.n_classes = 1;
        p.likelihood = &la_gaussian_likelihood;
        p.noise_variance = 0.25;
    }
    int64_t rank = kind == TINY_LOW_RANK ? 2 : 0;
    bool joint = la_structure_of(p.curvature)->joint;
    p.rank_asked = rank;
    p.n_inputs = factors ? 1 : 0;
    p.blocks = take(&p, (size_t)p.n_blocks, sizeof *p.blocks);
    la_factor *inputs = take(&p, 1, sizeof *inputs);
    la_directions *directions = take(&p, 1, sizeof *directions);
    p.structure = joint ? (void *)directions : inputs;
    if (factors)
        inputs[0] = factor(&p, 6, rank ? rank : 6);
    for (int64_t b = 0; b < p.n_blocks; b++) {
        la_posterior_block *block = &p.blocks[b];
        char name[64];
        snprintf(name, sizeof name, "layer.%lld.query.lora_A", (long long)b);
        *block = (la_posterior_block){.name = strcpy(take(&p, sizeof name, 1), name),
                                      .out = 3,
                                      .in = 6,
                                      .denominator = 260,
                                      .prior_precision = 4,
                                      .theta_square = made_up(b),
                                      .trace_in = 10,
                                      .trace_out = 5};
        la_factored_block *own = block->structure = take(&p, 1, sizeof *own);
        if (factors)
            own->output = factor(&p, 3, rank ? rank : 3);
        if (p.curvature == LA_CURVATURE_EKFAC || p.curvature == LA_CURVATURE_DIAG)
            *own = (la_factored_block){own->output, 3, 6, floats(&p, 3 * 6)};
    }
    if (joint) {
        int64_t width = la_posterior_width(&p);
        *directions = (la_directions){4, width, values(&p, 4), floats(&p, 4 * width), 0};
    }
    if (kind == TINY_GUARDED)
        add_extras(&p);
    if (kind == TINY_REGRESSION)
        add_choice(&p);
    return p;
}

double posterior_touch(const la_posterior *p) {
    double sum = 0;
    const la_factor *inputs = p->structure;
    for (int64_t i = 0; i < p->n_inputs; i++)
        for (int64_t k = 0; k < inputs[i].rank * inputs[i].n; k++)
            sum += (double)inputs[i].vectors[k];
    for (int64_t b = 0; b < p->n_blocks; b++) {
        const la_posterior_block *block = &p->blocks[b];
        sum += (double)strlen(block->name);
        if (la_structure_of(p->curvature)->joint)
            continue;
        la_spectrum s = la_block_spectrum(p, block);
        for (int64_t i = 0; i < s.rows; i++)
            for (int64_t j = 0; j < s.cols && s.col; j++)
                sum += la_spectrum_at(&s, i, j);
        for (int64_t k = 0; k < s.rows * s.cols && s.values; k++)
            sum += (double)s.values[k];
    }
    const la_directions *d = p->structure;
    for (int64_t k = 0; la_structure_of(p->curvature)->joint && k < d->rank * d->width; k++)
        sum += (double)d->vectors[k];
    for (int64_t k = 0; p->adue.weight && k < p->adue.n_classes * p->adue.width; k++)
        sum += p->adue.weight[k] + p->adue.bias[k % p->adue.n_classes];
    for (int64_t k = 0; p->class_rows && k < p->n_classes; k++)
        sum += p->class_rows[k];
    for (int64_t k = 0; p->class_held && k < p->n_classes; k++)
        sum += p->class_held[k];
    for (int64_t k = 0; p->class_means && k < p->n_classes; k++)
        sum += p->class_means[k];
    for (int64_t k = 0; p->class_answers && k < p->n_classes * p->n_classes; k++)
        sum += p->class_answers[k];
    for (int64_t k = 0; k < p->choice.n_corrections * p->n_classes; k++)
        sum += p->choice.corrections[k / p->n_classes].bias[k % p->n_classes] +
               p->choice.corrections[k / p->n_classes].weight[k % p->n_classes];
    for (int64_t k = 0; p->choice.n_corrections && k < p->n_classes; k++)
        sum += p->choice.centre[k];
    for (int64_t k = 0; k < p->provenance.n_held_out; k++)
        sum += p->provenance.held_out[k];
    for (int64_t k = 0; k < p->provenance.n_row_digests; k++)
        sum += (double)p->provenance.row_digests[k].words[k % 4];
    for (int64_t k = 0; p->provenance.row_weights && k < p->provenance.n_row_digests; k++)
        sum += p->provenance.row_weights[k];
    for (int64_t k = 0; p->ood.means && k < p->ood.n_groups * p->ood.width; k++)
        sum += (double)p->ood.means[k];
    for (int64_t k = 0; p->ood.vectors && k < p->ood.rank * p->ood.width; k++)
        sum += (double)p->ood.vectors[k] * p->ood.values[k % p->ood.rank];
    for (int64_t k = 0; p->ood.table && k < p->ood.n_table; k++)
        sum += p->ood.table[k];
    const la_distilled *v = &p->distilled;
    for (int64_t k = 0; v->mean && k < v->width * v->rank; k++)
        sum += (double)(v->mean[k % v->width] + v->vectors[k]) + v->values[k % v->rank];
    for (int64_t k = 0; v->mean && k < v->n_scales * (v->n_features + 1); k++)
        sum += v->weights[k] + v->centre[k % v->n_features] + v->spread[k % v->n_features] +
               v->scales[k % v->n_scales] + v->least[k % v->n_scales] + v->most[k % v->n_scales];
    for (int64_t k = 0; p->provenance.choice_ids && k < p->n_classes; k++)
        sum += p->provenance.choice_ids[k];
    for (int64_t k = 0; p->provenance.labels.names && k < p->n_classes; k++)
        sum += (double)strlen(p->provenance.labels.names[k]);
    return sum + (double)(strlen(p->provenance.base_path) + strlen(p->provenance.adapter_path));
}

/* The choice of prior precisions, against a log marginal likelihood that is written down here once
 * more, from lists of eigenvalues: every group's precision must be a maximum of it. */
#include "bayes/exact.h"
#include "bayes/factored.h"
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 9, OUT = 3, IN = 5, EIGENVALUES = OUT * IN };

#define LOG_LIKELIHOOD (-31.5)
#define LIMIT                                                                                      \
    1e-9 /* gap of dL/drho: its terms are about 10, differences of four values round to 1e-11 */

/* Layers 1 and 10, another stem, and names without a layer. */
static const char *const names[BLOCKS] = {
    "bert.encoder.layer.0.attention.self.query.lora_A",
    "bert.encoder.layer.0.attention.self.query.lora_B",
    "bert.encoder.layer.1.attention.self.query.lora_A",
    "bert.encoder.layer.1.attention.self.query.lora_B",
    "bert.encoder.layer.10.attention.self.query.lora_A",
    "bert.encoder.layer.10.output.dense.lora_B",
    "bert.pooler.dense2.lora_A",
    "classifier",
    "other.layer.1.attention.self.query.lora_A",
};
static const int one_group[BLOCKS] = {0};
static const int by_block[BLOCKS] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
static const int by_layer[BLOCKS] = {0, 0, 1, 1, 2, 2, 3, 4, 5};
static const int by_kind[BLOCKS] = {0, 1, 0, 1, 0, 2, 3, 4, 5};

/* A posterior, and what is known of it without asking it. */
typedef struct known {
    la_posterior posterior;
    la_posterior_block blocks[BLOCKS];
    la_factored_block own[BLOCKS];
    la_directions together;
    float spectra[BLOCKS][EIGENVALUES];
    la_factor inputs[BLOCKS];
    double in_values[BLOCKS][IN], out_values[BLOCKS][OUT];
    double directions[BLOCKS * EIGENVALUES];
    double h[BLOCKS][EIGENVALUES]; /* eigenvalues of every block's curvature */
} known;

static uint64_t seed;

static double uniform(double low, double high) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return low + (high - low) * (double)(seed >> 11) / 9007199254740992.0;
}

static known *new_known(void) {
    known *k = calloc(1, sizeof *k);
    seed = 20;
    k->posterior = (la_posterior){.n_blocks = BLOCKS,
                                  .blocks = k->blocks,
                                  .provenance.adapter_path = "the adapter",
                                  .log_likelihood = LOG_LIKELIHOOD};
    for (int b = 0; b < BLOCKS; b++)
        k->blocks[b] = (la_posterior_block){.name = names[b],
                                            .out = b % 2 ? IN : OUT,
                                            .in = b % 2 ? OUT : IN,
                                            .denominator = 1,
                                            .structure = &k->own[b],
                                            .theta_square = exp(uniform(-2, 2))};
    return k;
}

/* Blocks with a spectrum of their own; those of `flat` have none at all. */
static known *spectra(unsigned flat) {
    known *k = new_known();
    k->posterior.curvature = LA_CURVATURE_DIAG;
    for (int b = 0; b < BLOCKS; b++) {
        for (int i = 0; i < EIGENVALUES; i++) {
            k->spectra[b][i] = flat >> b & 1 ? 0 : (float)exp(uniform(-6, 4));
            k->h[b][i] = (double)k->spectra[b][i];
        }
        k->own[b].spectrum = k->spectra[b];
    }
    return k;
}

/* Blocks with two factors and a denominator. */
static known *factors(void) {
    known *k = new_known();
    k->posterior.structure = k->inputs;
    k->posterior.n_inputs = BLOCKS;
    for (int b = 0; b < BLOCKS; b++) {
        la_posterior_block *block = &k->blocks[b];
        block->out = OUT;
        block->in = IN;
        block->input = BLOCKS - 1 - b;
        block->denominator = 7 + b;
        for (int i = 0; i < IN; i++)
            k->in_values[b][i] = exp(uniform(-3, 3));
        for (int i = 0; i < OUT; i++)
            k->out_values[b][i] = exp(uniform(-3, 3));
        k->inputs[block->input] = (la_factor){.n = IN, .rank = IN, .values = k->in_values[b]};
        k->own[b].output = (la_factor){.n = OUT, .rank = OUT, .values = k->out_values[b]};
        for (int i = 0; i < EIGENVALUES; i++)
            k->h[b][i] = k->out_values[b][i / IN] * k->in_values[b][i % IN] / block->denominator;
    }
    return k;
}

/* The same eigenvalues as those of spectra, over all blocks together. */
static known *together(void) {
    known *k = spectra(0);
    k->posterior.curvature = LA_CURVATURE_EXACT;
    k->together = (la_directions){
        .rank = BLOCKS * EIGENVALUES, .width = BLOCKS * EIGENVALUES, .values = k->directions};
    k->posterior.structure = &k->together;
    for (int b = 0; b < BLOCKS; b++)
        memcpy(k->directions + b * EIGENVALUES, k->h[b], sizeof k->h[b]);
    return k;
}

/* log p(y | theta) - sum_blocks [ lambda/2 |theta|^2 + 1/2 sum log((h + lambda) / lambda) ] with
 * the precisions of a group times e^rho. */
static double evidence(const known *k, const int *groups, int group, double rho) {
    double sum = LOG_LIKELIHOOD;
    for (int b = 0; b < BLOCKS; b++) {
        double lambda = k->blocks[b].prior_precision * (groups[b] == group ? exp(rho) : 1);
        sum -= lambda / 2 * k->blocks[b].theta_square;
        for (int i = 0; i < EIGENVALUES; i++)
            sum -= log((k->h[b][i] + lambda) / lambda) / 2;
    }
    return sum;
}

static double slope(const known *k, const int *groups, int group) {
    const double step = 1e-3;
    double f[4];
    for (int i = 0; i < 4; i++)
        f[i] = evidence(k, groups, group, step * (double)(i < 2 ? i - 2 : i - 1));
    return (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * step);
}

static double worst_slope, worst_evidence;

static void check_value(const known *k) {
    double want = evidence(k, one_group, -1, 0);
    worst_evidence =
        fmax(worst_evidence, relative(k->posterior.log_marginal_likelihood, want, 1e-12));
}

/* Fails unless the precisions of a group are equal, and at a maximum. */
static void check_group(const known *k, const int *groups, int group) {
    double lambda = 0;
    for (int b = 0; b < BLOCKS; b++) {
        if (groups[b] != group)
            continue;
        assert_true(!lambda || lambda == k->blocks[b].prior_precision);
        lambda = k->blocks[b].prior_precision;
        /* nothing else shares it by chance */
        for (int other = 0; other < BLOCKS; other++)
            assert_true(groups[other] == group || k->blocks[other].prior_precision != lambda);
    }
    assert_true(lambda > 0);
    worst_slope = fmax(worst_slope, fabs(slope(k, groups, group)));
    double top = evidence(k, groups, group, 0);
    assert_true(evidence(k, groups, group, 0.01) < top);
    assert_true(evidence(k, groups, group, -0.01) < top);
}

static void choose(known *k, la_prior_kind kind) {
    la_error err = {0};
    if (la_prior_choose(&k->posterior, kind, 0, &err) != LA_OK)
        fail_msg("%s", err.message);
    assert_int_equal(k->posterior.prior, kind);
}

static void check_kind(known *k, la_prior_kind kind, const int *groups) {
    choose(k, kind);
    for (int b = 0; b < BLOCKS; b++)
        check_group(k, groups, groups[b]);
    assert_true(k->posterior.prior_precision ==
                (kind == LA_PRIOR_GLOBAL ? k->blocks[0].prior_precision : 0));
    check_value(k);
}

static void check_all(known *k) {
    check_kind(k, LA_PRIOR_GLOBAL, one_group);
    check_kind(k, LA_PRIOR_MODULE, by_block);
    check_kind(k, LA_PRIOR_LAYER, by_layer);
    check_kind(k, LA_PRIOR_KIND, by_kind);
    free(k);
}

static void groups_are_at_their_maximum(void **state) {
    (void)state;
    worst_slope = worst_evidence = 0;
    check_all(spectra(0));
    check_all(factors());
    check_within("dL/drho of a group", worst_slope, LIMIT);
    check_within("log marginal likelihood, relative", worst_evidence, 1e-13);
}

/* A group with some curvature has a maximum of its own, with the weights of its flat blocks; one
 * with none gets the global value of the blocks that are not flat. */
static void flat_blocks(void **state) {
    (void)state;
    const unsigned flat = 1u << 2 | 1u << 3 | 1u << 7; /* layer 1, and the head */
    int rest[BLOCKS];
    known *k = spectra(flat);
    worst_slope = worst_evidence = 0;

    choose(k, LA_PRIOR_LAYER);
    for (int g = 0; g < BLOCKS; g++)
        if (!(flat >> g & 1))
            check_group(k, by_layer, by_layer[g]);
    double shared = k->blocks[2].prior_precision;
    assert_true(shared == k->blocks[3].prior_precision && shared == k->blocks[7].prior_precision);
    check_value(k);

    choose(k, LA_PRIOR_MODULE);
    for (int b = 0; b < BLOCKS; b++)
        if (flat >> b & 1)
            assert_true(k->blocks[b].prior_precision == shared);
        else
            check_group(k, by_block, b);
    check_value(k);

    /* matrices of layer 1 share a kind with other blocks; the head does not */
    choose(k, LA_PRIOR_KIND);
    for (int b = 0; b < BLOCKS; b++)
        if (b != 7)
            check_group(k, by_kind, by_kind[b]);
    assert_true(k->blocks[7].prior_precision == shared);
    check_value(k);

    for (int b = 0; b < BLOCKS; b++) {
        k->blocks[b].prior_precision = shared;
        rest[b] = flat >> b & 1;
    }
    worst_slope = fmax(worst_slope, fabs(slope(k, rest, 0)));
    check_within("dL/drho of a group", worst_slope, LIMIT);
    check_within("log marginal likelihood, relative", worst_evidence, 1e-13);
    free(k);
}

static void nothing_but_flat_blocks(void **state) {
    (void)state;
    la_error err = {0};
    known *k = spectra((1u << BLOCKS) - 1);
    assert_int_equal(la_prior_choose(&k->posterior, LA_PRIOR_LAYER, 0, &err), LA_NUMERICAL);
    assert_non_null(strstr(err.message, "the adapter"));
    err = (la_error){0};
    assert_int_equal(la_prior_choose(&k->posterior, LA_PRIOR_GLOBAL, 0, &err), LA_NUMERICAL);
    assert_non_null(strstr(err.message, "the adapter"));
    free(k);
}

/* Weights of zero have no maximum either. */
static void no_weights(void **state) {
    (void)state;
    la_error err = {0};
    known *k = spectra(0);
    k->blocks[6].theta_square = 0;
    assert_int_equal(la_prior_choose(&k->posterior, LA_PRIOR_KIND, 0, &err), LA_NUMERICAL);
    assert_non_null(strstr(err.message, names[6]));
    free(k);
}

/* Curvature that ties all blocks together has one precision, whichever way it is laid out. */
static void one_precision(void **state) {
    (void)state;
    known *k = together(), *apart = spectra(0);
    worst_slope = worst_evidence = 0;
    check_kind(k, LA_PRIOR_GLOBAL, one_group);
    choose(apart, LA_PRIOR_GLOBAL);
    check_within("global precision, together and apart",
                 relative(k->posterior.prior_precision, apart->posterior.prior_precision, 1e-12),
                 1e-12);
    check_within("dL/drho", worst_slope, LIMIT);
    static const la_prior_kind refused[] = {LA_PRIOR_MODULE, LA_PRIOR_LAYER, LA_PRIOR_KIND};
    for (int i = 0; i < 3; i++) {
        la_error err = {0};
        assert_int_equal(la_prior_choose(&k->posterior, refused[i], 0, &err), LA_USAGE);
    }
    free(k), free(apart);
}

static void fixed_precision(void **state) {
    (void)state;
    known *all[] = {spectra(0), factors(), together()};
    worst_evidence = 0;
    for (int i = 0; i < 3; i++) {
        la_error err = {0};
        static const double wrong[] = {0, -1, NAN, INFINITY};
        assert_int_equal(la_prior_choose(&all[i]->posterior, LA_PRIOR_FIXED, 2.5, &err), LA_OK);
        assert_true(all[i]->posterior.prior_precision == 2.5);
        for (int b = 0; b < BLOCKS; b++)
            assert_true(all[i]->blocks[b].prior_precision == 2.5);
        check_value(all[i]);
        for (int w = 0; w < 4; w++) {
            err = (la_error){0};
            assert_int_equal(la_prior_choose(&all[i]->posterior, LA_PRIOR_FIXED, wrong[w], &err),
                             LA_USAGE);
        }
        free(all[i]);
    }
    check_within("log marginal likelihood, relative", worst_evidence, 1e-13);
}

static void check_scale(known *k, la_prior_kind kind) {
    double before[BLOCKS], global;
    la_error err = {0};
    choose(k, kind);
    global = k->posterior.prior_precision;
    for (int b = 0; b < BLOCKS; b++)
        before[b] = k->blocks[b].prior_precision;
    assert_int_equal(la_prior_scale(&k->posterior, 3, &err), LA_OK);
    assert_int_equal(k->posterior.prior, kind);
    assert_true(k->posterior.prior_precision == 3 * global);
    for (int b = 0; b < BLOCKS; b++)
        assert_true(k->blocks[b].prior_precision == 3 * before[b]);
    check_value(k);
    free(k);
}

/* Every precision times the same, and the evidence with it. */
static void scaled(void **state) {
    (void)state;
    worst_evidence = 0;
    check_scale(spectra(0), LA_PRIOR_GLOBAL);
    check_scale(spectra(1u << 7), LA_PRIOR_MODULE);
    check_scale(factors(), LA_PRIOR_LAYER);
    check_scale(factors(), LA_PRIOR_KIND);
    check_scale(together(), LA_PRIOR_GLOBAL);
    check_within("log marginal likelihood, relative", worst_evidence, 1e-13);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_are_at_their_maximum),
        cmocka_unit_test(flat_blocks),
        cmocka_unit_test(nothing_but_flat_blocks),
        cmocka_unit_test(no_weights),
        cmocka_unit_test(one_precision),
        cmocka_unit_test(fixed_precision),
        cmocka_unit_test(scaled),
    };
    return cmocka_run_group_tests_name("prior", tests, NULL, NULL);
}

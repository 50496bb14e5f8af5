/* Differences of adapters and posteriors: against dense matrices (tests/reference/
 * diff_reference.py), networks drawn from a posterior, and as a command. */
#include "support/faults.h"
#include "support/tensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/draw.h"
#include "bayes/exact.h"
#include "bayes/factored.h"
#include "output/posterior_file.h"
#include "pipeline/diff.h"
#include "support/tiny_posterior.h"

/* ---- against the reference ---- */

static double *numbers(const json_t *list, la_pool *pool) {
    la_error err = {0};
    double *to = la_pool_take(pool, json_array_size(list), sizeof *to, &err);
    for (size_t i = 0; i < json_array_size(list); i++)
        to[i] = json_number_value(json_array_get(list, i));
    return to;
}

static float *floats(const json_t *list, la_pool *pool) {
    la_error err = {0};
    float *to = la_pool_take(pool, json_array_size(list), sizeof *to, &err);
    for (size_t i = 0; i < json_array_size(list); i++)
        to[i] = (float)json_number_value(json_array_get(list, i));
    return to;
}

static la_effect effect_of(const json_t *side, int64_t out, int64_t in, la_pool *pool) {
    const json_t *b = json_object_get(side, "b"), *a = json_object_get(side, "a");
    const json_t *e = json_object_get(side, "e");
    return (la_effect){.name = "m",
                       .out = out,
                       .in = in,
                       .rounding = 0x1p-24,
                       .product = {.module = "m",
                                   .out = out,
                                   .in = in,
                                   .rank = (int64_t)json_array_size(b) / out,
                                   .a = floats(a, pool),
                                   .b = floats(b, pool),
                                   .e = e ? floats(e, pool) : NULL,
                                   .scale = number_at(side, "scale"),
                                   .names = {"m.lora_A", "m.lora_B"}}};
}

static la_factor factor_of(const json_t *pairs, la_pool *pool) {
    int64_t n = (int64_t)json_array_size(json_object_get(pairs, "values"));
    return (la_factor){n, n, numbers(json_object_get(pairs, "values"), pool),
                       floats(json_object_get(pairs, "vectors"), pool)};
}

/* Kronecker factors of the blocks A and B, in the order in which files have them. */
static la_posterior posterior_of(const json_t *cases) {
    static const char *const names[] = {"m.lora_A", "m.lora_B"};
    const json_t *from = json_object_get(cases, "posterior");
    int64_t out = (int64_t)number_at(cases, "out"), in = (int64_t)number_at(cases, "in");
    int64_t rank = (int64_t)number_at(cases, "rank");
    la_error err = {0};
    la_posterior p = {.curvature = LA_CURVATURE_KRON, .n_blocks = 2, .n_inputs = 2};
    p.blocks = la_pool_take(&p.pool, 2, sizeof *p.blocks, &err);
    la_factor *inputs = la_pool_take(&p.pool, 2, sizeof *inputs, &err);
    la_factored_block *own = la_pool_take(&p.pool, 2, sizeof *own, &err);
    p.structure = inputs;
    for (int i = 0; i < 2; i++) {
        size_t at = (size_t)i;
        inputs[i] = factor_of(json_array_get(json_object_get(from, "inputs"), at), &p.pool);
        own[i].output = factor_of(json_array_get(json_object_get(from, "outputs"), at), &p.pool);
        p.blocks[i] = (la_posterior_block){
            .name = names[i],
            .out = i ? out : rank,
            .in = i ? rank : in,
            .input = i,
            .structure = &own[i],
            .denominator =
                json_number_value(json_array_get(json_object_get(from, "denominators"), at)),
            .prior_precision =
                json_number_value(json_array_get(json_object_get(from, "precisions"), at))};
    }
    return p;
}

static void test_reference(void **state) {
    (void)state;
    json_t *cases = load_json(fixture("diff/cases.json")), *each;
    la_posterior p = posterior_of(cases);
    int64_t out = (int64_t)number_at(cases, "out"), in = (int64_t)number_at(cases, "in");
    double worst = 0, worst_sd = 0, worst_far = 0;
    size_t i;
    json_array_foreach(json_object_get(cases, "cases"), i, each) {
        const char *name = json_string_value(json_object_get(each, "name"));
        la_effect a = effect_of(json_object_get(each, "a"), out, in, &p.pool);
        la_effect b = effect_of(json_object_get(each, "b"), out, in, &p.pool);
        la_block_change change;
        la_error err = {0};
        double sd, want = number_at(each, "distance"), norm = number_at(each, "norm_a");
        assert_int_equal(la_effect_compare(&a, &b, &change, &err), LA_OK);
        assert_int_equal(la_effect_in_sd(&p, &a, &b, &sd, &err), LA_OK);
        worst = fmax(worst, fabs(change.distance - want) / norm);
        worst = fmax(worst, relative(change.norm_a, norm, 1e-9));
        worst = fmax(worst, relative(change.norm_b, number_at(each, "norm_b"), 1e-9));
        if (change.change != (want < 1e-4 ? LA_CHANGE_NONE : LA_CHANGE_VALUE))
            fail_msg("%s: change %d at distance %g", name, (int)change.change, want);
        if (isnan(sd) != json_is_null(json_object_get(each, "in_sd")))
            fail_msg("%s: %g standard deviations", name, sd);
        if (isnan(sd))
            continue;
        /* far from a there are several minima, and the one that is found need not be the least */
        double gap = fabs(sd - number_at(each, "in_sd"));
        *(sd > 1 ? &worst_far : &worst_sd) = fmax(sd > 1 ? worst_far : worst_sd, gap);
    }
    assert_int_equal(i, 15);
    json_array_foreach(json_object_get(cases, "values"), i, each) {
        const json_t *values[2] = {json_object_get(each, "a"), json_object_get(each, "b")};
        la_effect sides[2];
        la_error err = {0};
        double sd;
        for (int s = 0; s < 2; s++)
            sides[s] = (la_effect){.name = json_string_value(json_object_get(each, "name")),
                                   .out = (int64_t)number_at(each, "out"),
                                   .in = (int64_t)number_at(each, "in"),
                                   .values = floats(values[s], &p.pool)};
        assert_int_equal(la_effect_in_sd(&p, &sides[0], &sides[1], &sd, &err), LA_OK);
        worst_sd = fmax(worst_sd, fabs(sd - number_at(each, "in_sd")));
    }
    assert_int_equal(i, 4);
    check_within("distance", worst, 1e-13);
    check_within("distance in standard deviations", worst_sd, 2e-6);
    check_within("far away", worst_far, 0.3);
    la_posterior_free(&p);
    json_decref(cases);
}

static void test_one_side(void **state) {
    (void)state;
    json_t *cases = load_json(fixture("diff/cases.json"));
    la_pool pool = {0};
    la_error err = {0};
    const json_t *side = at(cases, "cases/0/a");
    la_effect a = effect_of(side, 6, 7, &pool), wide = a;
    la_block_change change;
    assert_int_equal(la_effect_compare(&a, NULL, &change, &err), LA_OK);
    assert_int_equal(change.change, LA_CHANGE_REMOVED);
    assert_true(change.norm_b == 0 && change.relative == 1);
    assert_true(fabs(change.distance - number_at(cases, "cases/0/norm_a")) < 1e-12);
    assert_int_equal(la_effect_compare(NULL, &a, &change, &err), LA_OK);
    assert_int_equal(change.change, LA_CHANGE_ADDED);
    assert_true(change.norm_a == 0 && change.distance > 1);
    /* of another base */
    wide.in = wide.product.in = 6;
    assert_int_equal(la_effect_compare(&a, &wide, &change, &err), LA_OK);
    assert_int_equal(change.change, LA_CHANGE_VALUE);
    assert_true(isnan(change.distance) && change.norm_a > 1 && change.norm_b > 1);
    la_pool_free(&pool);
    json_decref(cases);
}

/* ---- the quadratic form of every structure, element by element ---- */

/* delta^T H delta by H's own definition, from the fields as a file has them */
static double by_definition(const la_posterior *p, int64_t number, const float *x) {
    const la_posterior_block *block = &p->blocks[number];
    int64_t out = block->out, in = block->in, n = out * in;
    double sum = 0, prior = 0, scale = p->noise_variance > 0 ? 1 / p->noise_variance : 1;
    for (int64_t k = 0; k < n; k++)
        prior += block->prior_precision * (double)x[k] * (double)x[k];
    if (la_structure_of(p->curvature)->joint) {
        const la_directions *d = la_exact_directions(p);
        int64_t first = number ? p->blocks[0].out * p->blocks[0].in : 0;
        for (int64_t v = 0; v < d->rank; v++) {
            double along = 0;
            for (int64_t k = 0; k < n; k++)
                along +=
                    (double)
                        d->vectors[v * d->width + first + (out <= in ? k : k % in * out + k / in)] *
                    (double)x[k];
            sum += d->values[v] * along * along;
        }
        return scale * sum + prior;
    }
    const la_factored_block *own = block->structure;
    la_factor whole_out = {.n = out, .rank = out}, whole_in = {.n = in, .rank = in};
    const la_factor *f = p->n_inputs ? &own->output : &whole_out;
    const la_factor *g = p->n_inputs ? &la_factored_inputs(p)[block->input] : &whole_in;
    for (int64_t o = 0; o < f->rank; o++)
        for (int64_t i = 0; i < g->rank; i++) {
            double along = 0, h;
            for (int64_t k = 0; k < n; k++) {
                double u = f->vectors ? (double)f->vectors[o * out + k / in] : k / in == o;
                double v = g->vectors ? (double)g->vectors[i * in + k % in] : k % in == i;
                along += u * v * (double)x[k];
            }
            if (own->spectrum)
                h = (double)own->spectrum[out <= in ? o * own->cols + i : i * own->cols + o];
            else
                h = f->values[o] * g->values[i] / block->denominator;
            sum += h * along * along;
        }
    return scale * sum + prior;
}

static void test_quadratic(void **state) {
    (void)state;
    double worst = 0;
    int n_checked = 0;
    for (int kind = 0; kind < TINY_KINDS; kind++) {
        la_posterior p = tiny_posterior(kind);
        la_error err = {0};
        for (int64_t b = 0; b < p.n_blocks; b++) {
            float x[256];
            int64_t n = p.blocks[b].out * p.blocks[b].in;
            double sum;
            assert_true(n <= 256);
            for (int64_t k = 0; k < n; k++)
                x[k] = (float)sin((double)(3 * k + b));
            assert_int_equal(la_structure_of(p.curvature)->quadratic(&p, b, x, &sum, &err), LA_OK);
            worst = fmax(worst, relative(sum, by_definition(&p, b, x), 1e-9));
            n_checked++;
        }
        la_posterior_free(&p);
    }
    assert_int_equal(n_checked, 35);
    check_within("quadratic form", worst, 2e-6);
}

/* ---- the command ---- */

static char folder[512];

/* The adapter as another folder, which change makes another one. */
static char *copy_adapter(const char *name) {
    copy_folder(in_case(folder, "adapter"), in_case(folder, name));
    return in_case(folder, name);
}

static void set_config(const char *name, const char *key, const char *value) {
    char file[256];
    snprintf(file, sizeof file, "%s/adapter_config.json", name);
    set_key(&(fault){.file = file, .a = key, .b = value}, folder);
}

static tensor_file open_weights(const char *name) {
    char file[256];
    snprintf(file, sizeof file, "%s/adapter_model.safetensors", name);
    return tensors_read(in_case(folder, file));
}

static void close_weights(tensor_file *tensors, const char *name) {
    char file[256];
    snprintf(file, sizeof file, "%s/adapter_model.safetensors", name);
    tensors_write(tensors, in_case(folder, file));
    tensors_free(tensors);
}

static bool ends_with(const char *text, const char *ending) {
    size_t n = strlen(text), k = strlen(ending);
    return n >= k && !strcmp(text + n - k, ending);
}

/* Output and exit code of a diff, whose JSON the caller gives back. */
static json_t *diff_of(const char *line, int code) {
    command done = run_line(folder, line, NULL);
    json_t *root = json_loads(done.out, 0, NULL);
    if (done.code != code || !root)
        fail_msg("%s: exit code %d: %s%s", line, done.code, done.out, done.err);
    command_free(&done);
    return root;
}

static int count_changes(const json_t *root, const char *change) {
    size_t i;
    json_t *block;
    int n = 0;
    json_array_foreach(json_object_get(root, "blocks"), i, block) n +=
        !strcmp(json_string_value(json_object_get(block, "change")), change);
    return n;
}

/* A differs from the adapter in how it is stored, and in nothing that it does. */
static void expect_same(const char *name) {
    char line[256];
    snprintf(line, sizeof line, "diff @/adapter @/%s --json --exit-code", name);
    json_t *root = diff_of(line, 0);
    assert_true(json_is_true(json_object_get(root, "same")));
    assert_int_equal(count_changes(root, "same"), 7);
    json_decref(root);
}

static void test_same(void **state) {
    (void)state;
    tensor_file t;
    expect_same("adapter");

    copy_adapter("scaled"); /* twice B at half alpha */
    char alpha[32], root_alpha[32];
    json_t *config = load_json(in_case(folder, "adapter/adapter_config.json"));
    double a = number_at(config, "lora_alpha"), r = number_at(config, "r");
    json_decref(config);
    snprintf(alpha, sizeof alpha, "%.9g", a / 2);
    snprintf(root_alpha, sizeof root_alpha, "%.17g", a / sqrt(r));
    set_config("scaled", "lora_alpha", alpha);
    t = open_weights("scaled");
    for (size_t i = 0; i < t.n; i++)
        if (ends_with(t.tensors[i].name, "lora_B.weight"))
            for (size_t k = 0; k < t.tensors[i].length / 4; k++)
                ((float *)(void *)t.tensors[i].data)[k] *= 2;
    close_weights(&t, "scaled");
    expect_same("scaled");

    copy_adapter("rooted"); /* rsLoRA */
    set_config("rooted", "use_rslora", "true");
    set_config("rooted", "lora_alpha", root_alpha);
    expect_same("rooted");

    copy_adapter("turned"); /* rows of A and columns of B the other way round, with their signs */
    t = open_weights("turned");
    for (size_t i = 0; i < t.n; i++) {
        bool is_a = ends_with(t.tensors[i].name, "lora_A.weight");
        if (!is_a && !ends_with(t.tensors[i].name, "lora_B.weight"))
            continue;
        float *x = (float *)(void *)t.tensors[i].data;
        size_t n = t.tensors[i].length / 4, rank = (size_t)r, cols = is_a ? n / rank : rank;
        float *old = malloc(n * sizeof *old);
        memcpy(old, x, n * sizeof *old);
        for (size_t k = 0; k < n; k++) {
            size_t row = k / cols, col = k % cols;
            x[k] = -old[is_a ? (rank - 1 - row) * cols + col : row * cols + rank - 1 - col];
        }
        free(old);
    }
    close_weights(&t, "turned");
    expect_same("turned");
}

static void test_blocks(void **state) {
    (void)state;
    copy_adapter("less");
    tensor_file t = open_weights("less");
    tensors_drop(&t, "layer.1.attention.self.query.lora_A.weight");
    tensors_drop(&t, "layer.1.attention.self.query.lora_B.weight");
    ((float *)(void *)tensors_find(&t, "classifier.weight")->data)[3] += 0.5F;
    close_weights(&t, "less");
    json_t *root = diff_of("diff @/adapter @/less --json --exit-code", 1), *block;
    size_t i;
    assert_int_equal(count_changes(root, "removed"), 1);
    assert_int_equal(count_changes(root, "changed"), 1);
    assert_int_equal(count_changes(root, "same"), 5);
    json_array_foreach(json_object_get(root, "blocks"), i, block) {
        const char *name = json_string_value(json_object_get(block, "name"));
        if (!strcmp(name, "classifier"))
            assert_true(fabs(number_at(block, "distance") - 0.5) < 1e-6);
        if (!strcmp(name, "bert.encoder.layer.1.attention.self.query"))
            assert_true(number_at(block, "distance") == number_at(block, "norm_a"));
        assert_true(json_is_null(json_object_get(block, "distance_in_sd")));
    }
    json_decref(root);
    root = diff_of("diff @/less @/adapter --json", 0);
    assert_int_equal(count_changes(root, "added"), 1);
    json_decref(root);
}

static void test_options(void **state) {
    (void)state;
    copy_adapter("optioned");
    set_config("optioned", "lora_dropout", "0.25");
    set_config("optioned", "target_modules", "[\"query\",\"value\",\"value\"]");
    json_t *root = diff_of("diff @/adapter @/optioned --json --exit-code", 0);
    assert_int_equal(json_array_size(json_object_get(root, "options")), 1);
    assert_string_equal(json_string_value(at(root, "options/0/name")), "lora_dropout");
    assert_true(number_at(root, "options/0/b") == 0.25);
    json_decref(root);
    set_config("optioned", "task_type", "\"TOKEN_CLS\"");
    root = diff_of("diff @/adapter @/optioned --json --exit-code", 1);
    assert_true(json_is_false(json_object_get(root, "same")));
    json_decref(root);
}

static void test_posteriors(void **state) {
    (void)state;
    command done = run_line(folder,
                            "fit --base @/base --adapter @/adapter --data @/test.jsonl --out "
                            "@/other --quiet",
                            NULL);
    assert_int_equal(done.code, 0);
    command_free(&done);
    rename(in_case(folder, "posterior"), in_case(folder, "p.h5"));
    rename(in_case(folder, "other"), in_case(folder, "q.h5"));
    json_t *root = diff_of("diff @/p.h5 @/p.h5 --json --exit-code", 0), *block;
    json_decref(root);
    /* the same adapter, other rows */
    root = diff_of("diff @/p.h5 @/q.h5 --json --exit-code", 1);
    assert_string_equal(json_string_value(json_object_get(root, "kind")), "posterior");
    assert_int_equal(count_changes(root, "same"), 7);
    json_decref(root);
    /* the precisions of its prior among them; what a field is stands beside its name */
    done = run_line(folder, "diff @/p.h5 @/q.h5", NULL);
    assert_non_null(strstr(done.out, "\n  n_rows (calibration rows)  24  "));
    assert_non_null(strstr(done.out, "\n  prior_precisions  "));
    assert_non_null(strstr(done.out, ", mean "));
    command_free(&done);
    /* another adapter */
    copy_adapter("moved");
    tensor_file t = open_weights("moved");
    for (size_t i = 0; i < t.n; i++)
        if (ends_with(t.tensors[i].name, "layer.0.attention.self.query.lora_B.weight"))
            ((float *)(void *)t.tensors[i].data)[0] += 0.25F;
    close_weights(&t, "moved");
    done = run_line(folder,
                    "fit --base @/base --adapter @/moved --data @/calib.jsonl --out @/r.h5 --quiet",
                    NULL);
    assert_int_equal(done.code, 0);
    command_free(&done);
    root = diff_of("diff @/p.h5 @/r.h5 --json --exit-code", 1);
    size_t i;
    assert_int_equal(count_changes(root, "changed"), 1);
    json_array_foreach(json_object_get(root, "blocks"), i, block) {
        const json_t *sd = json_object_get(block, "distance_in_sd");
        bool changed = !strcmp(json_string_value(json_object_get(block, "change")), "changed");
        if (strcmp(json_string_value(json_object_get(block, "name")), "classifier"))
            assert_true(changed ? json_number_value(sd) > 1e-4 && json_number_value(sd) < 1
                                : json_number_value(sd) == 0);
    }
    json_decref(root);
    /* where the adapters are gone, the posteriors' own blocks are left */
    rename(in_case(folder, "adapter"), in_case(folder, "gone"));
    root = diff_of("diff @/p.h5 @/r.h5 --json --quiet", 0);
    assert_int_equal(count_changes(root, "changed"), 1);
    assert_int_equal(count_changes(root, "same"), 11);
    json_decref(root);
    rename(in_case(folder, "gone"), in_case(folder, "adapter"));
}

/* The parameters of a block in an adapter; NULL: it is of none of its products. */
static const float **factor_at(la_effects *effects, const char *name) {
    for (int64_t i = 0; i < effects->n; i++)
        for (int f = 0; f < 2; f++)
            if (effects->list[i].product.module && !strcmp(effects->list[i].product.names[f], name))
                return f ? &effects->list[i].product.b : &effects->list[i].product.a;
    return NULL;
}

/* Prefixes drawn from their posterior lie one standard deviation away: their tensor [tokens, keys
 * and values of each layer] holds each block turned. */
static void test_drawn_prefixes(void **state) {
    (void)state;
    enum { DRAWS = 20 };
    la_posterior p;
    la_effects own, moved;
    la_draw *draw;
    la_error err = {0};
    double sum = 0, sd;
    char line[2048], adapter[1024];
    const char *from = fixture("parity/prefix-tuning-bert");
    snprintf(adapter, sizeof adapter, "%s/adapter", from);
    snprintf(line, sizeof line,
             "fit --base %s/base --adapter %s --data %s/calib.jsonl --out @/prefix.h5 --quiet",
             from, adapter, from);
    command done = run_line(folder, line, NULL);
    assert_int_equal(done.code, 0);
    command_free(&done);
    assert_int_equal(la_posterior_load(in_case(folder, "prefix.h5"), &p, &err), LA_OK);
    assert_int_equal(la_effects_read(adapter, NULL, NULL, &own, &err), LA_OK);
    assert_int_equal(la_effects_read(adapter, NULL, NULL, &moved, &err), LA_OK);
    assert_int_equal(p.n_blocks, 4);
    /* far apart: columns of one block in place of another's would show */
    for (int64_t b = 0; b < 4; b++)
        p.blocks[b].prior_precision = pow(100, (double)b);
    assert_int_equal(la_draw_open(la_team_of(1), &p, 7, &draw, &err), LA_OK);
    int64_t at = own.n - 1, tokens = own.list[at].out, width = own.list[at].in;
    assert_string_equal(own.list[at].name, "prompt_embeddings");
    float *map = calloc((size_t)draw->width, sizeof *map), *theta = malloc((size_t)draw->width * 4);
    float *values = malloc((size_t)(tokens * width) * sizeof *values);
    for (int64_t k = 0; k < DRAWS; k++) {
        la_draw_network(draw, k, map, theta);
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t c = 0; c < width; c++)
                values[t * width + c] = own.list[at].values[t * width + c] + theta[c * tokens + t];
        moved.list[at].values = values;
        assert_int_equal(la_effect_in_sd(&p, &own.list[at], &moved.list[at], &sd, &err), LA_OK);
        sum += sd / DRAWS;
    }
    check_within("mean distance of drawn prefixes, from 1", fabs(sum - 1), 0.03);
    free(map);
    free(theta);
    free(values);
    la_draw_close(draw);
    la_effects_close(&own);
    la_effects_close(&moved);
    la_posterior_free(&p);
}

/* Networks drawn from a posterior lie one standard deviation away; less by what the nearest basis
 * takes off, which is r^2 of n parameters, a sixteenth here. */
static void test_draws(void **state) {
    (void)state;
    enum { DRAWS = 8 };
    la_posterior p;
    la_effects own, moved;
    la_draw *draw;
    la_error err = {0};
    double sum = 0, worst = 0;
    int n = 0;
    assert_int_equal(la_posterior_load(in_case(folder, "p.h5"), &p, &err), LA_OK);
    assert_int_equal(la_effects_read(in_case(folder, "adapter"), NULL, NULL, &own, &err), LA_OK);
    assert_int_equal(la_effects_read(in_case(folder, "adapter"), NULL, NULL, &moved, &err), LA_OK);
    assert_int_equal(la_draw_open(la_team_of(1), &p, 7, &draw, &err), LA_OK);
    float *map = calloc((size_t)draw->width, sizeof *map), *theta = malloc((size_t)draw->width * 4);
    for (int64_t b = 0; b < p.n_blocks; b++)
        memcpy(map + draw->offset[b], *factor_at(&own, p.blocks[b].name),
               (size_t)(p.blocks[b].out * p.blocks[b].in) * sizeof *map);
    for (int64_t k = 0; k < DRAWS; k++) {
        la_draw_network(draw, k, map, theta);
        for (int64_t b = 0; b < p.n_blocks; b++)
            *factor_at(&moved, p.blocks[b].name) = theta + draw->offset[b];
        for (int64_t i = 0; i < own.n; i++) {
            double sd;
            if (!own.list[i].product.module)
                continue;
            assert_int_equal(la_effect_in_sd(&p, &own.list[i], &moved.list[i], &sd, &err), LA_OK);
            sum += sd;
            worst = fmax(worst, fabs(sd - 1));
            n++;
        }
    }
    assert_int_equal(n, 6 * DRAWS);
    check_within("mean distance of drawn networks, from 0.97", fabs(sum / n - 0.97), 0.03);
    check_within("of one", worst, 0.25);
    free(map);
    free(theta);
    la_draw_close(draw);
    la_effects_close(&own);
    la_effects_close(&moved);
    la_posterior_free(&p);
}

static void write_text(const char *name, const char *text) {
    write_file(in_case(folder, name), text, strlen(text));
}

#define ROW(index, label, prediction, confidence)                                                  \
    "{\"index\":" #index ",\"label\":" #label ",\"prediction\":" #prediction                       \
    ",\"prediction_label\":\"c" #prediction "\",\"confidence\":" #confidence "}\n"

static void test_answers(void **state) {
    (void)state;
    write_text("pa", ROW(0, 1, 1, 0.5) ROW(1, 0, 1, 0.75) ROW(2, 2, 0, 0.5) ROW(3, 0, 0, 1));
    write_text("pb", ROW(3, 0, 0, 1) ROW(0, 1, 0, 0.25) ROW(1, 0, 0, 0.5) ROW(2, 2, 1, 0.5));
    json_t *root =
        diff_of("diff @/adapter @/adapter --predictions @/pa @/pb --json --exit-code", 1);
    const json_t *p = json_object_get(root, "predictions");
    assert_int_equal(number_at(p, "n"), 4);
    assert_int_equal(number_at(p, "flips"), 3);
    assert_int_equal(number_at(p, "right_to_wrong"), 1);
    assert_int_equal(number_at(p, "wrong_to_right"), 1);
    assert_true(number_at(p, "mean_confidence_change") == -0.125);
    assert_int_equal(json_array_size(json_object_get(p, "rows")), 3);
    assert_int_equal(number_at(p, "rows/0/from"), 1);
    assert_string_equal(json_string_value(at(p, "rows/2/to_label")), "c1");
    json_decref(root);
    /* the order of a table, ids in place of indices, no labels */
    write_text("ia.csv", "index,id,prediction,confidence\n0,x,1,0.5\n1,y,0,0.5\n");
    write_text("ib", "{\"id\":\"y\",\"prediction\":0,\"confidence\":1}\n"
                     "{\"id\":\"x\",\"prediction\":1,\"confidence\":1}\n");
    root = diff_of("diff @/adapter @/adapter --predictions @/ia.csv @/ib --json --exit-code", 0);
    p = json_object_get(root, "predictions");
    assert_int_equal(number_at(p, "flips"), 0);
    assert_true(json_is_null(json_object_get(p, "right_to_wrong")));
    assert_true(number_at(p, "mean_confidence_change") == 0.5);
    json_decref(root);
}

static void test_formats(void **state) {
    (void)state;
    copy_adapter("shown");
    set_config("shown", "lora_dropout", "\"a|b\\u001b\"");
    write_text("fa", ROW(0, 1, 1, 0.5));
    write_text("fb", ROW(0, 1, 0, 0.5));
    for (int markdown = 0; markdown < 2; markdown++) {
        command done = run_line(folder,
                                markdown ? "diff @/adapter @/shown --predictions @/fa @/fb "
                                           "--format markdown"
                                         : "diff @/adapter @/shown --predictions @/fa @/fb",
                                NULL);
        assert_int_equal(done.code, 0);
        assert_non_null(strstr(done.out, "7 blocks the same; 1 options differ"));
        assert_non_null(strstr(done.out, "1 answers flip (1 right to wrong, 0 wrong to right)"));
        assert_null(strchr(done.out, '\x1b'));
        assert_int_equal(strstr(done.out, "a|b") == NULL, markdown);
        command_free(&done);
    }
}

#define ONE ROW(0, 1, 1, 0.5)
#define TWICE ONE ONE

#define ANSWERS "diff @/adapter @/adapter --predictions "
#define SAYS(...) .pieces = {__VA_ARGS__}
#define FAULT(title, expected, line, ...)                                                          \
    { .name = title, .code = expected, .command = line, __VA_ARGS__ }
#define WEIGHTS .file = "adapter/adapter_model.safetensors"
#define ROWS(text) .damage = put_file, .file = "pa", .a = text
#define SELF "diff @/adapter @/adapter"

static const fault faults[] = {
    FAULT("no adapter", 3, "diff @/adapter @/nothing", SAYS("/nothing", "No such file")),
    FAULT("no posterior", 3, "diff @/nothing.h5 @/nothing.h5", SAYS("nothing.h5")),
    FAULT("two kinds", 2, "diff @/adapter @/posterior",
          SAYS("adapter is an adapter", "is a posterior", "two adapters or two posteriors")),
    FAULT("one operand", 2, "diff @/adapter", SAYS("diff takes two")),
    FAULT("a base", 3, "diff @/adapter @/base", SAYS("whole model")),
    FAULT("one prediction file", 2, ANSWERS "@/test.jsonl", SAYS("--predictions needs a value")),
    FAULT("NaN", 6, SELF, SAYS("lora_A"), WEIGHTS, .damage = poison_tensor, .a = "lora_A.weight",
          .b = "nan"),
    FAULT("a factor alone", 3, SELF, SAYS("lora_A.weight for it"), WEIGHTS, .damage = drop_tensor,
          .a = "lora_A.weight"),
    FAULT("another rank", 3, SELF, SAYS("rank"), .damage = set_key,
          .file = "adapter/adapter_config.json", .a = "r", .b = "3"),
    FAULT("weights cut", 3, SELF, SAYS("adapter_model.safetensors"), WEIGHTS, .damage = cut_file,
          .a = "-7"),
    FAULT("posterior cut", 3, "diff @/posterior @/posterior", SAYS("/posterior"),
          .damage = cut_file, .file = "posterior", .a = "-7"),
    FAULT("no predictions", 3, ANSWERS "@/pa @/pa", SAYS("/pa", "No such file")),
    FAULT("empty predictions", 3, ANSWERS "@/pa @/pa", SAYS("is empty"), ROWS("")),
    FAULT("a row twice", 3, ANSWERS "@/pa @/pa", SAYS("pa:2: has the index 0 of line 1"),
          ROWS(TWICE)),
    FAULT("half a line", 3, ANSWERS "@/pa @/pa", SAYS("pa:1"), ROWS("{\"index\":0,\"pre")),
    FAULT("data", 3, ANSWERS "@/calib.jsonl @/calib.jsonl", SAYS("calib.jsonl:1", "prediction")),
    FAULT("tokens", 3, ANSWERS "@/pa @/pa", SAYS("--flat"), ROWS("{\"index\":0,\"tokens\":[]}\n")),
    FAULT("a number", 3, ANSWERS "@/pa @/pa", SAYS("regression"),
          ROWS("{\"index\":0,\"prediction\":0.5,\"std\":1}\n")),
    FAULT("out is the predictions", 2, ANSWERS "@/pa @/pa --out @/pa", SAYS("--predictions"),
          ROWS(ONE)),
};

static void test_faults(void **state) {
    (void)state;
    assert_int_equal(run_faults("diff", faults, sizeof faults / sizeof *faults), 0);
}

static void test_other_rows(void **state) {
    (void)state;
    write_text("ra", ONE);
    write_text("rb", ROW(7, 1, 1, 0.5));
    static const char *const pieces[] = {"ra:1", "index 0", "not in"};
    command done = run_line(folder, ANSWERS "@/ra @/rb", NULL);
    check_message(&done, 3, pieces, 3);
    command_free(&done);
}

static int prepare(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "%s", open_case("bert"));
    fit_case(folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),     cmocka_unit_test(test_one_side),
        cmocka_unit_test(test_quadratic),     cmocka_unit_test(test_same),
        cmocka_unit_test(test_blocks),        cmocka_unit_test(test_options),
        cmocka_unit_test(test_posteriors),    cmocka_unit_test(test_draws),
        cmocka_unit_test(test_answers),       cmocka_unit_test(test_formats),
        cmocka_unit_test(test_other_rows),    cmocka_unit_test(test_faults),
        cmocka_unit_test(test_drawn_prefixes)};
    return cmocka_run_group_tests_name("diff", tests, prepare, NULL);
}

/* A plain base packed while it is opened (--base-quant) against the base that bitsandbytes made of
 * it, and against itself: what the posterior keeps, several devices, the memory it takes. */
#include "pipeline/session.h"
#include "support/parity.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The case NAME, its base in the folder `base` of the case FROM. */
static parity_case open_with(const char *name, const char *from, const char *base) {
    parity_case s = parity_open(name);
    char path[128];
    snprintf(path, sizeof path, "parity/%s/%s", from, base);
    snprintf(s.base, sizeof s.base, "%s", fixture(path));
    return s;
}

/* Fits and predicts; quant NULL: as it is stored. Free the answers. */
static parity_answers *answer(const parity_case *s, const char *quant, const char *later,
                              double *evidence) {
    la_fit_options fit = {.run = {.device = "cpu", .base_quant = quant}, .prior = LA_PRIOR_GLOBAL};
    la_predict_options predict = {.run = {.device = "cpu", .base_quant = later}, .samples = 0};
    la_fit_summary *summary = parity_fit(s, fit);
    parity_answers *answers = parity_new_answers();
    parity_inputs in = parity_read_inputs(s->test);
    *evidence = summary->log_marginal_likelihood;
    parity_predict(s, predict, &in, answers);
    la_fit_summary_free(summary);
    parity_free_inputs(&in);
    return answers;
}

static double largest_gap(const parity_answers *a, const parity_answers *b, int64_t classes) {
    double worst = 0;
    for (int i = 0; i < 10; i++)
        for (int64_t c = 0; c < classes; c++)
            parity_raise(&worst, fabs(a->rows[i].logits[c] - b->rows[i].logits[c]));
    return worst;
}

/* most: of the logits' difference; 0: the very same bits. */
static void check_same(const char *name, const char *plain_of, const char *quant, int64_t classes,
                       double most) {
    parity_case stored = parity_open(name), plain = open_with(name, plain_of, "plain");
    double evidence[3];
    parity_answers *want = answer(&stored, NULL, NULL, &evidence[0]);
    parity_answers *got = answer(&plain, quant, NULL, &evidence[1]);
    parity_answers *again = answer(&plain, quant, quant, &evidence[1]);
    parity_answers *unpacked = answer(&plain, NULL, NULL, &evidence[2]);
    check_within("logits", largest_gap(want, got, classes), most);
    check_within("evidence", relative(evidence[1], evidence[0], 1), most);
    assert_true(largest_gap(got, again, classes) == 0);
    /* packing changes the model by far more */
    assert_true(largest_gap(want, unpacked, classes) > 1e-3);
    free(want);
    free(got);
    free(again);
    free(unpacked);
    parity_close(&stored);
    parity_close(&plain);
}

static void nf4_double(void **state) {
    (void)state;
    check_same("llama-nf4", "llama-nf4", "nf4-double", 4, 4e-6);
}

static void int8(void **state) {
    (void)state;
    check_same("llama-int8", "llama-nf4", "int8", 4, 0);
}

static void fp4(void **state) {
    (void)state;
    check_same("bert-fp4", "bert-fp4", "fp4", 3, 0);
}

/* Every kind packs otherwise: five digests, and that of the base as it is. */
static void digests(void **state) {
    (void)state;
    parity_case s = open_with("llama-nf4", "llama-nf4", "plain");
    static const char *const kinds[] = {NULL, "nf4", "nf4-double", "fp4", "fp4-double", "int8"};
    enum { KINDS = sizeof kinds / sizeof *kinds };
    char seen[KINDS + 1][LA_DIGEST_TEXT];
    int32_t ids[] = {41, 7, 93, 20};
    for (int i = 0; i <= KINDS; i++) {
        la_session session;
        la_error err = {0};
        la_session_options options = {
            .run = {.device = "cpu", .base_quant = i < KINDS ? kinds[i] : "none"},
            .base = s.base,
            .adapter = s.adapter,
            .choice_ids = ids,
            .n_choices = 4,
            .forward_only = true};
        if (la_session_open(&options, &session, &err) != LA_OK)
            fail_msg("%s", err.message);
        strcpy(seen[i], session.workers[0].model.base_digest);
        for (int j = 0; j < i; j++)
            assert_true(!strcmp(seen[i], seen[j]) == (i == KINDS && j == 0));
        la_session_close(&session);
    }
    parity_close(&s);
}

/* Half a byte a weight and a scale for 64 of them: 4.5 bits; a byte and a scale a row for int8. */
static void memory(void **state) {
    (void)state;
    static const struct {
        const char *kind;
        double least, most;
    } kinds[] = {{"nf4", 0.5625, 0.5625}, {"fp4-double", 0.5625, 0.5625}, {"int8", 1, 1.07}};
    parity_case s = open_with("llama-nf4", "llama-nf4", "plain");
    int32_t ids[] = {41, 7, 93, 20};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t bytes[2];
        int64_t weights = 0;
        for (int packed = 0; packed < 2; packed++) {
            la_session session;
            la_error err = {0};
            la_session_options options = {
                .run = {.device = "cpu", .base_quant = packed ? kinds[i].kind : NULL},
                .base = s.base,
                .adapter = s.adapter,
                .choice_ids = ids,
                .n_choices = 4,
                .forward_only = true};
            if (la_session_open(&options, &session, &err) != LA_OK)
                fail_msg("%s", err.message);
            const la_model *model = &session.workers[0].model;
            bytes[packed] = model->weight_bytes;
            weights = 0;
            for (int64_t l = 0; l < model->config.layers; l++)
                for (int slot = 0; slot < LA_SLOTS; slot++) {
                    const la_mat *w = &model->layers[l].linear[slot].w;
                    if (!w->data)
                        continue;
                    weights += w->rows * w->cols;
                    assert_int_equal(w->type, packed ? LA_CODES : LA_BF16);
                }
            la_session_close(&session);
        }
        double a_weight =
            ((double)bytes[1] - ((double)bytes[0] - 2 * (double)weights)) / (double)weights;
        printf("    %s: %.4f bytes a weight\n", kinds[i].kind, a_weight);
        assert_true(a_weight >= kinds[i].least && a_weight <= kinds[i].most);
    }
    parity_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(nf4_double), cmocka_unit_test(int8),
                                       cmocka_unit_test(fp4), cmocka_unit_test(digests),
                                       cmocka_unit_test(memory)};
    return cmocka_run_group_tests_name("bases packed when they are opened", tests, NULL, NULL);
}

/* Class corrections in a choice, what keeps all answers, and choices by few rows. */
#include "likelihood/answer.h"
#include "likelihood/selection.h"
#include "support/held_rows.h"
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static la_choice choose(const held *h) {
    la_choice choice;
    la_error err = {0};
    if (la_select_class(la_team_of(2), &h->rows, &choice, &err) != LA_OK)
        fail_msg("%s", err.message);
    return choice;
}

/* Rows of softmax(weight f / T + bias): the average has the corrections, which answer as
 * la_answer_rows does, and its likelihood is what their evidence says. */
static void check_found(const double *weight) {
    static const double bias[3] = {1.5, -0.5, -1};
    double worst = 0, off = 0;
    for (uint64_t seed = 0; seed < 4; seed++) {
        held h = held_make(200, 3, 3, 1200 + seed, 2, 0.3, 1);
        for (int64_t i = 0; i < 200; i++) { /* of which weights and bias make the ones to draw by */
            float *f = h.logits + 3 * i, mean = (f[0] + f[1] + f[2]) / 3;
            for (int64_t k = 0; k < 3; k++)
                f[k] -= mean;
        }
        for (int64_t i = 0; i < 600; i++)
            h.logits[i] = (float)weight[i % 3] * h.logits[i] + (float)bias[i % 3];
        held_draw_labels(&h, seed, 0, 1);
        for (int64_t i = 0; i < 600; i++)
            h.logits[i] = (h.logits[i] - (float)bias[i % 3]) / (float)weight[i % 3];
        la_choice choice = choose(&h);
        bool any = false;
        for (int64_t k = 0; k < choice.n_corrections; k++)
            any |= la_correction_weight(&choice.corrections[k]) != NULL;
        assert_true(any || weight[0] == 1);
        const la_candidate *own = &choice.candidates[LA_METHOD_AVERAGE];
        assert_int_equal(choice.method, LA_METHOD_AVERAGE);
        assert_true(choice.n_corrections >= 1 && choice.n_corrections <= LA_CORRECTIONS_MOST);
        assert_true(own->nll < choice.candidates[LA_METHOD_TEMPERATURE].nll - 0.05);
        assert_true(own->accuracy > choice.candidates[LA_METHOD_MAP].accuracy);
        double log_odds[3];
        la_choice_log_odds(&choice, 3, log_odds);
        for (int k = 0; k < 3; k++)
            off = fmax(off, fabs(log_odds[k] - bias[k]) * (weight[0] == 1));
        /* what the list answers */
        la_recipe recipes[LA_SETTINGS_MOST];
        int64_t n = la_choice_recipes(&la_softmax_likelihood, &choice, choice.method, recipes);
        double probs[600];
        la_prediction out[200];
        la_error err = {0};
        la_output_rows rows = {.n = 200,
                               .n_outputs = 3,
                               .n_scales = h.rows.n_scales,
                               .outputs = h.logits,
                               .scales = h.scales,
                               .cov = h.cov,
                               .streams = h.streams};
        la_draw_options draws = {.samples = 2000};
        memset(out, 0, sizeof out);
        for (int64_t i = 0; i < 200; i++)
            out[i].probs = probs + 3 * i;
        assert_int_equal(la_answer_rows(&la_softmax_likelihood, recipes, n, &rows, &draws,
                                        la_team_of(2), out, &err),
                         LA_OK);
        int64_t right = 0, changed = 0, to_right = 0, to_wrong = 0;
        double nll = 0;
        for (int64_t i = 0; i < 200; i++) {
            int64_t top = 0, label = h.labels[i];
            for (int64_t k = 1; k < 3; k++)
                top = h.logits[3 * i + k] > h.logits[3 * i + top] ? k : top;
            right += out[i].prediction == label;
            changed += out[i].prediction != top;
            to_right += out[i].prediction == label && top != label;
            to_wrong += out[i].prediction != label && top == label;
            nll -= log(probs[3 * i + label]) / 200;
        }
        /* other draws may tip a row */
        assert_true(fabs((double)right / 200 - own->accuracy) < 0.0051);
        assert_true(llabs(changed - choice.changes.n) <= 1 &&
                    llabs(to_right - choice.changes.to_right) <= 1 &&
                    llabs(to_wrong - choice.changes.to_wrong) <= 1);
        assert_true(choice.changes.to_right > choice.changes.to_wrong);
        /* the list's own rows, where the left-out one is a little worse */
        assert_true(nll < own->nll);
        worst = fmax(worst, own->nll - nll);
        double gap = choice.candidates[LA_METHOD_MAP].nll - own->nll;
        assert_true(fabs(choice.gain - gap) < 1e-12 && choice.gain_error > 0);
        assert_true(la_choice_surety(&choice) > 0.9 && la_choice_surety(&choice) <= 1);
        held_drop(&h);
    }
    check_within("log odds of the bias", off, 0.8);
    check_within("left-out likelihood against that of the rows", worst, 0.03);
}

static void biases_are_found(void **state) {
    static const double none[3] = {1, 1, 1};
    (void)state;
    check_found(none);
}

static void weights_are_found(void **state) {
    static const double weight[3] = {2.5, 0.4, 0.4};
    (void)state;
    check_found(weight);
}

/* Whatever the rows: under keep_answers no row gets another answer, ties and near ties too. */
static void answers_are_kept(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 6; seed++) {
        int64_t c = 2 + (int64_t)(seed % 4), n = 80;
        held h = held_make(n, c, 3, 1300 + seed, 1, 2, 2);
        held_draw_labels(&h, seed, 1, 1.5);
        for (int64_t i = 0; i < n; i++) /* half of the rows are of one class */
            h.labels[i] = i % 2 ? 0 : h.labels[i];
        h.rows.keep_answers = true;
        la_choice choice = choose(&h);
        assert_true(!choice.n_corrections && !choice.changes.n);
        assert_true(isnan(choice.candidates[LA_METHOD_LAPLACE].nll) &&
                    isnan(choice.candidates[LA_METHOD_TEMPERED].nll));
        for (int64_t s = 0; s < choice.n_settings; s++)
            assert_true(choice.settings[s].method != LA_METHOD_LAPLACE &&
                        !choice.settings[s].correction);
        /* rows nobody has seen, whose best two outputs are neighbours in f32 */
        held other = held_make(n, c, 3, 1400 + seed, 1, 3, 2);
        for (int64_t i = 0; i < n; i++) {
            int64_t top = 0, next = (i + 1) % c;
            for (int64_t k = 1; k < c; k++)
                top = other.logits[i * c + k] > other.logits[i * c + top] ? k : top;
            if (next != top)
                other.logits[i * c + next] = nextafterf(other.logits[i * c + top], -INFINITY);
        }
        la_recipe recipes[LA_SETTINGS_MOST];
        int64_t count = la_choice_recipes(&la_softmax_likelihood, &choice, choice.method, recipes);
        la_prediction out[80] = {{0}};
        la_error err = {0};
        la_output_rows rows = {.n = n,
                               .n_outputs = c,
                               .n_scales = 3,
                               .outputs = other.logits,
                               .scales = other.scales,
                               .cov = other.cov,
                               .streams = other.streams};
        la_draw_options draws = {.samples = 50, .spread = true};
        assert_int_equal(la_answer_rows(&la_softmax_likelihood, recipes, count, &rows, &draws,
                                        la_team_of(2), out, &err),
                         LA_OK);
        for (int64_t i = 0; i < n; i++) {
            int64_t top = 0;
            for (int64_t k = 1; k < c; k++)
                top = other.logits[i * c + k] > other.logits[i * c + top] ? k : top;
            assert_int_equal(out[i].prediction, top);
        }
        held_drop(&h);
        held_drop(&other);
    }
}

/* Few rows of a model that is right: what is chosen is never far worse, by its prior on it. */
static void few_rows(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, 2, 5, 20, 50};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (uint64_t seed = 0; seed < 6; seed++) {
            int64_t n = sizes[k];
            held h = held_make(n, 2 + (int64_t)(seed % 3), 3, 1500 + seed, 2, 1, 1);
            held_draw_labels(&h, seed, 0, 1);
            la_choice choice = choose(&h);
            const la_candidate *all = choice.candidates;
            assert_true(isfinite(all[choice.method].nll) && isfinite(choice.gain_error));
            assert_true(all[choice.method].nll < all[LA_METHOD_MAP].nll + log(8) / (double)n);
            held_drop(&h);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(biases_are_found),
        cmocka_unit_test(weights_are_found),
        cmocka_unit_test(answers_are_kept),
        cmocka_unit_test(few_rows),
    };
    return cmocka_run_group_tests_name("selection, corrections", tests, NULL, NULL);
}

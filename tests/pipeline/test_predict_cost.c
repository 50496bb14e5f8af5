/* fit --predict-cost forward: predictions without a backward pass, over kinds of heads. */
#include "output/posterior_file.h"
#include "pipeline/predictor.h"
#include "pipeline/update.h"
#include "support/faults.h"
#include "support/posterior_files.h"
#include "support/row_files.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *fixture, *choice_ids;
    bool heldout;
} cases[] = {
    {.fixture = "bert"},
    {.fixture = "bert", .heldout = true},
    {.fixture = "bert-regression"},
    {.fixture = "bert-multilabel"},
    {.fixture = "llama-gqa", .choice_ids = "41,7,93,20,64"},
    {.fixture = "llama-seq"},
};
enum { CASES = sizeof cases / sizeof *cases };

static la_predictor *open_predictor(const char *folder, const char *name, const char *predictive) {
    la_predictor *predictor;
    la_error err;
    la_predict_options options = {.posterior = in_case(folder, name),
                                  .predictive = predictive,
                                  .samples = 50,
                                  .run = {.threads = 2}};
    if (la_predictor_open(&options, &predictor, &err) != LA_OK)
        fail_msg("%s", err.message);
    return predictor;
}

/* Largest distance of a row's covariance from v / m times the projection onto the contrasts, over
 * v. */
static double from_isotropic(int64_t c, int64_t m, const double *cov) {
    double trace = 0, gap = 0;
    for (int64_t k = 0; k < c; k++)
        trace += cov[k * c + k];
    assert_true(trace > 0);
    for (int64_t k = 0; k < c * c; k++) {
        double one = (k % (c + 1) ? 0 : 1) - (m < c ? 1 / (double)c : 0);
        gap = fmax(gap, fabs(cov[k] / trace - one / (double)m));
    }
    return gap;
}

static void without_a_backward(void **state) {
    double gap = 0;
    (void)state;
    for (int i = 0; i < CASES; i++) {
        const char *folder = open_case(cases[i].fixture);
        la_fit_summary *summary =
            case_fit(folder, "calib.jsonl", "forward",
                     (la_fit_options){.prior = LA_PRIOR_MODULE,
                                      .curvature = "kron",
                                      .choice_ids = cases[i].choice_ids,
                                      .val = cases[i].heldout ? NULL : "calib.jsonl",
                                      .heldout = cases[i].heldout,
                                      .forward = 1});
        la_fit_summary_free(summary);
        la_posterior p = case_load(folder, "forward");
        assert_true(p.forward && p.distilled.mean && p.choice.guarded);
        assert_true(la_distilled_find(&p.distilled, 1) >= 0);
        la_posterior_free(&p);
        la_predictor *predictor = open_predictor(folder, "forward", "mc");
        given_rows *rows = rows_read(in_case(folder, "test.jsonl"));
        la_error err;
        for (int64_t r = 0; r < rows->n; r++)
            rows->out[r] = la_prediction_at(la_predictor_classes(predictor), rows->memory[r]);
        if (la_predictor_run(predictor, rows->in, rows->n, rows->out, &err) != LA_OK)
            fail_msg("%s: %s", cases[i].fixture, err.message);
        assert_true(la_predictor_is_forward(predictor));
        assert_null(predictor->parts[0].covariance);
        assert_int_equal(predictor->session.workers[0].run.n_rhs, 0);
        for (int64_t r = 0; r < rows->n; r++)
            gap = fmax(gap, from_isotropic(predictor->n_classes, predictor->n_contrasts,
                                           rows->out[r].logit_cov));
        la_predictor_close(predictor);
        free(rows);
    }
    check_within("covariance against an isotropic one", gap, 4.4e-16);
}

/* An update that keeps the choice keeps what it was made under; settings that held-out rows choose
 * anew are chosen under variances that are distilled anew. */
static void updates(void **state) {
    const char *folder = open_case("bert");
    (void)state;
    la_fit_summary_free(case_fit(
        folder, "calib.jsonl", "forward",
        (la_fit_options){
            .prior = LA_PRIOR_MODULE, .curvature = "kron", .val = "calib.jsonl", .forward = 1}));
    row_file more = rows_random(4, 20);
    rows_write(&more, in_case(folder, "more.jsonl"), true);
    la_posterior old = case_load(folder, "forward");
    int64_t weights = old.distilled.n_scales * (old.distilled.n_features + 1);
    for (int anew = 0; anew < 2; anew++) {
        la_update_options options = {.posterior = in_case(folder, "forward"),
                                     .out = in_case(folder, "updated"),
                                     .data = in_case(folder, "more.jsonl"),
                                     .val = anew ? in_case(folder, "calib.jsonl") : NULL,
                                     .forget = 1,
                                     .run = {.threads = 2}};
        la_update_summary summary;
        la_error err = {0};
        if (la_update(&options, &summary, &err) != LA_OK)
            fail_msg("%s", err.message);
        la_posterior p = case_load(folder, "updated");
        assert_true(p.forward && p.distilled.mean);
        assert_int_equal(memcmp(p.distilled.weights, old.distilled.weights,
                                (size_t)weights * sizeof(double)) != 0,
                         anew);
        la_posterior_free(&p);
        la_predictor *predictor = open_predictor(folder, "updated", NULL);
        assert_true(la_predictor_is_forward(predictor));
        la_predictor_close(predictor);
    }
    la_posterior_free(&old);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(without_a_backward),
                                       cmocka_unit_test(updates)};
    return cmocka_run_group_tests_name("predict cost", tests, NULL, NULL);
}

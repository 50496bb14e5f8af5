/* Signs of trouble: lines that are logged, of rows whose figures are known. */
#include "likelihood/signs.h"
#include "base/team_open.h"
#include "support/support.h"

#include <stdlib.h>
#include <string.h>

typedef struct lines {
    char text[2048];
    int n;
} lines;

static void keep(void *user, const char *message) {
    lines *to = user;
    size_t used = strlen(to->text);
    snprintf(to->text + used, sizeof to->text - used, "%s\n", message);
    to->n++;
}

enum { N = 4, ROWS = 200 };

/* All rows, where N are some of them. */
typedef struct other_rows {
    int64_t n;
    const float *outputs;
    la_label_list labels;
} other_rows;

/* Outputs of two classes, or of a number each. */
typedef struct rows {
    float outputs[2 * N];
    double cov[N];
    int64_t labels[N];
    la_team team;
    lines log;
    const other_rows *others; /* NULL: N are all */
} rows;

static void report(rows *r, const la_likelihood *likelihood, double scale) {
    static const double one = 1;
    static const uint64_t streams[N] = {1, 2, 3, 4};
    la_error err = {0};
    la_log log = {.warn = keep, .user = &r->log};
    la_output_rows all = {.n = N,
                          .n_outputs = likelihood->n_least,
                          .n_scales = 1,
                          .outputs = r->outputs,
                          .scales = &one,
                          .cov = r->cov,
                          .streams = streams,
                          .noise_variance = 0.5};
    la_label_list labels = {.kind = LA_LABEL_CLASS, .classes = r->labels};
    r->log = (lines){0};
    la_sign_rows from = {.rows = &all, .labels = &labels, .n_fair = N};
    if (r->others)
        from = (la_sign_rows){.rows = &all,
                              .labels = &labels,
                              .n_fair = N - 1,
                              .n_all = r->others->n,
                              .outputs = r->others->outputs,
                              .labels_all = &r->others->labels};
    assert_int_equal(la_signs_report(likelihood, r->team, &from, scale, 0.25, &log, &err), LA_OK);
}

/* Equal outputs: Fisher information 1/2 in the one contrast of two classes, 1 of a number. */
static void leverage_is_that_of_the_worst_row(void **state) {
    rows *r = *state;
    r->cov[2] = 3;
    report(r, &la_softmax_likelihood, 1);
    assert_non_null(
        strstr(r->log.text, "largest leverage 1.5, posterior over prior variance 0.250"));
    assert_null(strstr(r->log.text, "a calibration row has leverage"));
    report(r, &la_softmax_likelihood, 2);
    assert_non_null(strstr(r->log.text, "a calibration row has leverage 3,"));
    report(r, &la_gaussian_likelihood, 1);
    assert_non_null(strstr(r->log.text, "a calibration row has leverage 3,"));
    assert_non_null(
        strstr(r->log.text, "variance of the model 0.75, of the noise 0.5, largest leverage 3,"));
    r->cov[2] = 0;
}

/* The MAP model is right and sure; a wide covariance takes that away. */
static void a_lack_of_confidence_is_reported(void **state) {
    rows *r = *state;
    for (int i = 0; i < N; i++) {
        r->outputs[2 * i + r->labels[i]] = 4;
        r->outputs[2 * i + 1 - r->labels[i]] = -4;
    }
    report(r, &la_softmax_likelihood, 1);
    assert_int_equal(r->log.n, 1);
    assert_non_null(strstr(r->log.text, "accuracy 1.000, mean confidence 1.000 (MAP 1.000)"));
    for (int i = 0; i < N; i++)
        r->cov[i] = 1e4;
    report(r, &la_softmax_likelihood, 1e-4);
    assert_int_equal(r->log.n, 2);
    assert_non_null(strstr(r->log.text, "under-confident"));
    memset(r->cov, 0, sizeof r->cov);
    memset(r->outputs, 0, sizeof r->outputs);
}

/* Accuracy and confidence are of all rows, what the posterior takes of the confidence that of the
 * fair ones, the leverage that of any. */
static void some_stand_for_all(void **state) {
    float outputs[2 * ROWS];
    int64_t labels[ROWS];
    rows *r = *state;
    for (int i = 0; i < ROWS; i++) { /* one in four is wrong; confidence 1 / (1 + e^-2) */
        labels[i] = i % 4 == 3;
        outputs[2 * i] = 2;
        outputs[2 * i + 1] = 0;
    }
    const other_rows all = {ROWS, outputs, {.kind = LA_LABEL_CLASS, .classes = labels}};
    r->others = &all;
    for (int i = 0; i < N; i++)
        r->outputs[2 * i] = 100;
    r->outputs[2 * (N - 1)] = 0; /* the suspect: Fisher information 1/2 */
    r->cov[N - 1] = 3;
    report(r, &la_softmax_likelihood, 1);
    assert_non_null(strstr(r->log.text,
                           "on 200 calibration rows: accuracy 0.750, mean confidence 0.881 (MAP "
                           "0.881), largest leverage 1.5 of 4 of them,"));
    /* a fair row whose answer is as good as a guess takes a sixth: (1 - 1/2) / 3 */
    r->cov[0] = 1e12;
    report(r, &la_softmax_likelihood, 1e-12);
    assert_non_null(strstr(r->log.text, "mean confidence 0.714 (MAP 0.881)"));
    r->others = NULL;
    memset(r->cov, 0, sizeof r->cov);
    memset(r->outputs, 0, sizeof r->outputs);
}

/* Rows whose outputs lean to class 0, half of which are of class 1; one in ten is not of the class
 * that they say. */
static void biased_classes_are_reported(void **state) {
    float outputs[2 * ROWS];
    int64_t labels[ROWS];
    lines log = {0};
    la_choice choice = {0};
    la_held_out held_out = {.n = ROWS,
                            .n_classes = 2,
                            .logits = outputs,
                            .labels = {.kind = LA_LABEL_CLASS, .classes = labels},
                            .log = {.warn = keep, .user = &log}};
    (void)state;
    choice.candidates[LA_METHOD_TEMPERATURE].temperature = 1;
    for (int lean = 0; lean <= 2; lean += 2) {
        for (int i = 0; i < ROWS; i++) {
            float sure = i % 20 < 2 ? -1 : 1;
            labels[i] = i % 2;
            outputs[2 * i + labels[i]] = sure;
            outputs[2 * i + 1 - labels[i]] = -sure;
            outputs[2 * i] += (float)lean;
        }
        la_warn_biased(&held_out, &choice);
        assert_int_equal(log.n, lean > 0);
    }
    assert_non_null(strstr(log.text, "the classes are biased"));
    held_out.n = 19; /* of 20 that two numbers take */
    la_warn_biased(&held_out, &choice);
    assert_int_equal(log.n, 1);
}

static int open_rows(void **state) {
    static rows r = {.labels = {0, 1, 1, 0}};
    la_error err = {0};
    *state = &r;
    return la_team_open(1, false, &(la_log){0}, &r.team, &err) != LA_OK;
}

static int close_rows(void **state) {
    la_team_close(&((rows *)*state)->team);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leverage_is_that_of_the_worst_row),
        cmocka_unit_test(a_lack_of_confidence_is_reported),
        cmocka_unit_test(some_stand_for_all),
        cmocka_unit_test(biased_classes_are_reported),
    };
    return cmocka_run_group_tests(tests, open_rows, close_rows);
}

/* Drift of predicted classes, or sets of them: right and wrong answers, and what the confidences
 * say of their number. */
#include "base/memory.h"
#include "base/statistics.h"
#include "monitor/drift_family.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* bands of confidence of the test of calibration, of equally many rows */
enum { STRATA = 20 };

static unsigned values_of(const la_drift_row *row) {
    unsigned mask = 0;
    for (int s = 0; s < LA_DRIFT_SCORES; s++)
        mask |= isnan(row->scores[s]) ? 0 : 1u << s;
    mask |= row->class >= 0 ? 1u << LA_DRIFT_PREDICTED_CLASS : 0;
    if (!row->labelled)
        return mask;
    mask |= 1u << LA_DRIFT_ERROR_RATE;
    mask |= isnan(row->scores[LA_DRIFT_CONFIDENCE]) ? 0 : 1u << LA_DRIFT_CALIBRATION;
    return mask | (row->label >= 0 ? 1u << LA_DRIFT_LABEL : 0);
}

/* Scores of the rows that have it, sorted; of all, or of the labelled ones that are right or wrong.
 * n: how many. The caller frees them. */
enum { ALL_ROWS, LABELLED_ROWS, RIGHT_ROWS, WRONG_ROWS };
static double *take_scores(const la_drift_rows *rows, int score, int which, int64_t *n,
                           la_error *err) {
    double *scores = la_alloc(2 * (size_t)rows->n, sizeof *scores, err);
    *n = 0;
    for (int64_t i = 0; scores && i < rows->n; i++) {
        const la_drift_row *row = &rows->list[i];
        if (!isnan(row->scores[score]) &&
            (which == ALL_ROWS ||
             (row->labelled && (which == LABELLED_ROWS || row->right == (which == RIGHT_ROWS)))))
            scores[(*n)++] = row->scores[score] + 0.0; /* -0 becomes 0 */
    }
    if (scores)
        la_drift_sort(scores, *n, scores + *n);
    return scores;
}

static la_status test_score(const la_drift_rows *const sets[2], int score, la_test_value *value,
                            la_error *err) {
    int64_t n[2];
    double *a = take_scores(sets[0], score, ALL_ROWS, &n[0], err);
    double *b = a ? take_scores(sets[1], score, ALL_ROWS, &n[1], err) : NULL;
    la_status status = b ? la_ks_test(a, n[0], b, n[1], value, err) : err->status;
    free(a);
    free(b);
    return status;
}

/* ---- classes ---- */

static la_status test_classes(const la_drift_rows *const sets[2], bool labels, la_test_value *value,
                              la_error *err) {
    int64_t n = 1;
    for (int s = 0; s < 2; s++)
        for (int64_t i = 0; i < sets[s]->n; i++) {
            const la_drift_row *row = &sets[s]->list[i];
            int32_t class = labels ? row->label : row->class;
            n = class >= n ? class + 1 : n;
        }
    int64_t *counts = la_alloc(2 * (size_t)n, sizeof *counts, err);
    if (!counts)
        return err->status;
    for (int s = 0; s < 2; s++)
        for (int64_t i = 0; i < sets[s]->n; i++) {
            const la_drift_row *row = &sets[s]->list[i];
            int32_t class = labels ? row->label : row->class;
            counts[s * n + (class < 0 ? 0 : class)] += class >= 0;
        }
    la_status status = la_shares_test(counts, counts + n, n, value, err);
    free(counts);
    return status;
}

/* ---- right and wrong ---- */

static void count_strata(const la_drift_rows *const sets[2], const double *edges, int bands,
                         la_stratum *strata) {
    for (int s = 0; s < 2; s++)
        for (int64_t i = 0; i < sets[s]->n; i++) {
            const la_drift_row *row = &sets[s]->list[i];
            if (!row->labelled || (bands > 1 && isnan(row->scores[LA_DRIFT_CONFIDENCE])))
                continue;
            int b = bands > 1 ? la_drift_band(edges, bands, row->scores[LA_DRIFT_CONFIDENCE]) : 0;
            strata[b].n[s]++;
            strata[b].hits[s] += row->right;
        }
}

/* Errors as often in both sets; the statistic is of errors. */
static la_status test_errors(const la_drift_rows *const sets[2], la_test_value *value,
                             la_error *err) {
    la_stratum all = {{0, 0}, {0, 0}};
    count_strata(sets, NULL, 1, &all);
    LA_TRY(la_strata_test(&all, 1, value, err));
    value->statistic = -value->statistic;
    return LA_OK;
}

/* Labelled rows of a set whose confidence is from `from` up and below `to`: how many are right. */
static int64_t rows_right(const la_drift_rows *rows, double from, double to) {
    int64_t n = 0;
    for (int64_t i = 0; i < rows->n; i++) {
        double confidence = rows->list[i].scores[LA_DRIFT_CONFIDENCE];
        n += rows->list[i].labelled && rows->list[i].right && confidence >= from && confidence < to;
    }
    return n;
}

/* The three values as one: Bonferroni's p, the first one's statistic. */
static void unite(const la_test_value parts[3], la_test_value *value) {
    *value = parts[0];
    value->p_value = fmin(1, 3 * fmin(parts[0].p_value, fmin(parts[1].p_value, parts[2].p_value)));
}

/* Rows right as often as their confidences, sorted, state: all, those below the middle one, the
 * others. */
static la_status test_stated(const la_drift_rows *rows, const double *sorted, int64_t n,
                             la_test_value *value, la_error *err) {
    la_test_value parts[3] = {{0, 1}, {0, 1}, {0, 1}};
    double middle = sorted[n / 2];
    int64_t below = 0;
    while (below < n && sorted[below] < middle)
        below++;
    int64_t right = rows_right(rows, -1, middle), others = rows_right(rows, middle, INFINITY);
    LA_TRY(la_rates_test(sorted, n, right + others, &parts[0], err));
    if (below)
        LA_TRY(la_rates_test(sorted, below, right, &parts[1], err));
    LA_TRY(la_rates_test(sorted + below, n - below, others, &parts[2], err));
    unite(parts, value);
    return LA_OK;
}

/* Rows of equal confidence right as often in both sets: all, the less and the more confident half,
 * as what rises in one may fall in the other. edges: of STRATA bands. */
static la_status test_bands(const la_drift_rows *const sets[2], const double *edges,
                            la_test_value *value, la_error *err) {
    la_stratum strata[STRATA] = {0};
    la_test_value parts[3];
    count_strata(sets, edges, STRATA, strata);
    LA_TRY(la_strata_test(strata, STRATA, &parts[0], err));
    LA_TRY(la_strata_test(strata, STRATA / 2, &parts[1], err));
    LA_TRY(la_strata_test(strata + STRATA / 2, STRATA / 2, &parts[2], err));
    unite(parts, value);
    return LA_OK;
}

/* Against the reference where it has labels, else against what the confidences state. */
static la_status test_calibration(const la_drift_rows *const sets[2], bool relative,
                                  la_test_value *value, la_error *err) {
    double edges[STRATA];
    int64_t n[2] = {0, 0};
    double *current = take_scores(sets[1], LA_DRIFT_CONFIDENCE, LABELLED_ROWS, &n[1], err);
    double *reference = NULL, *both = NULL;
    la_status status = err->status;
    if (current && !relative) {
        status = test_stated(sets[1], current, n[1], value, err);
    } else if (current) {
        reference = take_scores(sets[0], LA_DRIFT_CONFIDENCE, LABELLED_ROWS, &n[0], err);
        both = reference ? la_alloc(2 * (size_t)(n[0] + n[1]), sizeof *both, err) : NULL;
        status = err->status;
    }
    if (both) {
        memcpy(both, reference, (size_t)n[0] * sizeof *both);
        memcpy(both + n[0], current, (size_t)n[1] * sizeof *both);
        la_drift_sort(both, n[0] + n[1], both + n[0] + n[1]);
        la_drift_cut(both, n[0] + n[1], STRATA, edges);
        status = test_bands(sets, edges, value, err);
    }
    free(current);
    free(reference);
    free(both);
    return status;
}

static la_status run_test(const la_drift_rows *const sets[2], int kind, bool relative,
                          la_test_value *value, la_error *err) {
    switch (kind) {
    case LA_DRIFT_PREDICTED_CLASS:
    case LA_DRIFT_LABEL:
        return test_classes(sets, kind == LA_DRIFT_LABEL, value, err);
    case LA_DRIFT_ERROR_RATE:
        return test_errors(sets, value, err);
    case LA_DRIFT_CALIBRATION:
        return test_calibration(sets, relative, value, err);
    default:
        return test_score(sets, kind, value, err);
    }
}

/* ---- accuracy ---- */

static double share_right(const la_drift_rows *rows) {
    int64_t right = 0, n = 0;
    for (int64_t i = 0; i < rows->n; i++) {
        n += rows->list[i].labelled;
        right += rows->list[i].labelled && rows->list[i].right;
    }
    return n ? (double)right / (double)n : NAN;
}

/* Sums over the rows of one set in a band of confidence. */
typedef struct band {
    double n, confidence, right;
} band;

static void sum_bands(const la_drift_rows *rows, bool labelled, const double *edges, int bands,
                      band *sums) {
    for (int64_t i = 0; i < rows->n; i++) {
        const la_drift_row *row = &rows->list[i];
        double confidence = row->scores[LA_DRIFT_CONFIDENCE];
        if (isnan(confidence) || (labelled && !row->labelled))
            continue;
        band *sum = &sums[la_drift_band(edges, bands, confidence)];
        sum->n++;
        sum->confidence += confidence;
        sum->right += row->right;
    }
}

/* Mean confidence of the current rows, corrected in each band of confidence by what the reference's
 * accuracy there is above its confidence. Variance: that of the correction (a rate of the reference
 * with one right and one wrong row more, in each band), and of the labels themselves; the interval
 * is Wilson's (Journal of the American Statistical Association 22, 1927) for as many rows as have
 * that variance. */
static la_status estimate_accuracy(const la_drift_rows *const sets[2], la_drift *drift,
                                   la_error *err) {
    int64_t n_labelled = drift->tests[LA_DRIFT_CALIBRATION].n_reference;
    double edges[LA_DRIFT_BANDS] = {0}, n = (double)drift->tests[LA_DRIFT_CONFIDENCE].n_current;
    double mean = 0, variance = 0;
    int bands = 1;
    band reference[LA_DRIFT_BANDS] = {0}, current[LA_DRIFT_BANDS] = {0};
    if (n_labelled) {
        double *sorted = take_scores(sets[0], LA_DRIFT_CONFIDENCE, LABELLED_ROWS, &n_labelled, err);
        if (!sorted)
            return err->status;
        bands = la_drift_bands(n_labelled);
        la_drift_cut(sorted, n_labelled, bands, edges);
        free(sorted);
        sum_bands(sets[0], true, edges, bands, reference);
    }
    sum_bands(sets[1], false, edges, bands, current);
    for (int b = 0; b < bands; b++) {
        const band *r = &reference[b], *c = &current[b];
        double share = c->n / n, rate = c->n > 0 ? c->confidence / c->n : 0;
        if (r->n > 0) {
            double smooth = (r->right + 1) / (r->n + 2);
            rate = fmin(1, fmax(0, rate + (r->right - r->confidence) / r->n));
            variance += share * share * smooth * (1 - smooth) / r->n;
        }
        mean += share * rate;
        variance += share * rate * (1 - rate) / n;
    }
    double z = 1.959963984540054, flat = mean * (1 - mean);
    double rows = flat > 0 && variance > 0 ? flat / variance : n, weight = 1 + z * z / rows;
    double middle = (mean + z * z / (2 * rows)) / weight;
    double half = z / weight * sqrt(flat / rows + z * z / (4 * rows * rows));
    drift->estimated = mean;
    drift->interval[0] = fmax(0, fmin(mean, middle - half));
    drift->interval[1] = fmin(1, fmax(mean, middle + half));
    return LA_OK;
}

/* ---- advice ---- */

/* Area under the ROC curve of right answers, and its variance (Hanley and McNeil, Radiology 143,
 * 1982); NaN where all are right or all wrong. */
static la_status rank_answers(const la_drift_rows *rows, double *area, double *variance,
                              la_error *err) {
    int64_t n[2] = {0, 0};
    double *right = take_scores(rows, LA_DRIFT_CONFIDENCE, RIGHT_ROWS, &n[0], err);
    double *wrong = right ? take_scores(rows, LA_DRIFT_CONFIDENCE, WRONG_ROWS, &n[1], err) : NULL;
    double sum = 0;
    for (int64_t i = 0, below = 0, at_most = 0; wrong && i < n[0]; i++) {
        while (below < n[1] && wrong[below] < right[i])
            below++;
        while (at_most < n[1] && wrong[at_most] <= right[i])
            at_most++;
        sum += 0.5 * (double)(below + at_most);
    }
    free(right);
    free(wrong);
    if (err->status != LA_OK)
        return err->status;
    double p = (double)n[0], m = (double)n[1];
    double a = *area = n[0] && n[1] ? sum / (p * m) : NAN, squared = a * a;
    *variance = (a * (1 - a) + (p - 1) * (a / (2 - a) - squared) +
                 (m - 1) * (2 * squared / (1 + a) - squared)) /
                (p * m);
    return LA_OK;
}

/* Whether the current set's ranking is below the reference's by more than chance. */
static bool ranking_fell(const la_drift *drift, const double variances[2]) {
    double fall = drift->auroc[0] - drift->auroc[1];
    double sd = sqrt(variances[0] + variances[1]);
    return fall > 0 && sd > 0 && la_normal_tail(fall / sd) <= drift->alpha;
}

static la_drift_advice advise_labelled(la_drift *drift, const double variances[2]) {
    if (ranking_fell(drift, variances)) {
        drift->reason = "confidence no longer ranks right answers above wrong ones as it did";
        return LA_ADVICE_RETRAIN;
    }
    if (la_drift_alarmed(drift, LA_DRIFT_ERROR_RATE) && drift->measured < drift->reference &&
        drift->measured < drift->interval[0]) {
        drift->reason = "errors are more frequent, and the confidences do not say so";
        return LA_ADVICE_RETRAIN;
    }
    if (la_drift_alarmed(drift, LA_DRIFT_CALIBRATION)) {
        drift->reason = "confidences are off, and still rank right answers above wrong ones";
        return LA_ADVICE_RECALIBRATE;
    }
    drift->reason = "the rows differ, and confidences still agree with the errors";
    return LA_ADVICE_NONE;
}

/* Without labels. before: accuracy of the reference, or what its confidences say of it. */
static la_drift_advice advise_blind(la_drift *drift, double before, bool further) {
    if (la_drift_alarmed(drift, LA_DRIFT_OOD) && further) {
        drift->reason = "inputs lie further from the training data; label some to measure errors";
        return LA_ADVICE_RETRAIN;
    }
    if (drift->interval[1] < before) {
        drift->reason = "confidences predict a lower accuracy; label some rows to measure it";
        return LA_ADVICE_RETRAIN;
    }
    drift->reason =
        "the rows differ; label some to see whether confidences still agree with errors";
    return LA_ADVICE_RECALIBRATE;
}

static la_status advise(const la_drift_rows *const sets[2], la_drift *drift, la_error *err) {
    double variances[2] = {0, 0};
    for (int s = 0; s < 2 && !isnan(drift->estimated); s++)
        LA_TRY(rank_answers(sets[s], &drift->auroc[s], &variances[s], err));
    if (drift->alarm && !isnan(drift->measured))
        drift->advice = advise_labelled(drift, variances);
    else if (drift->alarm)
        drift->advice = advise_blind(
            drift,
            isnan(drift->reference) ? la_drift_mean(sets[0], LA_DRIFT_CONFIDENCE)
                                    : drift->reference,
            la_drift_mean(sets[1], LA_DRIFT_OOD) > la_drift_mean(sets[0], LA_DRIFT_OOD));
    return LA_OK;
}

static la_status judge(const la_drift_rows *const sets[2], bool stated, la_drift *drift,
                       la_error *err) {
    drift->reference = share_right(sets[0]);
    drift->measured = share_right(sets[1]);
    if (stated)
        LA_TRY(estimate_accuracy(sets, drift, err));
    return advise(sets, drift, err);
}

const la_drift_family la_drift_classes = {.names = {"confidence", "entropy", "mutual_information",
                                                    "ood", "predicted_class", "error_rate",
                                                    "calibration", "label"},
                                          .basis = LA_DRIFT_CONFIDENCE,
                                          .values = values_of,
                                          .test = run_test,
                                          .judge = judge};

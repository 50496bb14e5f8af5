/* Drift of predicted numbers (regressions): errors, and what the standard deviations say of
 * them. */
#include "base/memory.h"
#include "monitor/drift_family.h"

#include <math.h>
#include <stdlib.h>

/* of a two-sided 5 % */
static const double Z95 = 1.959963984540054;
/* Fewest labelled reference rows that the estimate is corrected by; rows of a Gaussian that the
 * spread of squared errors is taken together with. */
enum { LEAST_LABELLED = 10, GAUSSIAN_ROWS = 30 };

double la_drift_number(const la_drift_row *row, int kind) {
    double off = row->target - row->scores[LA_NUMBER_PREDICTION];
    switch (kind) {
    case LA_NUMBER_ERROR:
        return fabs(off);
    case LA_NUMBER_CALIBRATION:
        return off / row->scores[LA_NUMBER_DEVIATION];
    case LA_NUMBER_COVERAGE:
        return row->labelled ? row->right : NAN;
    case LA_NUMBER_LABEL:
        return row->target;
    default:
        return row->scores[kind];
    }
}

static unsigned values_of(const la_drift_row *row) {
    unsigned mask = 0;
    for (int k = 0; k < LA_DRIFT_KINDS; k++)
        mask |= isnan(la_drift_number(row, k)) ? 0 : 1u << k;
    return mask;
}

/* ---- tests ---- */

/* Values of the rows that have them, sorted; folded: without their signs. The caller frees them. */
static double *take_numbers(const la_drift_rows *rows, int kind, bool folded, int64_t *n,
                            la_error *err) {
    double *numbers = la_alloc(2 * (size_t)rows->n, sizeof *numbers, err);
    *n = 0;
    for (int64_t i = 0; numbers && i < rows->n; i++) {
        double number = la_drift_number(&rows->list[i], kind);
        if (!isnan(number))
            numbers[(*n)++] = (folded ? fabs(number) : number) + 0.0; /* -0 becomes 0 */
    }
    if (numbers)
        la_drift_sort(numbers, *n, numbers + *n);
    return numbers;
}

static la_status test_numbers(const la_drift_rows *const sets[2], int kind, bool folded,
                              la_test_value *value, la_error *err) {
    int64_t n[2];
    double *a = take_numbers(sets[0], kind, folded, &n[0], err);
    double *b = a ? take_numbers(sets[1], kind, folded, &n[1], err) : NULL;
    la_status status = b ? la_ks_test(a, n[0], b, n[1], value, err) : err->status;
    free(a);
    free(b);
    return status;
}

/* Errors in standard deviations against the normal distribution, folded: their sizes against its
 * own. */
static la_status test_normal(const la_drift_rows *rows, bool folded, la_test_value *value,
                             la_error *err) {
    int64_t n;
    double *z = take_numbers(rows, LA_NUMBER_CALIBRATION, folded, &n, err), most = 0;
    if (!z)
        return err->status;
    for (int64_t i = 0; i < n; i++) {
        double upper = la_normal_tail(z[i]), share = folded ? 1 - 2 * upper : 1 - upper;
        most = fmax(most, fmax(share - (double)i / (double)n, (double)(i + 1) / (double)n - share));
    }
    free(z);
    la_distance_test(most, n, value);
    return LA_OK;
}

/* Whether errors in standard deviations are spread as before, or, where the reference has no
 * labels, as the standard deviations state: with their signs, as predictions may lie to one side,
 * and their sizes. Bonferroni of both; the statistic is that of the clearer one. */
static la_status test_calibration(const la_drift_rows *const sets[2], bool relative,
                                  la_test_value *value, la_error *err) {
    la_test_value parts[2];
    for (int folded = 0; folded < 2; folded++)
        LA_TRY(relative ? test_numbers(sets, LA_NUMBER_CALIBRATION, folded, &parts[folded], err)
                        : test_normal(sets[1], folded, &parts[folded], err));
    *value = parts[parts[1].p_value < parts[0].p_value];
    value->p_value = fmin(1, 2 * value->p_value);
    return LA_OK;
}

static la_status test_coverage(const la_drift_rows *const sets[2], la_test_value *value,
                               la_error *err) {
    la_stratum all = {{0, 0}, {0, 0}};
    for (int s = 0; s < 2; s++)
        for (int64_t i = 0; i < sets[s]->n; i++) {
            all.n[s] += sets[s]->list[i].labelled;
            all.hits[s] += sets[s]->list[i].labelled && sets[s]->list[i].right;
        }
    return la_strata_test(&all, 1, value, err);
}

static la_status run_test(const la_drift_rows *const sets[2], int kind, bool relative,
                          la_test_value *value, la_error *err) {
    if (kind == LA_NUMBER_CALIBRATION)
        return test_calibration(sets, relative, value, err);
    if (kind == LA_NUMBER_COVERAGE)
        return test_coverage(sets, value, err);
    return test_numbers(sets, kind, false, value, err);
}

/* ---- errors ---- */

static bool has_error(const la_drift_row *row) {
    return !isnan(la_drift_number(row, LA_NUMBER_CALIBRATION));
}

/* Means over the labelled rows; NaN without any. */
static void measure(const la_drift_rows *rows, double *rmse, double *nll, double *coverage,
                    double *spread) {
    double n = 0, square = 0, surprise = 0, inside = 0, own = 0;
    for (int64_t i = 0; i < rows->n; i++) {
        const la_drift_row *row = &rows->list[i];
        double off = la_drift_number(row, LA_NUMBER_ERROR);
        double z = la_drift_number(row, LA_NUMBER_CALIBRATION);
        if (!has_error(row))
            continue;
        n++;
        square += off * off;
        own += z * z;
        inside += row->right;
        surprise += 0.5 * z * z + log(row->scores[LA_NUMBER_DEVIATION]) + 0.5 * log(2 * M_PI);
    }
    *rmse = n > 0 ? sqrt(square / n) : NAN;
    *nll = n > 0 ? surprise / n : NAN;
    *coverage = n > 0 ? inside / n : NAN;
    *spread = n > 0 ? sqrt(own / n) : NAN;
}

/* Sums over the rows of one set in a band of the standard deviation. */
typedef struct band {
    double n, variance, square; /* sums of s^2 and s^4 */
    double own;                 /* labelled rows of the reference: sum of squared errors in s^2 */
} band;

/* 95 % interval of the mean of new squares over the mean of old ones, for relative variances of
 * both: of a quotient F of gamma distributed means, by Wilson and Hilferty's cube roots of them
 * (Paulson, Annals of Mathematical Statistics 13, 1942). */
static void ratio_interval(double now, double before, double ends[2]) {
    double a = now / 9, b = before / 9; /* 2 / (9 d), relative variance 2 / d */
    double x = 1 - a, y = 1 - b, flat = y * y - Z95 * Z95 * b;
    double root = sqrt(fmax(0, x * x * y * y - flat * (x * x - Z95 * Z95 * a)));
    for (int end = 0; end < 2; end++)
        ends[end] = pow(fmax(0, (x * y + (end ? root : -root)) / flat), 3);
}

/* Mean of v = (u_b - 1)^2 over labelled rows, u_b their squared error over the mean of its band,
 * together with some rows of a Gaussian, whose v have a mean of 2 and a variance of 56; and one
 * standard error more, as heavy tails show in few of the rows. */
static double relative_spread(const la_drift_rows *rows, const double *edges, int bands,
                              const band *sums) {
    double sum = 2 * GAUSSIAN_ROWS, square = (56 + 4) * GAUSSIAN_ROWS, n = GAUSSIAN_ROWS;
    for (int64_t i = 0; i < rows->n; i++) {
        const la_drift_row *row = &rows->list[i];
        if (!has_error(row))
            continue;
        const band *own = &sums[la_drift_band(edges, bands, row->scores[LA_NUMBER_DEVIATION])];
        double z = la_drift_number(row, LA_NUMBER_CALIBRATION);
        double off = own->own > 0 ? z * z * own->n / own->own - 1 : 0;
        sum += off * off;
        square += off * off * off * off;
        n++;
    }
    double mean = sum / n;
    return mean + sqrt((square / n - mean * mean) / n);
}

static void sum_bands(const la_drift_rows *rows, bool labelled, const double *edges, int bands,
                      band *sums) {
    for (int64_t i = 0; i < rows->n; i++) {
        const la_drift_row *row = &rows->list[i];
        double deviation = row->scores[LA_NUMBER_DEVIATION], variance = deviation * deviation;
        double z = la_drift_number(row, LA_NUMBER_CALIBRATION);
        if (labelled && !has_error(row))
            continue;
        band *sum = &sums[la_drift_band(edges, bands, deviation)];
        sum->n++;
        sum->variance += variance;
        sum->square += variance * variance;
        sum->own += labelled ? z * z : 0;
    }
}

/* The errors that the standard deviations s of the current rows predict: a mean square of s^2 q,
 * with q of its band of s, the mean of squared errors over s^2 in the reference (1 without labels
 * there). */
static la_status estimate_errors(const la_drift_rows *const sets[2], la_drift *drift,
                                 la_error *err) {
    double edges[LA_DRIFT_BANDS] = {0}, n = (double)sets[1]->n, spread = 2, ends[2];
    double mean[2] = {0, 0}, now[2] = {0, 0}, before[2] = {0, 0}, logs = 0.5 * log(2 * M_PI);
    int64_t n_labelled = drift->tests[LA_NUMBER_CALIBRATION].n_reference;
    band reference[LA_DRIFT_BANDS] = {0}, current[LA_DRIFT_BANDS] = {0};
    bool corrected = n_labelled >= LEAST_LABELLED;
    int bands = corrected ? la_drift_bands(n_labelled) : 1;
    if (corrected) {
        int64_t n_all;
        double *sorted = take_numbers(sets[0], LA_NUMBER_DEVIATION, false, &n_all, err);
        if (!sorted)
            return err->status;
        la_drift_cut(sorted, n_all, bands, edges);
        free(sorted);
        sum_bands(sets[0], true, edges, bands, reference);
        spread = relative_spread(sets[0], edges, bands, reference);
    }
    sum_bands(sets[1], false, edges, bands, current);
    for (int b = 0; b < bands; b++) {
        const band *r = &reference[b], *c = &current[b];
        double q = r->n > 0 ? r->own / r->n : 1;
        double parts[2] = {c->variance * q / n, c->n * q / n};
        for (int k = 0; k < 2; k++) {
            mean[k] += parts[k];
            before[k] += r->n > 0 ? parts[k] * parts[k] * spread / r->n : 0;
        }
        now[0] += c->square * q * q * spread / (n * n);
        now[1] += c->n * q * q * spread / (n * n);
    }
    for (int64_t i = 0; i < sets[1]->n; i++)
        logs += log(sets[1]->list[i].scores[LA_NUMBER_DEVIATION]) / n;
    drift->rmse.estimated = sqrt(mean[0]);
    drift->nll.estimated = logs + 0.5 * mean[1];
    for (int k = 0; k < 2; k++) {
        double square = fmax(mean[k] * mean[k], 1e-300);
        ratio_interval(now[k] / square, before[k] / square, ends);
        for (int end = 0; end < 2; end++)
            (k ? &drift->nll : &drift->rmse)->interval[end] =
                k ? logs + 0.5 * mean[1] * ends[end] : sqrt(mean[0] * ends[end]);
    }
    return LA_OK;
}

/* ---- advice ---- */

static la_drift_advice advise_labelled(la_drift *drift) {
    bool grew = !(drift->rmse.measured <= drift->rmse.reference);
    if (la_drift_alarmed(drift, LA_NUMBER_ERROR) && grew &&
        drift->rmse.measured > drift->rmse.interval[1]) {
        drift->reason = "errors grew, and the standard deviations do not say so";
        return LA_ADVICE_RETRAIN;
    }
    if (la_drift_alarmed(drift, LA_NUMBER_CALIBRATION) ||
        la_drift_alarmed(drift, LA_NUMBER_COVERAGE)) {
        drift->reason = "standard deviations are off, and errors did not grow beyond them";
        return LA_ADVICE_RECALIBRATE;
    }
    drift->reason = "the rows differ, and standard deviations still agree with the errors";
    return LA_ADVICE_NONE;
}

/* Without labels. before: RMSE of the reference, or what its standard deviations say of it. */
static la_drift_advice advise_blind(la_drift *drift, double before, bool further) {
    if (la_drift_alarmed(drift, LA_NUMBER_OOD) && further) {
        drift->reason = "inputs lie further from the training data; label some to measure errors";
        return LA_ADVICE_RETRAIN;
    }
    if (drift->rmse.interval[0] > before) {
        drift->reason =
            "standard deviations predict larger errors; label some rows to measure them";
        return LA_ADVICE_RETRAIN;
    }
    drift->reason = "the rows differ; label some to see whether standard deviations still agree "
                    "with errors";
    return LA_ADVICE_RECALIBRATE;
}

static double stated_rmse(const la_drift_rows *rows) {
    double sum = 0;
    for (int64_t i = 0; i < rows->n; i++)
        sum += pow(rows->list[i].scores[LA_NUMBER_DEVIATION], 2) / (double)rows->n;
    return sqrt(sum);
}

static la_status judge(const la_drift_rows *const sets[2], bool stated, la_drift *drift,
                       la_error *err) {
    measure(sets[0], &drift->rmse.reference, &drift->nll.reference, &drift->coverage[0],
            &drift->spread[0]);
    measure(sets[1], &drift->rmse.measured, &drift->nll.measured, &drift->coverage[1],
            &drift->spread[1]);
    if (stated)
        LA_TRY(estimate_errors(sets, drift, err));
    double before = isnan(drift->rmse.reference) ? stated_rmse(sets[0]) : drift->rmse.reference;
    if (drift->alarm)
        drift->advice = !isnan(drift->rmse.measured)
                            ? advise_labelled(drift)
                            : advise_blind(drift, before,
                                           la_drift_mean(sets[1], LA_NUMBER_OOD) >
                                               la_drift_mean(sets[0], LA_NUMBER_OOD));
    return LA_OK;
}

const la_drift_family la_drift_numbers = {.names = {"prediction", "std", "model_variance", "ood",
                                                    "error", "coverage", "calibration", "label"},
                                          .basis = LA_NUMBER_DEVIATION,
                                          .values = values_of,
                                          .test = run_test,
                                          .judge = judge};

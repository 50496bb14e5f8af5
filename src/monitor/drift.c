#include "monitor/drift.h"
#include "base/statistics.h"
#include "monitor/drift_family.h"

#include <math.h>
#include <string.h>

static const la_drift_family *family_of(bool numbers) {
    return numbers ? &la_drift_numbers : &la_drift_classes;
}

const char *la_drift_name(bool numbers, int kind) {
    return family_of(numbers)->names[kind];
}

unsigned la_drift_values(bool numbers, const la_drift_row *row) {
    return family_of(numbers)->values(row);
}

void la_drift_count(const la_drift_rows *rows, int64_t counts[LA_DRIFT_KINDS]) {
    memset(counts, 0, LA_DRIFT_KINDS * sizeof *counts);
    for (int64_t i = 0; i < rows->n; i++) {
        unsigned mask = la_drift_values(rows->numbers, &rows->list[i]);
        for (int k = 0; k < LA_DRIFT_KINDS; k++)
            counts[k] += mask >> k & 1;
    }
}

/* ---- shared by the families ---- */

/* Numbers from 0 up are in the order of their bits, those below 0 in the reverse order. */
static uint64_t key_of(double number) {
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits >> 63 ? ~bits : bits | (uint64_t)1 << 63;
}

/* least significant byte first */
void la_drift_sort(double *scores, int64_t n, double *scratch) {
    for (int shift = 0; shift < 64; shift += 8) {
        int64_t at[257] = {0};
        for (int64_t i = 0; i < n; i++)
            at[(key_of(scores[i]) >> shift & 255) + 1]++;
        for (int b = 0; b < 256; b++)
            at[b + 1] += at[b];
        for (int64_t i = 0; i < n; i++)
            scratch[at[key_of(scores[i]) >> shift & 255]++] = scores[i];
        memcpy(scores, scratch, (size_t)n * sizeof *scores);
    }
}

int la_drift_bands(int64_t n) {
    int64_t bands = n / LA_DRIFT_BAND_ROWS;
    return bands < 1 ? 1 : bands < LA_DRIFT_BANDS ? (int)bands : LA_DRIFT_BANDS;
}

void la_drift_cut(const double *sorted, int64_t n, int bands, double *edges) {
    for (int b = 0; b + 1 < bands; b++)
        edges[b] = sorted[(b + 1) * n / bands];
}

int la_drift_band(const double *edges, int bands, double value) {
    int b = 0;
    while (b + 1 < bands && value >= edges[b])
        b++;
    return b;
}

double la_drift_mean(const la_drift_rows *rows, int score) {
    double sum = 0, n = 0;
    for (int64_t i = 0; i < rows->n; i++)
        if (!isnan(rows->list[i].scores[score])) {
            sum += rows->list[i].scores[score];
            n++;
        }
    return sum / n;
}

/* ---- all of it ---- */

static la_status adjust(la_drift *drift, la_error *err) {
    double p[LA_DRIFT_KINDS];
    size_t n = 0, at = 0;
    for (int k = 0; k < LA_DRIFT_KINDS; k++)
        if (drift->tests[k].tested)
            p[n++] = drift->tests[k].p_value;
    LA_TRY(la_holm(p, n, err));
    for (int k = 0; k < LA_DRIFT_KINDS; k++)
        if (drift->tests[k].tested) {
            drift->tests[k].adjusted = p[at++];
            drift->tests[k].alarm = drift->tests[k].adjusted <= drift->alpha;
            drift->alarm |= drift->tests[k].alarm;
        }
    return LA_OK;
}

la_status la_drift_of(la_team team, const la_drift_rows *reference, const la_drift_rows *current,
                      double alpha, la_drift *drift, la_error *err) {
    static const la_drift_error no_error = {NAN, NAN, {NAN, NAN}, NAN};
    const la_drift_rows *const sets[2] = {reference, current};
    const la_drift_family *family = family_of(reference->numbers);
    la_error errors[LA_DRIFT_KINDS] = {0};
    int64_t counts[2][LA_DRIFT_KINDS];
    la_drift_count(reference, counts[0]);
    la_drift_count(current, counts[1]);
    bool stated = counts[0][family->basis] && counts[1][family->basis];
    bool relative = counts[0][LA_DRIFT_CALIBRATION] > 0;
    *drift = (la_drift){.alpha = alpha,
                        .numbers = reference->numbers,
                        .n_reference = reference->n,
                        .n_current = current->n,
                        .reference = NAN,
                        .estimated = NAN,
                        .interval = {NAN, NAN},
                        .measured = NAN,
                        .auroc = {NAN, NAN},
                        .rmse = no_error,
                        .nll = no_error,
                        .coverage = {NAN, NAN},
                        .spread = {NAN, NAN},
                        .advice = LA_ADVICE_NONE,
                        .reason = "no difference beyond chance"};
#pragma omp parallel for schedule(dynamic) num_threads(team.threads)
    for (int k = 0; k < LA_DRIFT_KINDS; k++) {
        la_test_value value = {NAN, NAN};
        la_drift_test *test = &drift->tests[k];
        bool against = counts[0][k] > 0 || (k == LA_DRIFT_CALIBRATION && stated);
        bool tested = against && counts[1][k] > 0;
        if (tested)
            (void)family->test(sets, k, relative, &value, &errors[k]);
        *test = (la_drift_test){.statistic = value.statistic,
                                .p_value = value.p_value,
                                .adjusted = NAN,
                                .n_reference = counts[0][k],
                                .n_current = counts[1][k],
                                .tested = tested};
    }
    for (int k = 0; k < LA_DRIFT_KINDS; k++)
        if (errors[k].status != LA_OK) {
            *err = errors[k];
            return err->status;
        }
    LA_TRY(adjust(drift, err));
    return family->judge(sets, stated, drift, err);
}

#include "output/slice_tests.h"
#include "base/memory.h"
#include "base/statistics.h"
#include "base/trials.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows of a stratum: enough for a slice to meet the rest, few enough to be alike. */
enum { STRATUM = 25, STRATA_MOST = 400 };

#define NEGLIGIBLE 1e-17 /* probability of a count */
#define LEAST 1e-12      /* value of a test: below it, what was dropped counts */
#define EXACT 1e7        /* steps of a slice's own test, beyond which it is the normal limit's */

const char *const la_slice_flag_names[LA_SLICE_FLAGS] = {"more_errors", "over_confident",
                                                         "under_confident"};

/* A row as a test sees it. */
typedef struct tested_row {
    double confidence, loss;
    int32_t slice, stratum;
    bool missed, error;
} tested_row;

static int by_confidence(const void *a, const void *b) {
    const tested_row *x = a, *y = b;
    return (x->confidence > y->confidence) - (x->confidence < y->confidence);
}

/* An error is a loss above the median, so of classes a wrong answer; where most rows lose the most
 * there is, that. */
static la_status mark_errors(tested_row *rows, int64_t n, la_error *err) {
    double *loss = la_alloc((size_t)n, sizeof *loss, err);
    if (!loss)
        return err->status;
    for (int64_t i = 0; i < n; i++)
        loss[i] = rows[i].loss;
    la_doubles_sort(loss, n);
    double median = loss[n / 2];
    bool above = loss[n - 1] > median;
    for (int64_t i = 0; i < n; i++)
        rows[i].error = above ? rows[i].loss > median : rows[i].loss >= median;
    free(loss);
    return LA_OK;
}

/* Rows in strata of about the same number, none of which ends between rows of equal confidence.
 * Returns the number of strata. */
static int32_t stratify(tested_row *rows, int64_t n) {
    int64_t most = n / STRATUM < STRATA_MOST ? n / STRATUM : STRATA_MOST;
    int64_t size = most > 1 ? (n + most - 1) / most : n, begin = 0;
    int32_t stratum = 0;
    qsort(rows, (size_t)n, sizeof *rows, by_confidence);
    for (int64_t i = 0; i < n; i++) {
        if (i - begin >= size && rows[i].confidence > rows[i - 1].confidence) {
            stratum++;
            begin = i;
        }
        rows[i].stratum = stratum;
    }
    return stratum + 1;
}

static double within(double p) {
    return fmin(fmax(p, LEAST), 1);
}

typedef struct tester {
    const tested_row *rows;
    int64_t n, n_errors;
    la_stratum_draw *strata; /* [n_strata] rows, those that miss, those in the slice */
    int32_t n_strata;
    const int64_t *order, *begin; /* rows by slice, and where each slice begins there */
    la_draw_sum sum;
    double *confidence; /* [n] scratch */
} tester;

static la_status test_slice(tester *t, int slice, double *p, la_error *err) {
    const int64_t from = t->begin[slice], to = t->begin[slice + 1];
    int64_t missed = 0, errors = 0;
    double above, below, own_above, own_below;
    for (int f = 0; f < LA_SLICE_FLAGS; f++)
        p[f] = 1;
    if (from == to || to - from == t->n)
        return LA_OK;
    for (int32_t s = 0; s < t->n_strata; s++)
        t->strata[s].drawn = 0;
    for (int64_t i = from; i < to; i++) {
        const tested_row *row = &t->rows[t->order[i]];
        t->strata[row->stratum].drawn++;
        missed += row->missed;
        errors += row->error;
        t->confidence[i - from] = fmin(fmax(row->confidence, 0), 1);
    }
    la_stratum_draw whole = {t->n, t->n_errors, to - from};
    LA_TRY(la_draw_sum_set(&t->sum, &whole, 1, NEGLIGIBLE, err));
    la_draw_sum_tails(&t->sum, errors, &above, &below);
    p[LA_SLICE_MORE_ERRORS] = within(above);
    LA_TRY(la_draw_sum_set(&t->sum, t->strata, t->n_strata, NEGLIGIBLE, err));
    la_draw_sum_tails(&t->sum, missed, &above, &below);
    LA_TRY(la_trials_tails(t->confidence, to - from, missed, EXACT, &own_above, &own_below, err));
    p[LA_SLICE_OVER_CONFIDENT] = within(fmax(above, own_above));
    p[LA_SLICE_UNDER_CONFIDENT] = within(fmax(below, own_below));
    return LA_OK;
}

la_status la_slice_tests(int64_t n, const la_row_outcome *outcomes, const int32_t *slice,
                         int n_slices, double *p, la_error *err) {
    tester t = {.n = n};
    la_status status = LA_OK;
    tested_row *rows = la_alloc((size_t)n, sizeof *rows, err);
    int64_t *order = la_alloc((size_t)n, sizeof *order, err);
    int64_t *begin = la_alloc((size_t)n_slices + 2, sizeof *begin, err);
    t.strata = la_alloc(STRATA_MOST + 1, sizeof *t.strata, err);
    t.confidence = la_alloc((size_t)n, sizeof *t.confidence, err);
    LA_TRY_DONE(err->status);
    for (int64_t i = 0; i < n; i++)
        rows[i] = (tested_row){.confidence = outcomes[i].confidence,
                               .loss = outcomes[i].loss,
                               .missed = outcomes[i].missed,
                               .slice = slice[i]};
    LA_TRY_DONE(mark_errors(rows, n, err));
    t.n_strata = stratify(rows, n);
    for (int64_t i = 0; i < n; i++) {
        t.strata[rows[i].stratum].all++;
        t.strata[rows[i].stratum].marked += rows[i].missed;
        t.n_errors += rows[i].error;
        if (rows[i].slice >= 0)
            begin[rows[i].slice + 2]++;
    }
    for (int s = 0; s < n_slices; s++)
        begin[s + 2] += begin[s + 1];
    /* begin[s + 1] moves from the beginning of a slice to its end */
    for (int64_t i = 0; i < n; i++)
        if (rows[i].slice >= 0)
            order[begin[rows[i].slice + 1]++] = i;
    t.rows = rows;
    t.order = order;
    t.begin = begin;
    for (int s = 0; s < n_slices; s++)
        LA_TRY_DONE(test_slice(&t, s, p + (size_t)s * LA_SLICE_FLAGS, err));
done:
    free(rows);
    free(order);
    free(begin);
    free(t.strata);
    free(t.confidence);
    la_draw_sum_free(&t.sum);
    return status;
}

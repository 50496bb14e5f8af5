#include "output/slice_tests.h"
#include "base/memory.h"
#include "base/statistics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows of a stratum: enough for a slice to meet the rest, few enough to be alike. */
enum { STRATUM = 25, STRATA_MOST = 400 };

#define NEGLIGIBLE 1e-17 /* probability of a count */
#define LEAST 1e-12      /* value of a test: below it, what was dropped counts */

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

/* Distribution of a count: probability [n] of low, low + 1, ... */
typedef struct counted {
    double *probability;
    size_t n, capacity;
    int64_t low;
} counted;

/* Drops both ends where nothing is left of them. */
static void trim(counted *c) {
    size_t first = 0;
    while (c->n > 1 && c->probability[c->n - 1] < NEGLIGIBLE)
        c->n--;
    while (first + 1 < c->n && c->probability[first] < NEGLIGIBLE)
        first++;
    memmove(c->probability, c->probability + first, (c->n - first) * sizeof *c->probability);
    c->n -= first;
    c->low += (int64_t)first;
}

/* Hypergeometric: the marked ones among `drawn` of `all`. */
static la_status set_hypergeometric(counted *c, int64_t all, int64_t marked, int64_t drawn,
                                    la_error *err) {
    int64_t most;
    la_hypergeometric_range(all, marked, drawn, &c->low, &most);
    c->n = (size_t)(most - c->low + 1);
    LA_TRY(la_grow(&c->probability, &c->capacity, c->n, sizeof *c->probability, err));
    la_hypergeometric(all, marked, drawn, c->low, most, c->probability);
    trim(c);
    return LA_OK;
}

/* Distribution of the sum of sum and term, into sum by way of work. */
static la_status add_count(counted *sum, const counted *term, counted *work, la_error *err) {
    work->n = sum->n + term->n - 1;
    work->low = sum->low + term->low;
    LA_TRY(la_grow(&work->probability, &work->capacity, work->n, sizeof *work->probability, err));
    memset(work->probability, 0, work->n * sizeof *work->probability);
    for (size_t i = 0; i < sum->n; i++)
        for (size_t j = 0; j < term->n; j++)
            work->probability[i + j] += sum->probability[i] * term->probability[j];
    trim(work);
    counted before = *sum;
    *sum = *work;
    *work = before;
    return LA_OK;
}

/* Probability of found or more, and of found or fewer. */
static void tails(const counted *c, int64_t found, double *above, double *below) {
    *above = *below = 0;
    for (size_t i = 0; i < c->n; i++) {
        int64_t value = c->low + (int64_t)i;
        *above += value >= found ? c->probability[i] : 0;
        *below += value <= found ? c->probability[i] : 0;
    }
    *above = fmin(fmax(*above, LEAST), 1);
    *below = fmin(fmax(*below, LEAST), 1);
}

/* Rows of a stratum: all, those that miss, those in the slice. */
typedef struct stratum_count {
    int64_t n, missed, drawn;
} stratum_count;

typedef struct tester {
    const tested_row *rows;
    int64_t n, n_errors;
    stratum_count *strata; /* [n_strata] */
    int32_t n_strata;
    const int64_t *order, *begin; /* rows by slice, and where each slice begins there */
    counted sum, term, work;
} tester;

static la_status test_slice(tester *t, int slice, double *p, la_error *err) {
    const int64_t from = t->begin[slice], to = t->begin[slice + 1];
    int64_t missed = 0, errors = 0;
    double confidence = 0, above, below;
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
        confidence += row->confidence;
    }
    LA_TRY(set_hypergeometric(&t->sum, t->n, t->n_errors, to - from, err));
    tails(&t->sum, errors, &p[LA_SLICE_MORE_ERRORS], &below);
    LA_TRY(set_hypergeometric(&t->sum, 1, 0, 0, err));
    for (int32_t s = 0; s < t->n_strata; s++) {
        const stratum_count *stratum = &t->strata[s];
        if (!stratum->drawn)
            continue;
        LA_TRY(set_hypergeometric(&t->term, stratum->n, stratum->missed, stratum->drawn, err));
        LA_TRY(add_count(&t->sum, &t->term, &t->work, err));
    }
    tails(&t->sum, missed, &above, &below);
    double right = (double)(to - from - missed);
    if (confidence > right)
        p[LA_SLICE_OVER_CONFIDENT] = above;
    if (confidence < right)
        p[LA_SLICE_UNDER_CONFIDENT] = below;
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
    LA_TRY_DONE(err->status);
    for (int64_t i = 0; i < n; i++)
        rows[i] = (tested_row){.confidence = outcomes[i].confidence,
                               .loss = outcomes[i].loss,
                               .missed = outcomes[i].missed,
                               .slice = slice[i]};
    LA_TRY_DONE(mark_errors(rows, n, err));
    t.n_strata = stratify(rows, n);
    for (int64_t i = 0; i < n; i++) {
        t.strata[rows[i].stratum].n++;
        t.strata[rows[i].stratum].missed += rows[i].missed;
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
    free(t.sum.probability);
    free(t.term.probability);
    free(t.work.probability);
    return status;
}

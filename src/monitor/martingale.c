#include "monitor/martingale.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/statistics.h"
#include "monitor/two_sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Cells of a score: PER_DOUBLING between 2^k and 2^(k+1), from 2^-OCTAVES to 2^OCTAVES */
enum {
    PER_DOUBLING = 64,
    OCTAVES = 40,
    CELLS = 2 * OCTAVES * PER_DOUBLING + 2,
    SIGNED_CELLS = 2 * CELLS,
    BANDS = 32,
    CLASSES_USUAL = 256,
    CLASSES_MOST = 1024,
    UNIT_ROWS = 256,
    UNIT_ROWS_LEAST = 4
};

/* Bets on a rank p: the density t exp(t q) / (exp(t) - 1), q = p, or folded: |2p - 1|. */
static const struct {
    double tilt;
    bool folded;
} tilts[] = {{0.5, false}, {-0.5, false}, {1.5, false}, {-1.5, false}, {4, false},
             {-4, false},  {12, false},   {-12, false}, {40, false},   {-40, false},
             {1.5, true},  {-1.5, true},  {5, true},    {-5, true}};
/* Bets on a rank of one of two cells, the first of which has ranks up to about `share`: its odds
 * have become `factor` times what they were. Calibration takes the share that the confidence
 * states. Neither may depend on counts: ranks are independent of each other, not of the counts. */
static const double factors[] = {0.4, 0.65, 1.5, 2.5, 6};
static const double shares[] = {0.01, 0.03, 0.08, 0.2, 0.4, 0.7};
/* Factor of the capital that the next alarm of a test needs; LEVEL_MOST: what a bet can still be
 * multiplied by is far below the range of numbers. */
static const double AGAIN = 10, LEVEL_MOST = 1e290;
enum {
    TILTS = sizeof tilts / sizeof *tilts,
    FACTORS = sizeof factors / sizeof *factors,
    SHARES = sizeof shares / sizeof *shares
};

/* Counts of values among which a new one is ranked: of groups [n_groups][n_cells]; of scores as
 * sums of a Fenwick tree (Software: Practice and Experience 24, 1994). A part is a martingale of
 * its own: of three classes or more, one for each, which is held against the rest. */
typedef struct test {
    bool numbers, scores;
    double centre, width; /* of values that may have any sign and size: cells are of these units */
    int64_t
        n_measured; /* first values of the reference, which give the units and are not counted */
    int n_groups, n_cells, n_parts, n_bets;
    int64_t *reference, *counts; /* [n_groups * n_cells] */
    double *stakes;              /* [n_parts * n_bets] */
    double idle;                 /* capital of a part that is not staked */
    double level;  /* of the largest capital of a part over their number, that alarms */
    int64_t n_bet; /* rows since the test began */
    double scales[FACTORS * SHARES]; /* of densities that are steps */
} test;

struct la_watch {
    uint64_t seed;
    double level; /* k / alpha */
    unsigned mask;
    uint64_t n_rows;
    test tests[LA_DRIFT_KINDS];
};

/* ---- cells ---- */

static int cell_of_size(double x) {
    int exponent;
    double half = frexp(x, &exponent); /* x = half 2^exponent, half from 1/2 up */
    if (!(x > 0) || exponent <= -OCTAVES)
        return 0;
    if (exponent > OCTAVES)
        return CELLS - 1;
    return 1 + (exponent + OCTAVES - 1) * PER_DOUBLING + (int)((2 * half - 1) * PER_DOUBLING);
}

/* Shares are as fine near 1 as they are near 0. */
static int cell_of_share(double x) {
    return x > 0.5 ? CELLS - 1 - cell_of_size(fmax(0, 1 - x)) : cell_of_size(x);
}

static int cell_of_score(int kind, double x) {
    bool share = kind == LA_DRIFT_CONFIDENCE || kind == LA_DRIFT_OOD;
    return share ? cell_of_share(x) : cell_of_size(x);
}

/* Errors in standard deviations are taken as shares of the normal distribution. */
static int cell_of_number(const test *t, int kind, double x) {
    if (kind == LA_NUMBER_CALIBRATION)
        return x > 0 ? CELLS - 1 - cell_of_size(la_normal_tail(x))
                     : cell_of_size(la_normal_tail(-x));
    if (kind == LA_NUMBER_OOD)
        return cell_of_share(x);
    if (kind == LA_NUMBER_COVERAGE)
        return x > 0;
    x = (x - t->centre) / t->width;
    return x < 0 ? CELLS - 1 - cell_of_size(-x) : CELLS + cell_of_size(x);
}

/* Bands of confidence, four to a halving of 1 - confidence. */
static int band_of(double confidence) {
    double b = -4 * log2(fmax(1e-9, 1 - confidence));
    return b < 0 ? 0 : b >= BANDS - 1 ? BANDS - 1 : (int)b;
}

/* Place of a row's value in a test; false: it has none. */
static bool locate(const test *t, int kind, const la_drift_row *row, int *group, int *cell) {
    *group = 0;
    if (t->numbers) {
        double number = la_drift_number(row, kind);
        *cell = isnan(number) ? -1 : cell_of_number(t, kind, number);
        return *cell >= 0;
    }
    switch (kind) {
    case LA_DRIFT_PREDICTED_CLASS:
        *cell = row->class;
        break;
    case LA_DRIFT_LABEL:
        *cell = row->labelled ? row->label : -1;
        break;
    case LA_DRIFT_CALIBRATION:
        if (isnan(row->scores[LA_DRIFT_CONFIDENCE]))
            return false;
        *group = band_of(row->scores[LA_DRIFT_CONFIDENCE]);
        *cell = row->labelled ? row->right : -1;
        break;
    case LA_DRIFT_ERROR_RATE:
        *cell = row->labelled ? row->right : -1;
        break;
    default:
        *cell = isnan(row->scores[kind]) ? -1 : cell_of_score(kind, row->scores[kind]);
    }
    *cell = *cell < 0 ? -1 : *cell % t->n_cells; /* classes beyond the cells share them */
    return *cell >= 0;
}

/* Counts below a cell. */
static int64_t count_below(const test *t, const int64_t *counts, int cell) {
    int64_t sum = 0;
    if (!t->scores) {
        for (int c = 0; c < cell; c++)
            sum += counts[c];
        return sum;
    }
    for (int c = cell; c > 0; c &= c - 1)
        sum += counts[c - 1];
    return sum;
}

static void count(const test *t, int64_t *counts, int cell) {
    if (!t->scores)
        counts[cell]++;
    for (int c = cell + 1; t->scores && c <= t->n_cells; c += c & -c)
        counts[c - 1]++;
}

/* ---- bets ---- */

static double tilted(double tilt, bool folded, double p) {
    double q = folded ? fabs(2 * p - 1) : p;
    return tilt * exp(tilt * q) / expm1(tilt);
}

/* w_t; where the difference would be lost in rounding, its slope behind it, which is less. */
static double share_of(int64_t t) {
    double n = (double)t;
    if (t > 1 << 20)
        return M_LN2 / ((n + 2) * log(n + 2) * log(n + 2));
    return 1 / log2(n + 1) - 1 / log2(n + 2);
}

static double scale_of(double factor, double share) {
    return 1 / (1 + (factor - 1) * share);
}

static double density_of(const test *t, int kind, int bet, int group, double p) {
    if (t->scores)
        return tilted(tilts[bet].tilt, tilts[bet].folded, p);
    if (t->numbers || kind != LA_DRIFT_CALIBRATION)
        return t->scales[bet] * (p < shares[bet / FACTORS] ? factors[bet % FACTORS] : 1);
    double share = exp2(-(group + 0.5) / 4);
    return scale_of(factors[bet], share) * (p < share ? factors[bet] : 1);
}

/* Multiplies the stakes of a part by the densities of its bets at p; returns its capital. w: what
 * was staked anew. */
static double settle(const test *t, int kind, int group, double w, double p, double *stakes) {
    double sum = t->idle;
    for (int b = 0; b < t->n_bets; b++) {
        stakes[b] = (stakes[b] + w / t->n_bets) * density_of(t, kind, b, group, p);
        sum += stakes[b];
    }
    return sum;
}

/* Rank of a cell among the counts of its group, ties in the order that u says; of a part, whether
 * the cell is its own comes first. */
static double rank_in(const test *t, const int64_t *counts, int cell, int part, double u) {
    double all = (double)count_below(t, counts, t->n_cells), below, equal;
    if (t->n_parts > 1) {
        double own = (double)counts[part];
        below = cell == part ? 0 : own;
        equal = cell == part ? own : all - own;
    } else {
        below = (double)count_below(t, counts, cell);
        equal = (double)count_below(t, counts, cell + 1) - below;
    }
    return (below + u * (equal + 1)) / (all + 1);
}

/* Ranks a value, and counts it; returns the largest capital of a part over their number. */
static double take_value(test *t, int kind, int group, int cell, double u) {
    int64_t *counts = t->counts + group * t->n_cells;
    double w = share_of(++t->n_bet), most = 0;
    t->idle -= w;
    for (int part = 0; part < t->n_parts; part++)
        most = fmax(most, settle(t, kind, group, w, rank_in(t, counts, cell, part, u),
                                 t->stakes + part * t->n_bets));
    count(t, counts, cell);
    return most / t->n_parts;
}

static void begin(test *t) {
    memcpy(t->counts, t->reference, (size_t)(t->n_groups * t->n_cells) * sizeof *t->counts);
    memset(t->stakes, 0, (size_t)(t->n_parts * t->n_bets) * sizeof *t->stakes);
    t->idle = 1;
    t->n_bet = 0;
}

unsigned la_watch_row(la_watch *watch, const la_drift_row *row, double *e_value) {
    unsigned alarms = 0;
    *e_value = 0;
    for (int k = 0; k < LA_DRIFT_KINDS; k++) {
        test *t = &watch->tests[k];
        int group, cell;
        if (!(watch->mask >> k & 1) || !locate(t, k, row, &group, &cell))
            continue;
        double u = la_random_uniform(watch->seed, (uint64_t)k, watch->n_rows);
        double capital = take_value(t, k, group, cell, u);
        if (capital < t->level)
            continue;
        alarms |= 1u << k;
        *e_value = fmax(*e_value, capital);
        t->level = fmin(AGAIN * t->level, LEVEL_MOST);
        begin(t);
    }
    watch->n_rows++;
    return alarms;
}

/* ---- the reference ---- */

/* Cells, parts and bets of a test of classes. */
static void shape_classes(test *t, int kind, int64_t n_classes) {
    bool classes = kind == LA_DRIFT_PREDICTED_CLASS || kind == LA_DRIFT_LABEL;
    n_classes = n_classes ? n_classes : CLASSES_USUAL;
    n_classes = n_classes < CLASSES_MOST ? n_classes : CLASSES_MOST;
    t->scores = kind < LA_DRIFT_SCORES;
    t->n_groups = kind == LA_DRIFT_CALIBRATION ? BANDS : 1;
    t->n_cells = t->scores ? CELLS : classes ? (int)n_classes : 2;
    t->n_parts = classes && n_classes > 2 ? (int)n_classes : 1;
    t->n_bets = t->scores ? TILTS : kind == LA_DRIFT_CALIBRATION ? FACTORS : FACTORS * SHARES;
}

/* The middle and the spread of the first quarter of the values, at most as many as fit. Cells would
 * be no finer where all values lie far from 0; from rows that are counted they could not come, as
 * ranks among them are then no longer exchangeable with those of new rows. */
static void measure_units(test *t, int kind, const la_drift_rows *reference) {
    double values[UNIT_ROWS];
    int64_t n = 0, have[LA_DRIFT_KINDS], most;
    la_drift_count(reference, have);
    most = have[kind] / 4 < UNIT_ROWS ? have[kind] / 4 : UNIT_ROWS;
    t->centre = 0;
    t->width = 1;
    for (int64_t i = 0; i < reference->n && n < most && most >= UNIT_ROWS_LEAST; i++) {
        double number = la_drift_number(&reference->list[i], kind);
        if (!isnan(number))
            values[n++] = number;
    }
    t->n_measured = n;
    if (!n)
        return;
    la_doubles_sort(values, n);
    t->centre = la_quantile(values, n, 0.5);
    double spread = la_quantile(values, n, 0.75) - la_quantile(values, n, 0.25);
    t->width = spread > 0                  ? spread
               : values[n - 1] > values[0] ? values[n - 1] - values[0]
               : t->centre != 0            ? fabs(t->centre)
                                           : 1;
}

static void shape_numbers(test *t, int kind, const la_drift_rows *reference) {
    bool share = kind == LA_NUMBER_CALIBRATION || kind == LA_NUMBER_OOD;
    t->numbers = true;
    t->scores = kind != LA_NUMBER_COVERAGE;
    t->n_groups = t->n_parts = 1;
    t->n_cells = !t->scores ? 2 : share ? CELLS : SIGNED_CELLS;
    t->n_bets = t->scores ? TILTS : FACTORS * SHARES;
    if (t->scores && !share)
        measure_units(t, kind, reference);
}

static la_status open_test(test *t, int kind, const la_drift_rows *reference, double level,
                           la_error *err) {
    int group, cell;
    int64_t n_located = 0;
    if (reference->numbers)
        shape_numbers(t, kind, reference);
    else
        shape_classes(t, kind, reference->n_classes);
    t->level = level;
    for (int b = 0; b < FACTORS * SHARES; b++)
        t->scales[b] = scale_of(factors[b % FACTORS], shares[b / FACTORS]);
    size_t n = (size_t)(t->n_groups * t->n_cells);
    t->reference = la_alloc(n, sizeof *t->reference, err);
    t->counts = t->reference ? la_alloc(n, sizeof *t->counts, err) : NULL;
    t->stakes =
        t->counts ? la_alloc((size_t)(t->n_parts * t->n_bets), sizeof *t->stakes, err) : NULL;
    if (!t->stakes)
        return err->status;
    for (int64_t i = 0; i < reference->n; i++)
        if (locate(t, kind, &reference->list[i], &group, &cell) && ++n_located > t->n_measured)
            count(t, t->reference + group * t->n_cells, cell);
    begin(t);
    return LA_OK;
}

la_status la_watch_open(const la_drift_rows *reference, double alpha, uint64_t seed, la_watch **out,
                        la_error *err) {
    la_watch *watch = *out = la_alloc(1, sizeof *watch, err);
    int64_t counts[LA_DRIFT_KINDS];
    int n = 0;
    if (!watch)
        return err->status;
    watch->seed = seed;
    la_drift_count(reference, counts);
    for (int k = 0; k < LA_DRIFT_KINDS; k++) {
        watch->mask |= counts[k] ? 1u << k : 0;
        n += counts[k] > 0;
    }
    for (int k = 0; k < LA_DRIFT_KINDS && err->status == LA_OK; k++)
        if (watch->mask >> k & 1)
            (void)open_test(&watch->tests[k], k, reference, n / alpha, err);
    if (err->status == LA_OK)
        return LA_OK;
    la_watch_free(watch);
    *out = NULL;
    return err->status;
}

void la_watch_free(la_watch *watch) {
    for (int k = 0; watch && k < LA_DRIFT_KINDS; k++) {
        free(watch->tests[k].reference);
        free(watch->tests[k].counts);
        free(watch->tests[k].stakes);
    }
    free(watch);
}

unsigned la_watch_tests(const la_watch *watch) {
    return watch->mask;
}

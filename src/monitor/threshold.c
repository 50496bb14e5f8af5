#include "monitor/threshold.h"
#include "base/memory.h"
#include "base/binomial.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static void warn(la_threshold *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void warn(la_threshold *t, const char *format, ...) {
    va_list args;
    if (t->n_warnings == LA_WARNINGS_MOST)
        return;
    va_start(args, format);
    vsnprintf(t->warnings[t->n_warnings++], LA_WARNING_TEXT, format, args);
    va_end(args);
}

static double key_of(const la_threshold *t, double score) {
    return la_scores[t->options.score].low ? score : -score;
}

/* Score of a key, where -0 is 0. */
static double score_of(const la_threshold *t, double key) {
    return (la_scores[t->options.score].low ? key : -key) + 0.0;
}

static bool is_within_limit(const la_threshold *t, const la_answer *answer) {
    return t->options.limited == LA_SCORE_NONE ||
           (la_scores[t->options.limited].low ? answer->second <= t->options.limit
                                              : answer->second >= t->options.limit);
}

/* Seed of the order of ties, from the rows and not from their order in the file. */
static uint64_t seed_of(const la_ranked *rows, int64_t n) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double row[2] = {rows[i].key + 0.0, rows[i].wrong};
        sum += la_hash64(row, sizeof row);
    }
    return sum;
}

/* The sorted rows within the limit; returns their number. class -1: of all. */
static int64_t rank(const la_threshold *t, const la_answers *answers, int64_t class,
                    la_ranked *rows) {
    int64_t n = 0;
    for (int64_t i = 0; i < answers->n; i++) {
        const la_answer *a = &answers->list[i];
        if ((class < 0 || a->class == class) && is_within_limit(t, a))
            rows[n++] = (la_ranked){key_of(t, a->score), !a->right};
    }
    la_ranked_sort(rows, n);
    return n;
}

/* Threshold of n sorted rows, of `all` labelled rows of the class within the limit and not. later:
 * the delta with more rows like these. */
static void promise(const la_threshold *t, const la_ranked *rows, int64_t n, int64_t all,
                    double delta, double later, la_class_threshold *out) {
    double e = t->options.target_error;
    la_selection_point point = la_selection_by_risk(rows, n, e, delta, seed_of(rows, n));
    *out = (la_class_threshold){.value = NAN,
                                .n = all,
                                .n_accepted = point.n_accepted,
                                .n_errors = point.n_errors,
                                .n_needed = -1,
                                .upper = point.upper,
                                .delta = delta};
    if (point.n_accepted) {
        out->value = score_of(t, rows[point.n_accepted - 1].key);
        return;
    }
    int64_t needed = la_selection_rows_needed(rows, n, e, later);
    if (needed >= 0 && n)
        out->n_needed = llround(ceil((double)needed * (double)all / (double)n));
}

/* The m-th part of D: of m independent promises all are kept but for D. */
static double part_of(double d, int64_t m) {
    return -expm1(log1p(-d) / (double)m);
}

/* Share of D for each class, 1 - (1 - D)^(1/m). The m classes are those that have rows enough to
 * accept any at all; their numbers of rows alone decide which these are, and given them the classes
 * are independent. */
static double share_of_class(const la_threshold *t) {
    double e = t->options.target_error, d = t->options.delta;
    for (int64_t m = t->n_classes, enough; m > 0; m = enough) {
        int64_t least = la_binomial_least(e, part_of(d, m));
        enough = 0;
        for (int64_t c = 0; c < t->n_classes; c++)
            enough += t->classes[c].n >= least;
        if (enough >= m)
            return part_of(d, enough);
    }
    return d;
}

/* Of all labelled rows, so that the first class has its threshold; -1: none ever has. */
static int64_t rows_for_any(const la_threshold *t) {
    double least = INFINITY;
    for (int64_t c = 0; c < t->n_classes; c++) {
        const la_class_threshold *own = &t->classes[c];
        if (own->n_needed >= 0)
            least = fmin(least, (double)own->n_needed * (double)t->all.n / (double)own->n);
    }
    return isinf(least) ? -1 : llround(ceil(least));
}

static la_status promise_by_class(la_threshold *t, const la_answers *answers, la_ranked *rows,
                                  la_error *err) {
    int64_t n = answers->n_names > answers->n_classes ? answers->n_names : answers->n_classes;
    for (int64_t i = 0; i < answers->n; i++) {
        if (answers->list[i].class < 0)
            return la_fail(err, LA_UNSUPPORTED,
                           "--by-class: an answer is a set of classes, not one; leave it out");
        n = answers->list[i].class >= n ? answers->list[i].class + 1 : n;
    }
    t->n_classes = n;
    t->classes = la_alloc((size_t)n, sizeof *t->classes, err);
    if (!t->classes)
        return err->status;
    for (int64_t i = 0; i < answers->n; i++)
        t->classes[answers->list[i].class].n++;
    int64_t seen = 0;
    for (int64_t c = 0; c < n; c++)
        seen += t->classes[c].n > 0;
    double share = share_of_class(t), later = part_of(t->options.delta, seen);
    t->all = (la_class_threshold){
        .value = NAN, .n = answers->n, .n_needed = -1, .upper = NAN, .delta = t->options.delta};
    for (int64_t c = 0; c < n; c++) {
        la_class_threshold *own = &t->classes[c];
        int64_t of_class = own->n, within = rank(t, answers, c, rows);
        promise(t, rows, within, of_class, share, later, own);
        t->all.n_accepted += own->n_accepted;
        t->all.n_errors += own->n_errors;
        t->all.upper = fmax(t->all.upper, own->upper); /* NaN is passed over */
    }
    if (!t->all.n_accepted)
        t->all.n_needed = rows_for_any(t);
    return LA_OK;
}

static la_status find_cheapest(la_threshold *t, const la_answers *answers, la_ranked *rows,
                               la_error *err) {
    int64_t n = rank(t, answers, -1, rows), limited = answers->n - n;
    la_cost_point *point = &t->cost;
    t->all = (la_class_threshold){
        .value = NAN, .n = answers->n, .n_needed = -1, .upper = NAN, .delta = NAN};
    t->value_interval[0] = t->value_interval[1] = NAN;
    if (n)
        LA_TRY(la_selection_by_cost(rows, n, t->options.costs, seed_of(rows, n), point, err));
    t->all.n_accepted = point->n_accepted;
    t->all.n_errors = point->n_errors;
    if (point->n_accepted)
        t->all.value = score_of(t, rows[point->n_accepted - 1].key);
    /* From the score of the last row of the fewest, to that of the first behind the most: every
     * threshold above that accepts them too. The fewest have the largest threshold where high
     * scores are accepted. */
    int64_t fewest = point->accepted_interval[0], most = point->accepted_interval[1];
    int rising = la_scores[t->options.score].low;
    if (fewest)
        t->value_interval[rising ? 0 : 1] = score_of(t, rows[fewest - 1].key);
    if (most)
        t->value_interval[rising ? 1 : 0] = score_of(t, rows[most < n ? most : n - 1].key);
    /* rows beyond the limit are reviewed, each at the same cost */
    double share = (double)n / (double)answers->n, beyond = (double)limited / (double)answers->n;
    point->cost = share * point->cost + beyond * t->options.costs.review;
    for (int end = 0; end < 2; end++)
        point->cost_interval[end] =
            share * point->cost_interval[end] + beyond * t->options.costs.review;
    return LA_OK;
}

static void warn_about(la_threshold *t, const la_answers *a) {
    if (a->seen.n_held_out)
        warn(t,
             "%lld of %lld rows chose the guard's settings or temperature: their confidences fit "
             "them better than new rows, and the promise is for new rows alone; use rows that the "
             "fit did not see",
             (long long)a->seen.n_held_out, (long long)a->n);
    if (a->seen.n_calibration)
        warn(t,
             "%lld of %lld rows are calibration rows of the posterior: the model knows them and is "
             "wrong on them less often than on new rows, for which alone the promise is; use rows "
             "that the fit did not see",
             (long long)a->seen.n_calibration, (long long)a->n);
    if (a->n_tokens)
        warn(t,
             "%lld rows are tokens of texts: those of one text go wrong together, and the "
             "promise holds for independent ones",
             (long long)a->n_tokens);
    if (!strcmp(a->kind, "mixed"))
        warn(t, "rows differ in \"confidence_kind\": a threshold is of one kind of confidence");
    if (a->n_unlabelled)
        warn(t, "%lld rows without a label are left out", (long long)a->n_unlabelled);
    if (a->n_errors)
        warn(t, "%lld rows with an error are left out", (long long)a->n_errors);
    const char *of = t->classes ? " of any class" : "";
    if (!t->options.by_cost && !t->all.n_accepted && t->all.n_needed < 0)
        warn(t,
             "no threshold%s can be promised, and more rows like these would not change that: no "
             "part of them has an error rate clearly below %g",
             of, t->options.target_error);
    else if (!t->options.by_cost && !t->all.n_accepted)
        warn(t,
             "no threshold%s can be promised; with about %lld labelled rows like these one "
             "probably could",
             of, (long long)t->all.n_needed);
}

la_status la_threshold_of(const la_threshold_options *options, const la_answers *answers,
                          la_threshold *threshold, la_error *err) {
    la_threshold *t = threshold;
    *t = (la_threshold){.options = *options};
    la_ranked *rows = la_alloc((size_t)answers->n, sizeof *rows, err);
    la_status status = err->status;
    if (status == LA_OK && options->by_cost)
        status = find_cheapest(t, answers, rows, err);
    else if (status == LA_OK && options->by_class)
        status = promise_by_class(t, answers, rows, err);
    else if (status == LA_OK)
        promise(t, rows, rank(t, answers, -1, rows), answers->n, options->delta, options->delta,
                &t->all);
    free(rows);
    if (status == LA_OK)
        warn_about(t, answers);
    else
        la_threshold_free(t);
    return status;
}

void la_threshold_free(la_threshold *threshold) {
    free(threshold->classes);
    *threshold = (la_threshold){0};
}

double la_threshold_coverage(const la_threshold *threshold) {
    return (double)threshold->all.n_accepted / (double)threshold->all.n;
}

/* Promise of laplora threshold --target-error, by simulation: how often the true error rate of what
 * is accepted is above the target, and how much is accepted, beside other procedures.
 *
 *     make build/threshold_promise && build/threshold_promise [DRAWS [WORLD]]
 *
 * A world has a curve of error against the score, so that true error rates are known. Each draw is
 * a set of labelled rows. Procedures:
 *   laplora   la_threshold_of, as the command runs it
 *   grid      fallback over 100 scores fixed in advance, each with a hundredth of D
 *   split     a fifth of the rows, drawn at random, chooses a start and the scores below it; the
 *             others are tested at these in a fixed sequence at D
 *   start     a fixed sequence at D from an eighth of the rows on, as laplora's with one start
 *   by eye    the largest coverage whose own error rate is at most the target: promises nothing
 *   oracle    the largest coverage whose true error rate is at most the target */
#include "base/binomial.h"
#include "monitor/threshold.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CELLS = 100000, CLASSES = 6, GRID = 100, PROCEDURES = 5 };

static uint64_t at = 88172645463325252u;

/* xorshift64* */
static double uniform(void) {
    at ^= at >> 12;
    at ^= at << 25;
    at ^= at >> 27;
    return (double)((at * 0x2545f4914f6cdd1d) >> 11) * 0x1p-53;
}

/* ---- worlds: error rate at a score that is uniform on [0, 1) ---- */

static double falling(double u) {
    return 0.4 * (1 - u) * (1 - u);
}
static double wavy(double u) {
    return u > 0.97 ? 0.12 : u > 0.6 ? 0.01 : u > 0.4 ? 0.2 : u > 0.2 ? 0.03 : 0.4;
}
static double just_above(double u) {
    (void)u;
    return 0.0501;
}
static double bad(double u) {
    return 0.2 + 0.2 * (1 - u);
}
/* Above the target at the top score and, by less, at the two top scores together, the first of them
 * about as large as the first start of a run: who then passes over the top score as too small meets
 * the second with too few errors. */
static double levels(double u) {
    return u >= 0.9 ? 0.06 : u >= 0.8 ? 0.0402 : 0.3;
}
static double easy(double u) {
    return u > 0.5 ? 0.01 : 0.01 + 0.6 * (0.5 - u);
}
static double good_half(double u) {
    return u > 0.4 ? 0.01 : 0.4;
}
static double steep(double u) {
    return u > 0.7 ? 0.005 : 0.4;
}

typedef struct world {
    const char *name;
    int64_t n;
    double target;
    double step; /* scores are rounded down to multiples of it; 0: they are not */
    double (*error[CLASSES])(double);
    double share[CLASSES]; /* of the classes that are predicted */
} world;

static const world worlds[] = {
    {"monotone", 1000, 0.05, 0, {falling}, {1}},
    {"not monotone", 1000, 0.05, 0, {wavy}, {1}},
    {"not monotone", 5000, 0.05, 0, {wavy}, {1}},
    {"hopeless", 1000, 0.05, 0, {bad}, {1}},
    {"just above the target everywhere", 1000, 0.05, 0, {just_above}, {1}},
    {"tied: ten scores", 1170, 0.05, 0.1, {levels}, {1}},
    {"tied: a hundred scores", 1000, 0.05, 0.01, {wavy}, {1}},
    {"few rows", 100, 0.1, 0, {good_half}, {1}},
    {"six classes, by class",
     3000,
     0.05,
     0,
     {falling, wavy, bad, just_above, easy, steep},
     {0.3, 0.2, 0.1, 0.1, 0.2, 0.1}},
};
enum { WORLDS = sizeof worlds / sizeof *worlds };

/* risk[class][i]: true error rate of scores of at least i / CELLS */
static double risk[CLASSES][CELLS + 1];

static void tabulate(const world *w) {
    for (int c = 0; c < CLASSES && w->error[c]; c++) {
        double sum = 0;
        for (int i = CELLS - 1; i >= 0; i--) {
            sum += w->error[c]((i + 0.5) / CELLS);
            risk[c][i] = sum / (CELLS - i);
        }
        risk[c][CELLS] = 0;
    }
}

/* True coverage and error rate of a class at a threshold; NaN accepts nothing. Between cells: the
 * rate at the threshold is a mean of two cells', and within rounding of that. */
static double true_rate(int c, double threshold) {
    double place = threshold * CELLS;
    int cell = (int)place;
    if (isnan(threshold) || cell >= CELLS)
        return 0;
    return risk[c][cell] +
           (place - cell) * (risk[c][cell + 1 < CELLS ? cell + 1 : cell] - risk[c][cell]);
}

static double coverage(const world *w, double threshold) {
    double from = isnan(threshold) ? 1 : threshold;
    return 1 - (w->step > 0 ? w->step * ceil(from / w->step - 1e-6) : from);
}

static void draw(const world *w, la_answer *list) {
    for (int64_t i = 0; i < w->n; i++) {
        double pick = uniform(), u = uniform();
        int c = 0;
        while (c < CLASSES - 1 && pick >= w->share[c])
            pick -= w->share[c++];
        bool right = uniform() >= w->error[c](u);
        if (w->step > 0)
            u = (floor(u / w->step) + 1e-9) * w->step;
        list[i] = (la_answer){.score = u, .second = NAN, .class = c, .right = right};
    }
}

/* ---- procedures: the threshold of rows sorted from the highest score down ---- */

static int by_score(const void *a, const void *b) {
    const la_answer *x = a, *y = b;
    return (x->score < y->score) - (x->score > y->score);
}

static double by_grid(const la_answer *rows, int64_t n, double e, double d) {
    double level = 0, best = NAN;
    int64_t k = 0, errors = 0;
    for (int g = GRID - 1; g >= 0; g--) {
        double score = (double)g / GRID;
        for (; k < n && rows[k].score >= score; k++)
            errors += !rows[k].right;
        level += d / GRID;
        if (k && la_binomial_cdf(k, errors, e) <= level)
            best = score;
        else
            level = 0;
    }
    return best;
}

static double by_split(la_answer *rows, int64_t n, double e, double d) {
    int64_t n_first = 0, errors = 0, start = 0, k = 0;
    la_answer *copy = malloc(2 * (size_t)n * sizeof *copy), *rest = copy + n;
    double least = 2, best = NAN;
    for (int64_t i = 0, n_rest = 0; i < n; i++) {
        if (uniform() < 0.2)
            copy[n_first++] = rows[i];
        else
            rest[n_rest++] = rows[i];
    }
    int64_t n_rest = n - n_first;
    for (int64_t i = 0; i < n_first; i++) {
        errors += !copy[i].right;
        double rate = ((double)errors + 0.5) / (double)(i + 1),
               scale = (double)n_rest / (double)n_first;
        int64_t expected = (int64_t)((double)(i + 1) * scale);
        double tail = la_binomial_cdf(expected, (int64_t)(rate * (double)expected), e);
        if (tail < least) {
            least = tail;
            start = i;
        }
    }
    errors = 0;
    for (int64_t i = start; i < n_first; i++) {
        for (; k < n_rest && rest[k].score >= copy[i].score; k++)
            errors += !rest[k].right;
        if (!k || la_binomial_cdf(k, errors, e) > d)
            break;
        best = copy[i].score;
    }
    free(copy);
    return best;
}

static double by_one_start(const la_answer *rows, int64_t n, double e, double d) {
    int64_t errors = 0, least = la_binomial_least(e, d), start = n / 8 > least ? n / 8 : least;
    double best = NAN;
    for (int64_t k = 1; k <= n; k++) {
        errors += !rows[k - 1].right;
        if (k >= start && la_binomial_cdf(k, errors, e) > d)
            break;
        if (k >= start && (k == n || rows[k].score < rows[k - 1].score))
            best = rows[k - 1].score;
    }
    return best;
}

static double by_eye(const la_answer *rows, int64_t n, double e) {
    int64_t errors = 0;
    double best = NAN;
    for (int64_t k = 1; k <= n; k++) {
        errors += !rows[k - 1].right;
        if ((double)errors <= e * (double)k && (k == n || rows[k].score < rows[k - 1].score))
            best = rows[k - 1].score;
    }
    return best;
}

static double by_oracle(const world *w, int c) {
    int step = w->step > 0 ? (int)(w->step * CELLS + 0.5) : 1;
    for (int i = 0; i < CELLS; i += step)
        if (risk[c][i] <= w->target)
            return (double)i / CELLS;
    return NAN;
}

typedef struct tally {
    double coverage;
    int64_t violated, nothing, above_bound;
} tally;

static void count(const world *w, const double thresholds[CLASSES], const double *upper, tally *t) {
    double accepted = 0;
    bool violated = false, above_bound = false;
    for (int c = 0; c < CLASSES && w->error[c]; c++) {
        double rate = true_rate(c, thresholds[c]);
        accepted += w->share[c] * coverage(w, thresholds[c]);
        violated |= rate > w->target;
        above_bound |= upper && rate > upper[c];
    }
    t->coverage += accepted;
    t->violated += violated;
    t->above_bound += above_bound;
    t->nothing += accepted == 0;
}

static void one_draw(const world *w, double delta, la_answer *list, tally tallies[PROCEDURES]) {
    la_threshold_options options = {.score = LA_SCORE_CONFIDENCE,
                                    .limited = LA_SCORE_NONE,
                                    .target_error = w->target,
                                    .delta = delta,
                                    .by_class = w->error[1] != NULL};
    la_answers answers = {.list = list, .n = w->n, .n_classes = CLASSES};
    double found[PROCEDURES][CLASSES], upper[CLASSES];
    la_threshold threshold;
    la_error err = {0};
    int64_t n_classes = options.by_class ? CLASSES : 1;
    draw(w, list);
    if (la_threshold_of(&options, &answers, &threshold, &err) != LA_OK)
        exit(5);
    for (int c = 0; c < n_classes; c++) {
        found[0][c] = options.by_class ? threshold.classes[c].value : threshold.all.value;
        upper[c] = options.by_class ? threshold.classes[c].upper : threshold.all.upper;
    }
    la_threshold_free(&threshold);
    la_answer *sorted = malloc((size_t)w->n * sizeof *sorted);
    for (int c = 0; c < n_classes; c++) {
        int64_t n = 0;
        double d = 1 - pow(1 - delta, 1 / (double)n_classes);
        for (int64_t i = 0; i < w->n; i++)
            if (list[i].class == c)
                sorted[n++] = list[i];
        qsort(sorted, (size_t)n, sizeof *sorted, by_score);
        found[1][c] = by_grid(sorted, n, w->target, d);
        found[2][c] = by_split(sorted, n, w->target, d);
        found[3][c] = by_one_start(sorted, n, w->target, d);
        found[4][c] = by_eye(sorted, n, w->target);
    }
    free(sorted);
    for (int p = 0; p < PROCEDURES; p++)
        count(w, found[p], p ? NULL : upper, &tallies[p]);
}

int main(int argc, char **argv) {
    static const char *const names[] = {"laplora", "grid", "split", "start", "by eye"};
    int64_t draws = argc > 1 ? atoll(argv[1]) : 2000;
    int only = argc > 2 ? atoi(argv[2]) : -1, failed = 0;
    double delta = 0.05, most = delta + 2 * sqrt(delta * (1 - delta) / (double)draws);
    printf("%lld draws, D = %g: at most %.4f may be violated (D and two standard errors)\n",
           (long long)draws, delta, most);
    for (int i = 0; i < WORLDS; i++) {
        const world *w = &worlds[i];
        tally tallies[PROCEDURES] = {{0}}, oracle = {0};
        double best[CLASSES];
        if (only >= 0 && i != only)
            continue;
        la_answer *list = malloc((size_t)w->n * sizeof *list);
        if (!list)
            exit(5);
        tabulate(w);
        for (int64_t r = 0; r < draws; r++)
            one_draw(w, delta, list, tallies);
        for (int c = 0; c < CLASSES && w->error[c]; c++)
            best[c] = by_oracle(w, c);
        count(w, best, NULL, &oracle);
        printf("\n%s, %lld rows, E = %g\n%-10s %9s %9s %9s %12s\n", w->name, (long long)w->n,
               w->target, "", "violated", "coverage", "nothing", "above bound");
        for (int p = 0; p < PROCEDURES; p++) {
            const tally *t = &tallies[p];
            double n = (double)draws;
            printf("%-10s %9.4f %9.4f %9.4f", names[p], (double)t->violated / n, t->coverage / n,
                   (double)t->nothing / n);
            if (p)
                printf("\n");
            else
                printf(" %12.4f\n", (double)t->above_bound / n);
        }
        printf("%-10s %9.4f %9.4f\n", "oracle", 0.0, oracle.coverage);
        failed |= (double)tallies[0].violated / (double)draws > most;
        fflush(stdout);
        free(list);
    }
    printf("\n%s\n", failed ? "the promise is broken" : "the promise is kept");
    return failed;
}

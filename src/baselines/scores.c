#include "baselines/scores.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

/* The largest logit, and the sum of exp(f - top) over the other classes. */
typedef struct peak {
    int64_t at;
    double top, others;
} peak;

static peak find_peak(int64_t n_classes, const float *logits) {
    peak p = {0};
    for (int64_t c = 1; c < n_classes; c++)
        p.at = logits[c] > logits[p.at] ? c : p.at;
    p.top = (double)logits[p.at];
    for (int64_t c = 0; c < n_classes; c++)
        p.others += c == p.at ? 0 : exp((double)logits[c] - p.top);
    return p;
}

/* 1 - max p from the other classes: nothing cancels, and confident rows keep their order */
double la_score_max_softmax(int64_t n_classes, const float *logits) {
    peak p = find_peak(n_classes, logits);
    return p.others / (1 + p.others);
}

/* log Z - E_p(f - top), a sum of terms that are not negative */
double la_score_entropy(int64_t n_classes, const float *logits) {
    peak p = find_peak(n_classes, logits);
    double below = 0;
    for (int64_t c = 0; c < n_classes; c++) {
        double gap = p.top - (double)logits[c];
        below += gap * exp(-gap);
    }
    return log1p(p.others) + below / (1 + p.others);
}

double la_score_energy(int64_t n_classes, const float *logits) {
    peak p = find_peak(n_classes, logits);
    return -(p.top + log1p(p.others));
}

typedef struct scored {
    double score;
    bool positive;
} scored;

static int compare(const void *a, const void *b) {
    double x = ((const scored *)a)->score, y = ((const scored *)b)->score;
    return (x > y) - (x < y);
}

double la_auroc(int64_t n, const double *score, const bool *positive, la_error *err) {
    int64_t positives = 0, negatives = 0;
    uint64_t pairs = 0; /* twice the pairs with the positive above the negative */
    scored *rows = la_alloc((size_t)n, sizeof *rows, err);
    if (!rows)
        return NAN;
    for (int64_t i = 0; i < n; i++) {
        rows[i] = (scored){score[i], positive[i]};
        if (isnan(score[i])) {
            (void)la_fail(err, LA_BAD_INPUT, "auroc: score %lld is NaN", (long long)i);
            free(rows);
            return NAN;
        }
    }
    qsort(rows, (size_t)n, sizeof *rows, compare);
    for (int64_t i = 0; i < n;) {
        int64_t from = i, new_positives = 0;
        for (; i < n && rows[i].score == rows[from].score; i++)
            new_positives += rows[i].positive;
        int64_t new_negatives = i - from - new_positives;
        pairs += (uint64_t)new_positives * (uint64_t)(2 * negatives + new_negatives);
        positives += new_positives;
        negatives += new_negatives;
    }
    free(rows);
    if (!positives || !negatives)
        return NAN;
    return (double)pairs / (2.0 * (double)positives * (double)negatives);
}

#include "likelihood/shares.h"
#include "base/digest.h"
#include "base/list.h"
#include "base/memory.h"
#include "base/numbers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* to[C] = from[C] over its sum, or over the sum of those at classes that `within` has; false: it is
 * 0. Large numbers have a finite sum. */
static bool normalise(int64_t n, const double *from, const double *within, double *to) {
    double most = 0, sum = 0;
    for (int64_t c = 0; c < n; c++)
        most = fmax(most, within[c] > 0 ? from[c] : 0);
    for (int64_t c = 0; c < n && most > 0; c++)
        sum += to[c] = within[c] > 0 ? from[c] / most : 0;
    for (int64_t c = 0; c < n && most > 0; c++)
        to[c] /= sum;
    return most > 0;
}

la_status la_class_shares_open(int64_t n_classes, const double *rows, const double *reference,
                               const double *answers, const char *path, la_class_shares *shares,
                               la_error *err) {
    size_t c = (size_t)n_classes;
    *shares = (la_class_shares){.n_classes = n_classes};
    if (!rows)
        return LA_OK;
    double *memory = la_alloc((answers ? 5 + c : 5) * c, sizeof *memory, err);
    if (!memory)
        return err->status;
    *shares = (la_class_shares){.n_classes = n_classes,
                                .training = memory,
                                .shares = memory + c,
                                .errors = memory + 2 * c,
                                .ratio = memory + 3 * c,
                                .reference = memory + 4 * c,
                                .answers = answers ? memory + 5 * c : NULL};
    if (answers)
        memcpy(shares->answers, answers, c * c * sizeof *answers);
    if (!normalise(n_classes, rows, rows, shares->training))
        return la_fail(err, LA_BAD_INPUT,
                       "%s: class_rows: no class has a calibration row; the file is damaged", path);
    if (!normalise(n_classes, reference ? reference : rows, shares->training, shares->reference))
        return la_fail(err, LA_BAD_INPUT,
                       "%s: class_means: no class with a calibration row has a probability; the "
                       "file is damaged",
                       path);
    for (size_t k = 0; k < c; k++) {
        shares->shares[k] = shares->training[k];
        shares->errors[k] = NAN;
        shares->ratio[k] = 1;
    }
    return LA_OK;
}

void la_class_shares_free(la_class_shares *shares) {
    free(shares->training);
    *shares = (la_class_shares){0};
}

la_status la_class_shares_parse(const char *option, const char *text, double **values, int64_t *n,
                                la_error *err) {
    la_list list = {0};
    *values = NULL;
    LA_TRY(la_list_split(option, text, &list, err));
    double *numbers = la_alloc(list.n, sizeof *numbers, err);
    for (size_t i = 0; numbers && i < list.n && err->status == LA_OK; i++)
        if (!la_number_parse(list.items[i], &numbers[i]))
            (void)la_fail(err, LA_USAGE,
                          "%s: \"%.40s\" is no number; expected a share for each class, as "
                          "0.7,0.2,0.1, or auto",
                          option, list.items[i]);
    *n = (int64_t)list.n;
    la_list_free(&list);
    if (err->status == LA_OK)
        *values = numbers;
    else
        free(numbers);
    return err->status;
}

/* Ratios by their logarithms: no share is too small for a quotient. A class about whose share
 * nothing could be learnt is not re-weighted. */
void la_class_shares_finish(la_class_shares *s) {
    double most = -INFINITY;
    for (int64_t c = 0; c < s->n_classes; c++) {
        bool unknown = s->is_estimate && !(s->training[c] > 0 && s->reference[c] > 0);
        s->ratio[c] = unknown            ? 0
                      : s->shares[c] > 0 ? log(s->shares[c]) - log(s->training[c])
                                         : -INFINITY;
        most = fmax(most, s->ratio[c]);
    }
    for (int64_t c = 0; c < s->n_classes; c++)
        s->ratio[c] = exp(s->ratio[c] - most);
    s->is_set = true;
}

static la_status check_share(const la_class_shares *s, const char *what, int64_t c, double share,
                             la_error *err) {
    if (!(share >= 0) || !(share <= 1 + LA_SHARES_ROUND))
        return la_fail(err, LA_USAGE,
                       "%s: class %lld has share %g; expected a number above 0, at "
                       "most 1",
                       what, (long long)c, share);
    if (!(s->training[c] > 0) && share > 0)
        return la_fail(err, LA_USAGE,
                       "%s: class %lld has share %g, and had no calibration row: nothing is known "
                       "of its probabilities at any share; give 0, or fit with rows of it",
                       what, (long long)c, share);
    if (s->training[c] > 0 && !(share > 0))
        return la_fail(err, LA_USAGE,
                       "%s: class %lld has share 0, which makes it impossible whatever the row "
                       "says; give a small share, as 0.001",
                       what, (long long)c);
    return LA_OK;
}

la_status la_class_shares_set(la_class_shares *s, const char *what, const double *given, int64_t n,
                              la_error *err) {
    double sum = 0;
    if (n != s->n_classes)
        return la_fail(err, LA_USAGE, "%s: %lld shares, expected %lld, one for each class in order",
                       what, (long long)n, (long long)s->n_classes);
    for (int64_t c = 0; c < n; c++) {
        LA_TRY(check_share(s, what, c, given[c], err));
        sum += given[c];
    }
    if (!(fabs(sum - 1) <= LA_SHARES_ROUND))
        return la_fail(err, LA_USAGE, "%s: the shares sum to %.6g, expected 1", what, sum);
    for (int64_t c = 0; c < n; c++) {
        s->shares[c] = given[c] / sum;
        s->errors[c] = NAN;
    }
    s->is_estimate = false;
    s->n_rows = 0;
    la_class_shares_finish(s);
    return LA_OK;
}

la_status la_class_shares_name(const la_class_shares *s, char *text, size_t size, la_error *err) {
    char whole[LA_DIGEST_TEXT];
    if (s->is_estimate) { /* of other shares with every file */
        snprintf(text, size, "%s", LA_SHARES_ESTIMATED);
        return LA_OK;
    }
    la_digest *digest = la_digest_new(err);
    if (!digest)
        return err->status;
    for (int64_t c = 0; c < s->n_classes; c++)
        la_digest_add_number(digest, s->shares[c]);
    la_digest_finish(digest, whole);
    snprintf(text, size, "%s", whole);
    return LA_OK;
}

/* Where all that is left has the probability 0, nothing is known but the shares. */
void la_class_shares_apply(const la_class_shares *s, double *probs) {
    double sum = 0, most = 0;
    for (int64_t c = 0; c < s->n_classes; c++)
        most = fmax(most, probs[c] *= s->ratio[c]);
    for (int64_t c = 0; c < s->n_classes; c++)
        sum += probs[c] = most > 0 ? probs[c] / most : s->shares[c];
    for (int64_t c = 0; c < s->n_classes; c++)
        probs[c] /= sum;
}

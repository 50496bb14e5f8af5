#include "output/rare_intervals.h"
#include "base/binomial.h"
#include "base/memory.h"
#include "base/statistics.h"

#include <math.h>
#include <stdlib.h>

static const double TAIL = 0.025, Z = 1.959963984540054;
/* rows of a variance that is known in advance; halvings of an interval of quantiles */
enum { PRIOR_ROWS = 5, PRIOR_ANSWERS = 50, HALVINGS = 60, LARGE_SHAPE = 10000 };

/* Quantile of Student's t at 1 - TAIL, freedom at least 4: Cornish and Fisher's expansion
 * (Abramowitz and Stegun, 26.7.5). */
static double student(double freedom) {
    double z2 = Z * Z, f = freedom;
    double g1 = Z * (z2 + 1) / 4, g2 = Z * ((5 * z2 + 16) * z2 + 3) / 96;
    double g3 = Z * (((3 * z2 + 19) * z2 + 17) * z2 - 15) / 384;
    double g4 = Z * ((((79 * z2 + 776) * z2 + 1482) * z2 - 1920) * z2 - 945) / 92160;
    return Z + g1 / f + g2 / (f * f) + g3 / (f * f * f) + g4 / (f * f * f * f);
}

/* x of a gamma distribution of that mean and variance above which a share of TAIL lies, or of all
 * but TAIL. Of a large shape by Wilson and Hilferty's cube root. */
static double gamma_quantile(double mean, double variance, bool upper) {
    double shape = mean * mean / variance, lo = 0, hi = mean + 20 * sqrt(variance);
    double tail = upper ? TAIL : 1 - TAIL;
    if (shape > LARGE_SHAPE)
        return mean * pow(1 - 1 / (9 * shape) + (upper ? Z : -Z) / (3 * sqrt(shape)), 3);
    for (int i = 0; i < HALVINGS; i++) {
        double middle = (lo + hi) / 2;
        bool above = la_chi_squared_tail(2 * shape * middle / mean, 2 * shape) > tail;
        *(above ? &lo : &hi) = middle;
    }
    return (lo + hi) / 2;
}

la_interval la_exact_share(int64_t n, int64_t hits) {
    return (la_interval){hits ? 1 - la_binomial_upper(n, n - hits, TAIL) : 0,
                         la_binomial_upper(n, hits, TAIL)};
}

la_interval la_loss_interval(int64_t n, double mean, double variance, double unseen,
                             double unseen_square) {
    double more = mean + unseen / (double)n;
    double spread = variance + unseen_square / ((double)n * (double)n);
    return (la_interval){mean > 0 && variance > 0 ? gamma_quantile(mean, variance, false)
                                                  : fmax(mean, 0),
                         more > 0 && spread > 0 ? gamma_quantile(more, spread, true) : mean};
}

la_interval la_uneven_share_interval(double share, double variance, int64_t n_wrong) {
    double n = (double)n_wrong, plain = share * (1 - share) / n;
    double factor = plain > 0 ? (n * variance / plain + PRIOR_ANSWERS) / (n + PRIOR_ANSWERS) : 1;
    factor = fmax(factor, 1);
    double z = student(n + PRIOR_ROWS), weight = z * z * factor / n;
    double middle = (share + weight / 2) / (1 + weight);
    double half = sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight);
    return (la_interval){fmax(0, middle - half), fmin(1, middle + half)};
}

/* ---- the area under the ROC curve ---- */

/* Hanley and McNeil's variance (Radiology 143, 1982), with the two sizes in the middle of both. */
static double area_variance(double a, double n_right, double n_wrong) {
    double n = (n_right + n_wrong) / 2 - 1;
    return a * (1 - a) * (1 + n * (1 - a) / (2 - a) + n * a / (1 + a)) / (n_right * n_wrong);
}

/* The end to one side of those areas that lie within `far` standard deviations. */
static double area_end(double area, double side, double far, double factor, double n_right,
                       double n_wrong) {
    double in = area, out = side;
    for (int i = 0; i < HALVINGS; i++) {
        double a = (in + out) / 2, off = a - area;
        bool within = off * off <= far * far * factor * area_variance(a, n_right, n_wrong);
        *(within ? &in : &out) = a;
    }
    return in;
}

/* Variance of the mean of n values by their sum and sum of squares. */
static double variance_of_mean(double sum, double square, double n) {
    return n > 1 ? fmax(0, square - sum * sum / n) / (n - 1) / n : 0;
}

/* One past the last row of the score of row `from`; wrong: of them. */
static int64_t tie_end(const la_ranked *rows, int64_t n, int64_t from, int64_t *wrong) {
    int64_t end = from;
    for (*wrong = 0; end < n && rows[end].key == rows[from].key; end++)
        *wrong += rows[end].wrong;
    return end;
}

static la_interval area_interval(const la_ranked *rows, int64_t n, int64_t n_wrong) {
    double n_right = (double)(n - n_wrong), wrong_all = (double)n_wrong;
    /* share of right rows above a wrong one, of wrong rows below a right one */
    double sums[2] = {0, 0}, squares[2] = {0, 0}, right_above = 0, wrong_above = 0;
    for (int64_t i = 0, wrong, end; i < n; i = end) {
        end = tie_end(rows, n, i, &wrong);
        double w = (double)wrong, r = (double)(end - i - wrong);
        double below = (right_above + r / 2) / n_right;
        double above = 1 - (wrong_above + w / 2) / wrong_all;
        sums[0] += w * below;
        squares[0] += w * below * below;
        sums[1] += r * above;
        squares[1] += r * above * above;
        right_above += r;
        wrong_above += w;
    }
    double area = sums[0] / wrong_all, rarer = fmin(n_right, wrong_all) - 1;
    double own = variance_of_mean(sums[0], squares[0], wrong_all) +
                 variance_of_mean(sums[1], squares[1], n_right);
    double usual = area_variance(area, n_right, wrong_all);
    double factor =
        own > 0 && usual > 0 ? (rarer * own / usual + PRIOR_ROWS) / (rarer + PRIOR_ROWS) : 1;
    double far = student(rarer + PRIOR_ROWS);
    return (la_interval){area_end(area, 0, far, factor, n_right, wrong_all),
                         area_end(area, 1, far, factor, n_right, wrong_all)};
}

/* ---- selective risk ---- */

/* Weight of each place in the mean of selective risks, the sum of 1/k over k from the place on;
 * rows of one score share theirs. */
static void set_weights(const la_ranked *rows, int64_t n, double *weights) {
    double sum = 0;
    for (int64_t i = n; i-- > 0;)
        weights[i] = sum += 1 / (double)(i + 1);
    for (int64_t i = 0, wrong, end; i < n; i = end) {
        end = tie_end(rows, n, i, &wrong);
        sum = 0;
        for (int64_t k = i; k < end; k++)
            sum += weights[k];
        for (int64_t k = i; k < end; k++)
            weights[k] = sum / (double)(end - i);
    }
}

/* The influence of a row on the risk: its own share, and what it does to the places of those
 * behind it, the mean of -1/u over the wrong ones. The oracle's risk, as a function of the share w
 * of wrong rows, w + (1 - w) log(1 - w), has the slope -log(1 - w). */
static void risk_intervals(const la_ranked *rows, int64_t n, int64_t n_wrong, const double *weights,
                           la_rank_intervals *out) {
    double size = (double)n, sums[2] = {0, 0}, squares[2] = {0, 0}, risk = 0, oracle = 0;
    double slope = n_wrong < n ? -log((double)(n - n_wrong) / size) : log(size), behind = 0;
    for (int64_t k = n - n_wrong + 1; k <= n; k++)
        oracle += (double)(k - (n - n_wrong)) / (double)k;
    for (int64_t i = n; i > 0;) {
        int64_t first = i - 1, wrong = 0;
        while (first > 0 && rows[first - 1].key == rows[i - 1].key)
            first--;
        for (int64_t k = first; k < i; k++)
            wrong += rows[k].wrong;
        double share = (double)wrong / (double)(i - first);
        for (int64_t k = i; k-- > first;) {
            double loss = rows[k].wrong ? weights[k] : 0, influence = loss - behind;
            double above = influence - (rows[k].wrong ? slope : 0);
            risk += loss;
            sums[0] += influence;
            squares[0] += influence * influence;
            sums[1] += above;
            squares[1] += above * above;
            behind += share / (double)(k + 1);
        }
        i = first;
    }
    double mean[2] = {risk / size, fmax(0, risk - oracle) / size};
    for (int e = 0; e < 2; e++) {
        double variance = fmax(0, squares[e] - sums[e] * sums[e] / size) / (size * size);
        /* -log u has a mean of 1 and a mean square of 2 */
        *(e ? &out->eaurc : &out->aurc) = la_loss_interval(n, mean[e], variance, 1, 2);
    }
}

la_status la_rank_intervals_of(const la_ranked *rows, int64_t n, la_rank_intervals *out,
                               la_error *err) {
    double *weights = la_alloc((size_t)n, sizeof *weights, err);
    int64_t n_wrong = 0;
    if (!weights)
        return err->status;
    for (int64_t i = 0; i < n; i++)
        n_wrong += rows[i].wrong;
    set_weights(rows, n, weights);
    risk_intervals(rows, n, n_wrong, weights, out);
    out->auroc = (la_interval){NAN, NAN};
    if (n_wrong && n_wrong < n)
        out->auroc = area_interval(rows, n, n_wrong);
    out->aurc.hi = fmin(out->aurc.hi, 1);
    out->eaurc.hi = fmin(out->eaurc.hi, 1);
    free(weights);
    return LA_OK;
}

#include "output/coverage_interval.h"
#include "base/binomial.h"

static const double PART = 0.05 / 4;

/* The fewest rows down to which the error rate is shown to be above risk; n + 1: of no number. */
static int64_t shown_above(const la_ranked *rows, int64_t n, double risk) {
    int64_t errors = 0, k = n, shown = n + 1;
    for (int64_t i = 0; i < n; i++)
        errors += rows[i].wrong;
    /* without a wrong row less, the test only gets clearer */
    for (bool test = true; k > 0;) {
        if (test && la_binomial_cdf(k, k - errors, 1 - risk) > PART)
            break;
        shown = k;
        double key = rows[k - 1].key;
        for (test = false; k > 0 && rows[k - 1].key == key; k--) {
            errors -= rows[k - 1].wrong;
            test |= rows[k - 1].wrong;
        }
    }
    return shown;
}

la_interval la_coverage_interval(const la_ranked *rows, int64_t n, double risk) {
    int64_t least = la_selection_by_risk(rows, n, risk, PART, 0).n_accepted;
    int64_t most = shown_above(rows, n, risk);
    return (la_interval){least ? 1 - la_binomial_upper(n, n - least, PART) : 0,
                         most < n ? la_binomial_upper(n, most, PART) : 1};
}

#include "bayes/spectrum.h"

#include <math.h>

void la_spectrum_sums(const la_spectrum *spectrum, double lambda, la_shares *shares,
                      double *log_det) {
    la_shares sums = {0};
    double log_sum = 0;
    for (int64_t i = 0; i < spectrum->rows; i++)
        for (int64_t j = 0; j < spectrum->cols; j++) {
            double x = la_spectrum_at(spectrum, i, j) / lambda, share = x / (1 + x);
            sums.sum += share;
            sums.slope += share * (1 - share);
            log_sum += log_det ? log1p(x) : 0;
        }
    if (shares)
        *shares = sums;
    if (log_det)
        *log_det = log_sum;
}

#include "bayes/spectrum.h"

#include <math.h>

la_shares la_spectrum_shares(const la_spectrum *spectrum, double lambda) {
    la_shares shares = {0};
    for (int64_t i = 0; i < spectrum->rows; i++)
        for (int64_t j = 0; j < spectrum->cols; j++) {
            double x = la_spectrum_at(spectrum, i, j) / lambda, share = x / (1 + x);
            shares.sum += share;
            shares.slope += share * (1 - share);
        }
    return shares;
}

double la_spectrum_log_det(const la_spectrum *spectrum, double lambda) {
    double sum = 0;
    for (int64_t i = 0; i < spectrum->rows; i++)
        for (int64_t j = 0; j < spectrum->cols; j++)
            sum += log1p(la_spectrum_at(spectrum, i, j) / lambda);
    return sum;
}

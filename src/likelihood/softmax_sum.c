#include "likelihood/softmax_sum.h"

#include <math.h>

la_softmax_sum la_softmax(int64_t n_classes, double *values) {
    la_softmax_sum sum = {0};
    double others = 0, largest;
    for (int64_t c = 1; c < n_classes; c++)
        sum.top = values[c] > values[sum.top] ? c : sum.top;
    largest = values[sum.top];
    for (int64_t c = 0; c < n_classes; c++) {
        values[c] = exp(values[c] - largest);
        others += c == sum.top ? 0 : values[c];
    }
    for (int64_t c = 0; c < n_classes; c++)
        values[c] /= 1 + others;
    sum.rest = others / (1 + others);
    sum.log_sum = largest + log1p(others);
    return sum;
}

la_status la_rows_check(const char *what, int64_t n, int64_t width, const float *values,
                        int64_t n_classes, const int64_t *labels, la_error *err) {
    if (n < 1 || width < 1)
        return la_fail(err, LA_BAD_INPUT, "%s: %lld rows of %lld numbers, expected at least 1 of 1",
                       what, (long long)n, (long long)width);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < width; j++)
            if (!isfinite(values[i * width + j]))
                return la_fail(err, LA_BAD_INPUT, "%s: row %lld, column %lld is %g", what,
                               (long long)i, (long long)j, (double)values[i * width + j]);
        if (labels && (labels[i] < 0 || labels[i] >= n_classes))
            return la_fail(err, LA_BAD_INPUT, "%s: row %lld has label %lld, expected 0 to %lld",
                           what, (long long)i, (long long)labels[i], (long long)n_classes - 1);
    }
    return LA_OK;
}

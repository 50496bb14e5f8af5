#include "output/resampling.h"

static void count_above(const uint32_t *bits, int64_t n, const uint32_t *above, int n_above,
                        uint32_t *copies) {
    for (int64_t i = 0; i < n; i++)
        copies[i] = 0;
    for (int k = 0; k < n_above; k++)
        for (int64_t i = 0; i < n; i++)
            copies[i] += bits[i] >= above[k];
}

const la_resampling la_resampling_table = {.softmax_workspace = la_softmax_workspace,
                                           .gaussian_workspace = la_gaussian_workspace,
                                           .softmax = la_softmax_measure,
                                           .softmax_drawn = la_softmax_measure_drawn,
                                           .gaussian = la_gaussian_measure,
                                           .count_above = count_above};

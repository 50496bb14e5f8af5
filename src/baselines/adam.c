#include "baselines/adam.h"

#include <math.h>

static const double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;

void la_adam_step(la_team team, int64_t n, int64_t step, double rate, const float *gradient,
                  float *first, float *second, float *theta) {
    double debias1 = 1 - pow(beta1, (double)step), debias2 = 1 - pow(beta2, (double)step);
#pragma omp parallel for schedule(static) num_threads(team.threads)
    for (int64_t i = 0; i < n; i++) {
        double g = (double)gradient[i];
        double m = beta1 * (double)first[i] + (1 - beta1) * g;
        double v = beta2 * (double)second[i] + (1 - beta2) * g * g;
        first[i] = (float)m;
        second[i] = (float)v;
        theta[i] = (float)((double)theta[i] - rate * (m / debias1) / (sqrt(v / debias2) + epsilon));
    }
}

/* Adam (Kingma and Ba, arXiv 1412.6980), without weight decay: what an adapter is commonly trained
 * with. */
#ifndef LA_BASELINES_ADAM_H
#define LA_BASELINES_ADAM_H

#include "base/team.h"

#include <stdint.h>

/* Step number `step`, from 1 on: theta[n] by the gradient[n] of a loss; first[n] and second[n] are
 * the moments, zeros before the first step. */
void la_adam_step(la_team team, int64_t n, int64_t step, double rate, const float *gradient,
                  float *first, float *second, float *theta);

#endif

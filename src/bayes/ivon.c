#include "bayes/ivon.h"
#include "base/memory.h"
#include "base/random.h"

#include <math.h>
#include <stdlib.h>

/* Parameters that a thread takes at a time; normal numbers come in fours. */
enum { CHUNK = 4096, ARRAYS = 6 };

la_status la_ivon_open(la_team team, int64_t n, double rows, uint64_t seed, la_ivon *ivon,
                       la_error *err) {
    *ivon = (la_ivon){.n = n,
                      .rows = rows,
                      .temper = 1,
                      .beta1 = 0.9,
                      .beta2 = 0.9999,
                      .team = team,
                      .seed = seed};
    float *at = la_alloc((size_t)n * ARRAYS, sizeof *at, err);
    if (!at)
        return err->status;
    ivon->memory = at;
    float **arrays[ARRAYS] = {&ivon->mean,       &ivon->hessian, &ivon->momentum,
                              &ivon->prior_mean, &ivon->prior,   &ivon->draw};
    for (int i = 0; i < ARRAYS; i++)
        *arrays[i] = at + i * n;
    return LA_OK;
}

void la_ivon_close(la_ivon *ivon) {
    free(ivon->memory);
    *ivon = (la_ivon){0};
}

void la_ivon_sample(la_ivon *v, float *theta) {
#pragma omp parallel for schedule(static) num_threads(v->team.threads)
    for (int64_t from = 0; from < v->n; from += CHUNK) {
        double eps[CHUNK];
        int64_t n = v->n - from < CHUNK ? v->n - from : CHUNK;
        la_random_normal(v->seed, (uint64_t)v->steps, (uint64_t)from, (size_t)n, eps);
        for (int64_t j = 0; j < n; j++) {
            int64_t i = from + j;
            double precision = v->temper * v->rows * ((double)v->hessian[i] + (double)v->prior[i]);
            v->draw[i] = (float)eps[j];
            theta[i] = (float)((double)v->mean[i] + eps[j] / sqrt(precision));
        }
    }
}

void la_ivon_step(la_ivon *v, double rate, const float *gradient) {
    v->steps++;
    double debias = 1 / (1 - pow(v->beta1, (double)v->steps));
    double keep = v->beta2, take = 1 - keep, counted = v->temper * v->rows;
#pragma omp parallel for schedule(static) num_threads(v->team.threads)
    for (int64_t i = 0; i < v->n; i++) {
        double g = (double)gradient[i], delta = (double)v->prior[i], h = (double)v->hessian[i];
        double all = h + delta, off = (double)v->mean[i] - (double)v->prior_mean[i];
        double hat = g * (double)v->draw[i] * sqrt(counted * all), miss = h - hat;
        double momentum = v->beta1 * (double)v->momentum[i] + (1 - v->beta1) * g;
        h = keep * h + take * hat + 0.5 * take * take * miss * miss / all;
        double move = (momentum * debias + delta * off) / (h + delta);
        if (v->clip > 0) {
            double most = v->clip / sqrt(v->rows * (h + delta));
            move = move > most ? most : move < -most ? -most : move;
        }
        v->momentum[i] = (float)momentum;
        v->hessian[i] = (float)h;
        v->mean[i] = (float)((double)v->mean[i] - rate * move);
    }
}

double la_gaussian_divergence(double precision, double before, double off) {
    return 0.5 * (log(precision / before) + before / precision - 1 + before * off * off);
}

double la_ivon_divergence(const la_ivon *v) {
    double sum = 0;
    for (int64_t i = 0; i < v->n; i++) {
        double before = v->rows * (double)v->prior[i];
        double off = (double)v->mean[i] - (double)v->prior_mean[i];
        sum += la_gaussian_divergence(before + v->rows * (double)v->hessian[i], before, off);
    }
    return sum;
}

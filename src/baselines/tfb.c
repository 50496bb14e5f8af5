#include "baselines/tfb.h"
#include "base/blas.h"
#include "base/memory.h"
#include "base/random.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1024 };

const la_tfb_options la_tfb_defaults = {
    .least = 1e-3, .most = 0.2, .share = 0.003, .steps = 10, .networks = 10};

/* ---- the search ---- */

typedef struct searching {
    la_tfb_measure measure;
    void *user;
    double bound;
    la_tfb_choice *choice;
} searching;

/* Takes the sigma if it keeps the bound, else notes that it does not. */
static la_status try_sigma(const searching *s, double sigma, bool *kept, la_error *err) {
    double nll;
    LA_TRY(s->measure(s->user, sigma, &nll, err));
    *kept = nll <= s->bound;
    if (*kept) {
        s->choice->sigma = sigma;
        s->choice->nll = nll;
    } else {
        s->choice->refused = sigma;
    }
    return LA_OK;
}

la_status la_tfb_search(const la_tfb_options *options, la_tfb_measure measure, void *user,
                        la_tfb_choice *choice, la_error *err) {
    searching s = {.measure = measure, .user = user, .choice = choice};
    bool kept;
    *choice = (la_tfb_choice){0};
    if (!(options->least > 0 && options->least < options->most && options->share >= 0) ||
        options->networks < 1 || options->steps < 0)
        return la_fail(err, LA_USAGE,
                       "TFB: sigma in [%g, %g], a share of %g, %lld networks, %lld steps make no "
                       "sense",
                       options->least, options->most, options->share, (long long)options->networks,
                       (long long)options->steps);
    LA_TRY(measure(user, 0, &choice->map_nll, err));
    choice->nll = choice->map_nll;
    s.bound = choice->map_nll * (1 + options->share);
    LA_TRY(try_sigma(&s, options->most, &kept, err));
    if (kept)
        return LA_OK;
    LA_TRY(try_sigma(&s, options->least, &kept, err));
    for (int64_t i = 0; kept && i < options->steps; i++) {
        bool unused;
        LA_TRY(try_sigma(&s, (choice->sigma + choice->refused) / 2, &unused, err));
    }
    return LA_OK;
}

/* ---- a site ---- */

/* b = U diag(d) V^T; u[out, k] and vt[k, r] row by row, k = min(out, r) */
static la_status decompose(int64_t out, int64_t rank, const float *b, double *copy, double *d,
                           double *u, double *vt, la_error *err) {
    for (int64_t i = 0; i < out * rank; i++)
        copy[i] = (double)b[i];
    int info = la_dgesdd(out, rank, copy, d, u, vt);
    if (info == la_lapack_no_memory)
        return la_fail(err, LA_RESOURCE, "TFB: out of memory for the singular values of a B");
    if (info)
        return la_fail(err, LA_NUMERICAL, "TFB: no singular values of a B of [%lld, %lld] (%d)",
                       (long long)out, (long long)rank, info);
    return LA_OK;
}

la_status la_tfb_factor(int64_t out, int64_t rank, int64_t in, float *b, float *a, double *d,
                        la_error *err) {
    int64_t k = out < rank ? out : rank, most = out > rank ? out : rank;
    la_pool pool = {0};
    double *copy = la_pool_take(&pool, (size_t)(out * rank), sizeof *copy, err);
    double *u = la_pool_take(&pool, (size_t)(out * k), sizeof *u, err);
    double *vt = la_pool_take(&pool, (size_t)(k * rank), sizeof *vt, err);
    double *rows = la_pool_take(&pool, (size_t)(k * in), sizeof *rows, err);
    la_status status = err->status;
    memset(d, 0, (size_t)rank * sizeof *d);
    if (status == LA_OK)
        status = decompose(out, rank, b, copy, d, u, vt, err);
    if (status == LA_OK) {
        for (int64_t o = 0; o < out; o++)
            for (int64_t i = 0; i < rank; i++)
                b[o * rank + i] = i < k ? (float)(u[o * k + i] * d[i]) : 0;
        for (int64_t i = 0; i < k; i++)
            for (int64_t p = 0; p < rank; p++)
                for (int64_t j = 0; j < in; j++)
                    rows[i * in + j] += vt[i * rank + p] * (double)a[p * in + j];
        for (int64_t i = 0; i < rank * in; i++)
            a[i] = i < k * in ? (float)rows[i] : 0;
        double least = (double)most * (double)FLT_EPSILON * d[0];
        for (int64_t i = 0; i < rank; i++)
            d[i] = d[i] > least ? d[i] : 0;
    }
    la_pool_free(&pool);
    return status;
}

void la_tfb_noise(int64_t rank, int64_t in, const float *a, const double *d, double sigma,
                  uint64_t seed, int64_t network, int64_t site, float *noisy) {
    uint64_t stream = ((uint64_t)network << 32) + (uint64_t)site;
    double z[CHUNK];
    for (int64_t i = 0; i < rank; i++) {
        double deviation = d[i] > 0 ? sigma / d[i] : 0;
        for (int64_t from = 0; from < in; from += CHUNK) {
            int64_t n = in - from < CHUNK ? in - from : CHUNK;
            la_random_normal(seed, stream, (uint64_t)(i * in + from), (size_t)n, z);
            for (int64_t j = 0; j < n; j++)
                noisy[i * in + from + j] = (float)((double)a[i * in + from + j] + deviation * z[j]);
        }
    }
}

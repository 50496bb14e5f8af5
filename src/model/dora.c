#include "model/dora.h"
#include "backend/quant.h"
#include "input/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

la_status la_dora_bind(la_adapter *adapter, la_pool *pool, const char *module, la_site *site,
                       la_lora *lora, la_error *err) {
    bool used = false;
    LA_TRY(la_json_bool(adapter->config, adapter->config_path, "use_dora", false, &used, err));
    if (!used)
        return LA_OK;
    const la_tensor *m = la_adapter_tensor(adapter, module, "lora_magnitude_vector", NULL);
    if (!m) /* as it is called in memory, and in files of PEFT before 0.11 */
        m = la_adapter_tensor(adapter, module, "lora_magnitude_vector.weight", NULL);
    if (!m)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: use_dora is set, but the weights hold no %s.lora_magnitude_vector",
                       adapter->config_path, module);
    if (m->count != site->out)
        return la_fail(err, LA_BAD_INPUT, "%s: tensor \"%s\" has %lld values, expected %lld",
                       m->file, m->name, (long long)m->count, (long long)site->out);
    char name[1024];
    int length = snprintf(name, sizeof name, "%s.lora_magnitude_vector", module);
    la_parameter *to = la_site_add(site, &lora->magnitude);
    to->of_outputs = to->exact = true;
    to->trained = (la_block){.out = site->out, .in = 1, .group = LA_GROUP_MAGNITUDES};
    to->trained.name = la_pool_text(pool, name, (size_t)length, err);
    lora->magnitude =
        la_mat_f32(la_adapter_values(pool, m, &to->trained.theta_square, err), site->out, 1);
    site->alone = "DoRA";
    return err->status;
}

/* row i of w as f32 */
static void read_row(const la_mat *w, int64_t i, float *row) {
    if (w->type == LA_CODES)
        la_quant_decode(w, i * w->cols, w->cols, row);
    else
        la_dtype_to_f32(w->type,
                        (const char *)w->data + (size_t)(i * w->ld) * la_dtype_size(w->type),
                        w->cols, row);
}

/* Norm of w + scale b A; sum [in] is written. */
static double norm_of(const la_lora *lora, const float *w, const float *b, double *sum) {
    const float *a = lora->a.data;
    int64_t in = lora->a.cols;
    double square = 0;
    for (int64_t j = 0; j < in; j++)
        sum[j] = w[j];
    for (int64_t k = 0; k < lora->a.rows; k++) {
        double factor = (double)lora->scale * (double)b[k];
        const float *from = a + k * in;
#pragma omp simd
        for (int64_t j = 0; j < in; j++)
            sum[j] += factor * (double)from[j];
    }
#pragma omp simd reduction(+ : square)
    for (int64_t j = 0; j < in; j++)
        square += sum[j] * sum[j];
    return sqrt(square);
}

la_status la_dora_finish(la_team team, const la_adapter *adapter, const la_mat *w, la_pool *pool,
                         la_site *site, la_lora *lora, la_error *err) {
    int64_t out = lora->b.rows, bad = -1;
    bool short_of_memory = false;
    const float *magnitude = lora->magnitude.data;
    float *scale = la_pool_take(pool, (size_t)out, sizeof *scale, err);
    float *inverse = la_pool_take(pool, (size_t)out, sizeof *inverse, err);
    if (!scale || !inverse)
        return err->status;
#pragma omp parallel num_threads(team.threads)
    {
        float *row = malloc((size_t)w->cols * sizeof *row);
        double *sum = malloc((size_t)w->cols * sizeof *sum);
        bool able = row && sum;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < out; i++) {
            if (!able)
                continue;
            read_row(w, i, row);
            double norm = norm_of(lora, row, (const float *)lora->b.data + i * lora->b.cols, sum);
            scale[i] = (float)((double)magnitude[i] / norm);
            inverse[i] = (float)(1 / norm);
        }
#pragma omp critical
        short_of_memory |= !able;
        free(row);
        free(sum);
    }
    if (short_of_memory)
        return la_fail(err, LA_RESOURCE, "out of memory for the norms of %s", site->module);
    for (int64_t i = out - 1; i >= 0; i--)
        if (!isfinite(inverse[i]))
            bad = i;
    if (bad >= 0)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: %s: row %lld of the weight with its adapter has norm 0, which DoRA "
                       "divides by; is this the base it was trained on?",
                       adapter->config_path, site->module, (long long)bad);
    lora->out_scale = la_mat_f32(scale, out, 1);
    lora->inverse_norm = la_mat_f32(inverse, out, 1);
    la_site_add(site, &lora->out_scale)->exact = true;
    la_site_add(site, &lora->inverse_norm)->exact = true;
    return LA_OK;
}

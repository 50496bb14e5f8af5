/* Norms, activations and rotary embedding, and their backward through activations (weights are
 * frozen). */
#include "backend/cpu.h"
#include "base/fast_math.h"

/* x[T,d] -> y[T,d], stats[T][2] */
void la_cpu_norm(la_backend *be, const la_norm *norm, const la_mat *x, float *stats, la_mat *y) {
    int64_t d = x->cols;
#pragma omp parallel for schedule(static) num_threads(be->team.threads)
    for (int64_t t = 0; t < x->rows; t++) {
        const float *in = (const float *)x->data + t * x->ld;
        float *out = (float *)y->data + t * y->ld;
        float mean = 0, square = 0;
        if (norm->kind == LA_NORM_LAYER) {
#pragma omp simd reduction(+ : mean)
            for (int64_t j = 0; j < d; j++)
                mean += in[j];
            mean /= (float)d;
        }
#pragma omp simd reduction(+ : square)
        for (int64_t j = 0; j < d; j++)
            square += (in[j] - mean) * (in[j] - mean);
        float inverse = 1.0f / sqrtf(square / (float)d + norm->eps);
        for (int64_t j = 0; j < d; j++)
            out[j] = (in[j] - mean) * inverse * norm->weight[j];
        if (norm->bias)
            for (int64_t j = 0; j < d; j++)
                out[j] += norm->bias[j];
        stats[2 * t] = mean;
        stats[2 * t + 1] = inverse;
    }
}

/* With xh = (x - mean) inverse and h = g * weight, [] for layer norm only:
 *   dx = inverse (h - [mean h] - xh mean(h xh)) */
void la_cpu_norm_backward(la_backend *be, const la_norm *norm, const la_mat *x, const float *stats,
                          int64_t n_rhs, const la_mat *g, const la_mat *residual, la_mat *dx) {
    int64_t d = x->cols, tokens = x->rows;
    const float *weight = norm->weight;
#pragma omp parallel for collapse(2) schedule(static) num_threads(be->team.threads)
    for (int64_t k = 0; k < n_rhs; k++) {
        for (int64_t t = 0; t < tokens; t++) {
            const float *in = (const float *)x->data + t * x->ld;
            const float *grad = (const float *)g->data + (k * tokens + t) * g->ld;
            float *out = (float *)dx->data + (k * tokens + t) * dx->ld;
            float mean = stats[2 * t], inverse = stats[2 * t + 1], sum = 0, dot = 0;
#pragma omp simd reduction(+ : sum, dot)
            for (int64_t j = 0; j < d; j++) {
                float h = grad[j] * weight[j];
                sum += h;
                dot += h * (in[j] - mean);
            }
            sum = norm->kind == LA_NORM_LAYER ? sum / (float)d : 0;
            dot = dot * inverse * inverse / (float)d;
            if (residual) {
                const float *add = (const float *)residual->data + (k * tokens + t) * residual->ld;
                for (int64_t j = 0; j < d; j++)
                    out[j] = inverse * (grad[j] * weight[j] - sum - (in[j] - mean) * dot) + add[j];
            } else {
                for (int64_t j = 0; j < d; j++)
                    out[j] = inverse * (grad[j] * weight[j] - sum - (in[j] - mean) * dot);
            }
        }
    }
}

void la_cpu_scale_columns(la_backend *be, const la_mat *x, const float *c, const la_mat *bias,
                          const la_mat *residual, la_mat *y) {
    int64_t d = x->cols;
    const float *shift = bias ? bias->data : NULL;
#pragma omp parallel for schedule(static) num_threads(be->team.threads)
    for (int64_t t = 0; t < x->rows; t++) {
        const float *in = (const float *)x->data + t * x->ld;
        const float *add = residual ? (const float *)residual->data + t * residual->ld : NULL;
        float *out = (float *)y->data + t * y->ld;
        if (shift && add) {
            for (int64_t j = 0; j < d; j++)
                out[j] = c[j] * in[j] + shift[j] + add[j];
        } else if (shift || add) {
            const float *one = shift ? shift : add;
            for (int64_t j = 0; j < d; j++)
                out[j] = c[j] * in[j] + one[j];
        } else {
            for (int64_t j = 0; j < d; j++)
                out[j] = c[j] * in[j];
        }
    }
}

/* ---- activations: value and derivative ---- */

#define SQRT_HALF 0.70710678f
#define SQRT_2_OVER_PI 0.79788456f
#define GELU_CUBE 0.044715f

static inline float gelu(float x) {
    return 0.5f * x * (1.0f + la_erff(x * SQRT_HALF));
}
static inline float gelu_slope(float x) {
    return 0.5f * (1.0f + la_erff(x * SQRT_HALF)) + x * 0.39894228f * la_expf(-0.5f * x * x);
}
static inline float gelu_tanh(float x) {
    return 0.5f * x * (1.0f + la_tanhf(SQRT_2_OVER_PI * (x + GELU_CUBE * x * x * x)));
}
static inline float gelu_tanh_slope(float x) {
    float t = la_tanhf(SQRT_2_OVER_PI * (x + GELU_CUBE * x * x * x));
    return 0.5f * (1.0f + t) +
           0.5f * x * (1.0f - t * t) * SQRT_2_OVER_PI * (1.0f + 3.0f * GELU_CUBE * x * x);
}
static inline float silu(float x) {
    return x * la_sigmoidf(x);
}
static inline float silu_slope(float x) {
    float s = la_sigmoidf(x);
    return s * (1.0f + x * (1.0f - s));
}
static inline float relu(float x) {
    return x > 0 ? x : 0;
}
static inline float relu_slope(float x) {
    return x > 0 ? 1.0f : 0.0f;
}
static inline float tanh_slope(float x) {
    float t = la_tanhf(x);
    return 1.0f - t * t;
}
static inline float same(float x) {
    return x;
}
static inline float one(float x) {
    (void)x;
    return 1.0f;
}

/* One loop per kind, so that each vectorises. */
#define FOR_EACH(function)                                                                         \
    _Pragma("omp simd") for (int64_t j = 0; j < n; j++) out[j] = function(x[j]);                   \
    break

void la_cpu_activation_row(la_activation kind, int64_t n, const float *x, float *out) {
    switch (kind) {
    case LA_ACT_NONE:
        FOR_EACH(same);
    case LA_ACT_GELU:
        FOR_EACH(gelu);
    case LA_ACT_GELU_TANH:
        FOR_EACH(gelu_tanh);
    case LA_ACT_SILU:
        FOR_EACH(silu);
    case LA_ACT_RELU:
        FOR_EACH(relu);
    case LA_ACT_TANH:
        FOR_EACH(la_tanhf);
    }
}

static void slope_row(la_activation kind, int64_t n, const float *x, float *out) {
    switch (kind) {
    case LA_ACT_NONE:
        FOR_EACH(one);
    case LA_ACT_GELU:
        FOR_EACH(gelu_slope);
    case LA_ACT_GELU_TANH:
        FOR_EACH(gelu_tanh_slope);
    case LA_ACT_SILU:
        FOR_EACH(silu_slope);
    case LA_ACT_RELU:
        FOR_EACH(relu_slope);
    case LA_ACT_TANH:
        FOR_EACH(tanh_slope);
    }
}

void la_cpu_activation(la_backend *be, la_activation kind, const la_mat *x, const la_mat *up,
                       la_mat *y) {
#pragma omp parallel for schedule(static) num_threads(be->team.threads)
    for (int64_t t = 0; t < x->rows; t++) {
        float *out = (float *)y->data + t * y->ld;
        la_cpu_activation_row(kind, x->cols, (const float *)x->data + t * x->ld, out);
        if (up) {
            const float *factor = (const float *)up->data + t * up->ld;
            for (int64_t j = 0; j < x->cols; j++)
                out[j] *= factor[j];
        }
    }
}

enum { PIECE = 512 };

/* The slope of a token is computed once for all right-hand sides. */
void la_cpu_activation_backward(la_backend *be, la_activation kind, const la_mat *x,
                                const la_mat *up, int64_t n_rhs, const la_mat *g, la_mat *dx,
                                la_mat *dup) {
    int64_t tokens = x->rows, d = x->cols;
#pragma omp parallel for schedule(static) num_threads(be->team.threads)
    for (int64_t t = 0; t < tokens; t++) {
        float slope[PIECE], value[PIECE];
        for (int64_t from = 0; from < d; from += PIECE) {
            int64_t n = d - from < PIECE ? d - from : PIECE;
            const float *in = (const float *)x->data + t * x->ld + from;
            slope_row(kind, n, in, slope);
            if (up) {
                const float *factor = (const float *)up->data + t * up->ld + from;
                for (int64_t j = 0; j < n; j++)
                    slope[j] *= factor[j];
                la_cpu_activation_row(kind, n, in, value);
            }
            for (int64_t k = 0; k < n_rhs; k++) {
                const float *grad = (const float *)g->data + (k * tokens + t) * g->ld + from;
                float *out = (float *)dx->data + (k * tokens + t) * dx->ld + from;
                if (dup) {
                    float *other = (float *)dup->data + (k * tokens + t) * dup->ld + from;
                    for (int64_t j = 0; j < n; j++)
                        other[j] = grad[j] * value[j];
                }
                for (int64_t j = 0; j < n; j++)
                    out[j] = grad[j] * slope[j];
            }
        }
    }
}

/* x[n_rhs T, heads * head_dim] in place */
void la_cpu_rotate(la_backend *be, int64_t n_heads, int64_t head_dim, int64_t rotary_dim,
                   const float *angles, const int32_t *positions, int64_t n_rhs, int sign,
                   la_mat *x) {
    int64_t half = rotary_dim / 2, tokens = x->rows / n_rhs;
    float direction = (float)sign;
#pragma omp parallel for schedule(static) num_threads(be->team.threads)
    for (int64_t row = 0; row < x->rows; row++) {
        const float *angle = angles + positions[row % tokens] * half * 2;
        for (int64_t h = 0; h < n_heads; h++) {
            float *head = (float *)x->data + row * x->ld + h * head_dim;
            for (int64_t j = 0; j < half; j++) {
                float c = angle[2 * j], s = direction * angle[2 * j + 1];
                float a = head[j], b = head[j + half];
                head[j] = a * c - b * s;
                head[j + half] = b * c + a * s;
            }
        }
    }
}

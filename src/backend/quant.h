/* Frozen weights that stay packed: the data of a matrix of type LA_CODES is a la_quant. Products
 * widen them panel by panel (cpu_gemm.c, cuda/gemm.cu). Layout and arithmetic are those of
 * bitsandbytes (QLoRA, arXiv 2305.14314; LLM.int8, arXiv 2208.07339). */
#ifndef LA_BACKEND_QUANT_H
#define LA_BACKEND_QUANT_H

#include "backend/ops.h"

typedef enum la_quant_kind {
    LA_QUANT_NF4, /* quantiles of a normal distribution */
    LA_QUANT_FP4, /* sign, two bits of exponent, one of mantissa */
    LA_QUANT_INT8
} la_quant_kind;

/* Element e of the matrix, counted row by row without gaps, is level(code e) * scale[e / block],
 * rounded to type `as`. 4-bit codes are two a byte, the high half first; the level of an 8-bit code
 * is code / 127. */
typedef struct la_quant {
    la_quant_kind kind;
    la_dtype as;       /* LA_F32, LA_F16 or LA_BF16 */
    int64_t block;     /* elements that share a scale */
    const void *codes; /* these two where operations read them, the la_quant itself on the host */
    const float *scale;
} la_quant;

enum { LA_QUANT_LEVELS = 16 };

/* Levels by kind and code. */
static const float la_quant_levels[2][LA_QUANT_LEVELS] = {
    {-1.0f, -0x1.647362p-1f, -0x1.0cd66p-1f, -0x1.94654p-2f, -0x1.23449ap-2f, -0x1.7a6a7ep-3f,
     -0x1.74f0e2p-4f, 0.0f, 0x1.45f5fep-4f, 0x1.4995c6p-3f, 0x1.f809bap-3f, 0x1.5a0674p-2f,
     0x1.c3497p-2f, 0x1.200f56p-1f, 0x1.722766p-1f, 1.0f},
    {0.0f, 0x1.555556p-8f, 0x1.555556p-1f, 1.0f, 0x1.555556p-2f, 0.5f, 0x1.555556p-3f, 0.25f, 0.0f,
     -0x1.555556p-8f, -0x1.555556p-1f, -1.0f, -0x1.555556p-2f, -0.5f, -0x1.555556p-3f, -0.25f}};
/* 1 / 127 as bitsandbytes rounds it: (code * scale) * this. */
#define LA_QUANT_INT8_STEP 7.874015718698502e-3f

/* out[n] = elements first, first + 1, ... of a matrix of type LA_CODES on the host. */
void la_quant_decode(const la_mat *w, int64_t first, int64_t n, float *out);
/* x rounded to the nearest number of the type, ties to even. */
float la_quant_round(la_dtype type, float x);
/* *to, of a floating type, := value, rounded likewise. */
void la_quant_store(float value, la_dtype type, void *to);

#endif

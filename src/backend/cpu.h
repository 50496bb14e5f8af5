/* Declarations shared by the files of the host backend. Nothing outside src/backend includes it. */
#ifndef LA_BACKEND_CPU_H
#define LA_BACKEND_CPU_H

#include "backend/ops.h"
#include "base/kernels.h"

#include <stddef.h>

typedef enum la_cpu_scratch {
    LA_SCRATCH_PANEL,
    LA_SCRATCH_NARROW,
    LA_SCRATCH_ATTENTION,
    LA_SCRATCH_FACTOR,
    LA_SCRATCHES
} la_cpu_scratch;

typedef struct la_cpu {
    la_error fault; /* the first one, until sync */
    void *scratch[LA_SCRATCHES];
    size_t scratch_bytes[LA_SCRATCHES];
} la_cpu;

/* Workspace of at least bytes, kept from call to call; NULL (and a fault) when there is no memory.
 */
void *la_cpu_scratch_get(la_backend *be, la_cpu_scratch which, size_t bytes);
/* Bytes of the panel that weights of another type are widened in (and rounded again, for products
 * of bf16), and its rows. */
size_t la_cpu_panel_bytes(const la_backend *be, int64_t rows, int64_t cols, int64_t *step);

/* Bytes of the rows that threads round to bf16, of a matrix with so many rows and columns. */
size_t la_cpu_narrow_bytes(la_team team, int64_t rows, int64_t cols);
/* Whether products with this weight are of bf16: all but the head's, which stays f32. */
static inline bool la_cpu_in_bf16(const la_backend *be, const la_mat *w) {
    return be->precision == LA_PRECISION_BF16 && w->type != LA_F32;
}

/* out[n] = act(x[n]) */
void la_cpu_activation_row(la_activation kind, int64_t n, const float *x, float *out);

size_t la_cpu_attention_bytes(la_team team, int64_t max_length, int64_t max_relative);

/* The operations, one family a file (cpu.c, cpu_*.c), and their table: the reference. */
#define LA_OP(cost, result, name, parameters, arguments) result la_cpu_##name parameters;
#include "backend/ops.def"
extern const la_ops la_cpu_ops;
/* The table for the best instructions of a level at most; they are named for people. */
const la_ops *la_cpu_ops_for(la_kernel_level most, const char **instructions);

#endif

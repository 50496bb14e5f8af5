/* Operations held against each other: the CUDA backend's against the host's, which computes in f32.
 *
 *     operand *x = drawn(type, 37, 33, 1), *y = drawn(type, 37, 33, 1);
 *     changed(y);
 *     while (next_run())
 *         be->ops->add(be, on(x), on(y));
 *     worst = larger(worst, gap(y));
 *     forget();
 *
 * The loop runs three times: on the host, on the device, and on the device again from the same
 * start. After it, the two device runs have left the same bytes, and nothing but the elements of
 * outputs has changed: neither inputs, nor what lies between rows, before or behind a matrix. All
 * of that is NaN, and so are outputs before they are written: what is read by mistake is seen.
 * Values are rounded to the device's type first, so that both sides start from the same numbers. */
#ifndef LA_TESTS_CUDA_COMPARE_H
#define LA_TESTS_CUDA_COMPARE_H

#include "backend/ops.h"
#include "support/support.h"

/* ---- numbers ---- */

/* One number of a type, rounded to nearest even. */
void encode(la_dtype type, double x, void *to);
double decode(la_dtype type, const void *from);
/* n standard normal numbers, other ones at each call. Free with free. */
double *normal(int64_t n);

/* ---- operands ---- */

typedef struct operand {
    la_mat host, device; /* f32 on the host, or f64 on both */
    bool output;
    size_t bytes;                          /* bytes of each device image */
    void *memory;                          /* on the device */
    unsigned char *before, *first, *after; /* device images: at the start, after each run */
    double *host_before;                   /* at the start */
} operand;

/* Layout of matrices made from here on, on the device: ld = columns + pad, and the first element is
 * offset elements behind an aligned address. Until `forget`. */
void lay_out(int64_t pad, int64_t offset);

/* An input of normal numbers times scale. */
operand *drawn(la_dtype type, int64_t rows, int64_t cols, double scale);
/* An input of these values, [rows, cols]. */
operand *given(la_dtype type, int64_t rows, int64_t cols, const double *values);
/* An output, NaN before. */
operand *result(la_dtype type, int64_t rows, int64_t cols);
/* The three below are laid out densely: vectors, tables of numbers, sums. */
operand *dense(la_dtype type, int64_t rows, int64_t cols, const double *values);
operand *dense_result(la_dtype type, int64_t rows, int64_t cols);
operand *ints(int64_t n, const int32_t *values);

/* The operation works in place, or adds to what is there. Returns o. */
operand *changed(operand *o);
/* Output of an operation as the input of another one. */
void becomes_input(operand *o);

/* The matrix on the side of this run, or its elements; NULL for NULL. */
la_mat *on(operand *o);
void *data(operand *o);

/* Releases all operands. */
void forget(void);

/* ---- runs ---- */

extern la_backend *be; /* backend of this run */
extern la_backend host, device;

bool next_run(void);

/* largest |device - host| / largest |host|; NaN where one is NaN */
double gap(const operand *o);
/* Limits for a column alone. */
double gap_of_column(const operand *o, int64_t column);
/* Element of the device's result, and of the host's. */
double got(const operand *o, int64_t row, int64_t col);
double wanted(const operand *o, int64_t row, int64_t col);
/* The larger one; NaN when one is NaN. */
double larger(double a, double b);

/* Limits by the precision of products: f32, tf32 (also f32 matrices of a bf16 backend), bf16. */
typedef struct limits {
    double f32, tf32, bf16;
} limits;

void check(const char *what, la_dtype type, double worst, limits most);

/* ---- tests ---- */

typedef enum op_scope {
    ONCE,         /* the precision makes no difference */
    IN_BF16,      /* alone */
    EACH,         /* precision */
    EACH_AND_HEAD /* and, in bf16 backends, again with f32 matrices, as the head has them */
} op_scope;

typedef struct op_test {
    const char *name;
    void (*run)(la_dtype type); /* type: of activations and cotangents */
    op_scope scope;
} op_test;

/* Runs the tests for every precision; skips them, saying why, where CUDA cannot be had. Returns how
 * many failed. */
int run_ops(const char *group, const op_test *tests, size_t n);

#define COUNT(array) ((int64_t)(sizeof(array) / sizeof *(array)))

#endif

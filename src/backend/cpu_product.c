/* A tile of the result, up to TALL rows by WIDE columns, stays in registers while k runs: of the
 * left side numbers are read where they lie, of the right side a panel [k, WIDE], in which weights
 * of any type are laid down as f32. A group of panels stays in the second-level cache while the
 * rows of the left side pass it. */
#include "backend/cpu_product.h"
#include "backend/quant.h"
#include "base/blas.h"

#include <string.h>

#if defined(__AVX512F__)
enum { LANES = 16, TALL = 14 };
#define ROWS_PAST_SIX ROWS(7) ROWS(8) ROWS(9) ROWS(10) ROWS(11) ROWS(12) ROWS(13) ROWS(14)
#elif defined(__AVX2__) && defined(__FMA__)
enum { LANES = 8, TALL = 6 };
#define ROWS_PAST_SIX
#endif

#ifdef ROWS_PAST_SIX

enum {
    WIDE = 2 * LANES,
    LINE = 16,             /* numbers of a line of the cache */
    DEPTH = 512,           /* k at a time: rows of a tile stay in the first-level cache */
    SMALL_DEPTH = 256,     /* of small products, whose panel is on the stack */
    GROUP_FLOATS = 1 << 17 /* of panels */
};

typedef float vec __attribute__((vector_size(4 * LANES), may_alias, aligned(4)));
typedef int32_t places __attribute__((vector_size(4 * LANES)));

#define INLINE static inline __attribute__((always_inline))

/* ---- a tile ---- */

/* c[rows, halves LANES] = beta c + alpha a[rows, k] b[k, WIDE] + bias + residual */
typedef struct tile {
    int64_t rows, k;
    float alpha, beta;
    const float *a, *b;
    int64_t lda, ldb;
    const float *bias, *residual; /* or NULL */
    int64_t ld_residual;
    float *c;
    int64_t ldc;
} tile;

INLINE vec take(const float *from) {
    return *(const vec *)from;
}

/* rows, halves and turned are constants where this is called; turned: a is [k, rows]; halves: 1 or
 * 2 */
INLINE void compute(const int rows, const int halves, const bool turned, const tile *t) {
    vec sum[TALL][2];
    int64_t k = t->k, lda = t->lda, ldb = t->ldb;
    const float *b = t->b, *a = t->a;
    const float *part[] = {a, a + 3 * lda, a + 6 * lda, a + 9 * lda, a + 12 * lda};
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        sum[i][0] = sum[i][1] = (vec){0};
        __builtin_prefetch(t->c + i * t->ldc, 1);
        __builtin_prefetch(t->c + i * t->ldc + halves * LANES - 1, 1);
    }
    for (int64_t p = 0; p < k; p++, b += ldb) {
        vec b0 = take(b), b1 = halves > 1 ? take(b + LANES) : b0;
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            vec x = (turned ? a[p * lda + i] : part[i / 3][i % 3 * lda + p]) - (vec){0};
            sum[i][0] += x * b0;
            if (halves > 1)
                sum[i][1] += x * b1;
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int half = 0; half < halves; half++) {
            float *c = t->c + i * t->ldc + half * LANES;
            vec y = t->alpha * sum[i][half];
            if (t->beta != 0)
                y += t->beta * take(c);
            if (t->bias)
                y += take(t->bias + half * LANES);
            if (t->residual)
                y += take(t->residual + i * t->ld_residual + half * LANES);
            *(vec *)c = y;
        }
}

#define ALL_ROWS ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6) ROWS_PAST_SIX

#define ROWS(n)                                                                                    \
    case n:                                                                                        \
        compute(n, 2, false, t);                                                                   \
        break;
static void compute_tile(const tile *t) {
    switch (t->rows) { ALL_ROWS }
}
#undef ROWS

#define ROWS(n)                                                                                    \
    case n:                                                                                        \
        compute(n, 2, true, t);                                                                    \
        break;
static void compute_turned(const tile *t) {
    switch (t->rows) { ALL_ROWS }
}
#undef ROWS

#define ROWS(n)                                                                                    \
    case n:                                                                                        \
        compute(n, 1, false, t);                                                                   \
        break;
static void compute_narrow(const tile *t) {
    switch (t->rows) { ALL_ROWS }
}
#undef ROWS

/* Its first cols columns; b has zeros behind them. */
static void compute_columns(const tile *t, bool turned, int64_t cols) {
    float edge[TALL * WIDE];
    tile whole = *t;
    if (cols < WIDE) {
        whole.c = edge;
        whole.ldc = WIDE;
        whole.beta = 0;
        whole.bias = whole.residual = NULL;
    }
    if (turned)
        compute_turned(&whole);
    else if (cols <= LANES)
        compute_narrow(&whole);
    else
        compute_tile(&whole);
    for (int64_t i = 0; i < t->rows && cols < WIDE; i++)
        for (int64_t j = 0; j < cols; j++) {
            float *c = t->c + i * t->ldc + j, y = edge[i * WIDE + j];
            y += t->beta != 0 ? t->beta * *c : 0;
            y += t->bias ? t->bias[j] : 0;
            *c = y + (t->residual ? t->residual[i * t->ld_residual + j] : 0);
        }
}

static int64_t pieces(int64_t whole, int64_t piece) {
    return (whole + piece - 1) / piece;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* ---- a panel ---- */

/* to[p * WIDE + i] = from[i * ld + p] for i < rows, p < n, at most LANES of each; zero for other i
 */
INLINE void turn(const float *from, int64_t ld, int64_t rows, int64_t n, float *to) {
    vec r[LANES];
    float few[LANES * LANES];
    if (n < LANES) {
        for (int64_t p = 0; p < n; p++)
            for (int64_t i = 0; i < LANES; i++)
                to[p * WIDE + i] = i < rows ? from[i * ld + p] : 0;
        return;
    }
    if (rows < LANES) {
        memset(few, 0, sizeof few);
        for (int64_t i = 0; i < rows; i++)
            memcpy(few + i * LANES, from + i * ld, LANES * sizeof *few);
        from = few;
        ld = LANES;
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++, from += ld)
        r[i] = take(from);
#pragma GCC unroll 4
    for (int half = LANES / 2; half; half /= 2) {
        places low = {0}, high = {0};
#pragma GCC unroll 16
        for (int l = 0; l < LANES; l++) {
            low[l] = l & half ? LANES + l - half : l;
            high[l] = l & half ? LANES + l : l + half;
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) {
            if (i & half)
                continue;
            vec x = r[i], y = r[i + half];
            r[i] = __builtin_shuffle(x, y, low);
            r[i + half] = __builtin_shuffle(x, y, high);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        *(vec *)(to + i * WIDE) = r[i];
}

/* Rows [row, row + cols) and columns [at, at + k) of f32 become columns and rows of the panel. */
static void turn_panel(const float *from, int64_t ld, int64_t cols, int64_t k, float *to) {
    for (int64_t p = 0; p < k; p += LANES)
        for (int half = 0; half < 2; half++)
            turn(from + half * LANES * ld + p, ld, least(cols - half * LANES, LANES),
                 least(k - p, LANES), to + p * WIDE + half * LANES);
}

static void copy_panel(const float *from, int64_t ld, int64_t cols, int64_t k, float *to) {
    for (int64_t p = 0; p < k; p++, from += ld, to += WIDE) {
        if (cols == WIDE) {
            *(vec *)to = take(from);
            *(vec *)(to + LANES) = take(from + LANES);
            continue;
        }
        memcpy(to, from, (size_t)cols * sizeof *to);
        memset(to + cols, 0, (size_t)(WIDE - cols) * sizeof *to);
    }
}

/* n numbers of a row of a weight */
static void widen(const la_mat *w, int64_t row, int64_t at, int64_t n, float *to) {
    int64_t first = row * w->ld + at;
    if (w->type == LA_CODES)
        la_quant_decode(w, first, n, to);
    else
        la_dtype_to_f32(w->type, (const char *)w->data + (size_t)first * la_dtype_size(w->type), n,
                        to);
}

/* ---- products with weights ---- */

/* Columns [col, col + cols) of y, rows [at, at + k) of what the weight is multiplied as. */
typedef struct group {
    const la_mat *x, *w;
    bool trans_w;
    const la_cpu_joined *joined;
    la_mat *y;
    int64_t col, cols, at, k;
    float *panels;
} group;

/* Panels [first, end) of a group, which are columns of w^T: whole rows of w. */
static void lay_down_rows(const group *g, int64_t first, int64_t end) {
    enum { PIECE = 64 };
    const la_mat *w = g->w;
    for (int64_t i = first; i < end; i++) {
        int64_t row = g->col + i * WIDE, rows = least(g->cols - i * WIDE, WIDE);
        float *to = g->panels + i * g->k * WIDE;
        if (w->type == LA_F32) {
            turn_panel((const float *)w->data + row * w->ld + g->at, w->ld, rows, g->k, to);
            continue;
        }
        for (int64_t p = 0; p < g->k; p += PIECE) {
            float wide[WIDE * PIECE];
            int64_t n = least(g->k - p, PIECE);
            for (int64_t j = 0; j < rows; j++)
                widen(w, row + j, g->at + p, n, wide + j * PIECE);
            turn_panel(wide, PIECE, rows, n, to + p * WIDE);
        }
    }
}

/* Rows [first, end) of a group of columns of w, of all its panels: a row of w is read along. */
static void lay_down_columns(const group *g, int64_t first, int64_t end) {
    const la_mat *w = g->w;
    for (int64_t p = first; p < end; p++)
        for (int64_t j = 0; j < g->cols; j += WIDE) {
            int64_t cols = least(g->cols - j, WIDE);
            float *to = g->panels + j * g->k + p * WIDE;
            if (w->type == LA_F32) {
                copy_panel((const float *)w->data + (g->at + p) * w->ld + g->col + j, w->ld, cols,
                           1, to);
                continue;
            }
            widen(w, g->at + p, g->col + j, cols, to);
            memset(to + cols, 0, (size_t)(WIDE - cols) * sizeof *to);
        }
}

/* Rows [from, to) of a group, and its panels [first, end). */
static void compute_rows(const group *g, int64_t from, int64_t to, int64_t first, int64_t end) {
    const la_cpu_joined *j = g->joined;
    const la_mat *x = g->x, *y = g->y, *r = j->residual;
    int64_t col = g->col + first * WIDE, last = least(g->col + end * WIDE, g->col + g->cols);
    tile t = {.rows = to - from,
              .k = g->k,
              .alpha = j->alpha,
              .beta = g->at ? 1 : j->beta,
              .a = (const float *)x->data + from * x->ld + g->at,
              .lda = x->ld,
              .ldb = WIDE,
              .ldc = y->ld};
    bool acts = j->after && g->at + g->k == x->cols;
    /* what the activation writes is asked for while there is something to compute */
    for (int64_t i = from; acts && i < to; i++)
        for (int64_t line = col; line < last; line += LINE)
            __builtin_prefetch((float *)j->after->data + i * j->after->ld + line, 1);
    for (int64_t i = first; i < end; i++, col += WIDE) {
        t.b = g->panels + i * g->k * WIDE;
        t.c = (float *)y->data + from * y->ld + col;
        if (!g->at) {
            t.bias = j->bias ? j->bias + col : NULL;
            t.residual = r ? (const float *)r->data + from * r->ld + col : NULL;
            t.ld_residual = r ? r->ld : 0;
        }
        compute_columns(&t, false, least(last - col, WIDE));
    }
    if (!acts)
        return;
    col = g->col + first * WIDE;
    for (int64_t i = from; i < to; i++)
        la_cpu_activation_row(j->kind, last - col, (const float *)y->data + i * y->ld + col,
                              (float *)j->after->data + i * j->after->ld + col);
}

/* Strips of TALL rows are shared out, several at a time, and where they are few also the panels. */
static void compute_group(la_team team, const group *g) {
    enum { STRIPS = 4 };
    static const double ALONE = 1 << 19; /* multiplications below which threads are not woken */
    int64_t m = g->x->rows, panels = pieces(g->cols, WIDE), strips = pieces(m, TALL);
    int64_t shares = g->trans_w ? panels : least(team.threads, g->k);
    int64_t threads = team.threads, parts = pieces(strips, STRIPS), sides = 1;
    if (threads > 1 && parts < 4 * threads)
        parts = least(strips, 4 * threads);
    if (parts < 2 * threads)
        sides = threads > 1 ? least(panels, pieces(2 * threads, parts)) : 1;
#pragma omp parallel num_threads(team.threads) if ((double)m * (double)(g->cols * g->k) > ALONE)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < shares; i++) {
            if (g->trans_w)
                lay_down_rows(g, i * panels / shares, (i + 1) * panels / shares);
            else
                lay_down_columns(g, i * g->k / shares, (i + 1) * g->k / shares);
        }
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < parts * sides; i++) {
            int64_t part = i / sides, side = i % sides;
            for (int64_t s = part * strips / parts; s < (part + 1) * strips / parts; s++)
                compute_rows(g, s * m / strips, (s + 1) * m / strips, side * panels / sides,
                             (side + 1) * panels / sides);
        }
    }
}

size_t la_cpu_product_bytes(void) {
    return GROUP_FLOATS * sizeof(float);
}

void la_cpu_product(la_backend *be, const la_mat *x, const la_mat *w, bool trans_w,
                    const la_cpu_joined *joined, la_mat *y) {
    int64_t k = x->cols, n = trans_w ? w->rows : w->cols;
    int64_t depth = pieces(k, pieces(k, DEPTH)), most = GROUP_FLOATS / depth / WIDE * WIDE;
    int64_t cols = pieces(pieces(n, pieces(n, most)), WIDE) * WIDE;
    float *panels = la_cpu_scratch_get(be, LA_SCRATCH_PANEL, la_cpu_product_bytes());
    if (!panels)
        return;
    for (int64_t col = 0; col < n; col += cols)
        for (int64_t at = 0; at < k; at += depth) {
            group g = {.x = x,
                       .w = w,
                       .trans_w = trans_w,
                       .joined = joined,
                       .y = y,
                       .col = col,
                       .cols = least(n - col, cols),
                       .at = at,
                       .k = least(k - at, depth),
                       .panels = panels};
            compute_group(be->team, &g);
        }
}

bool la_cpu_product_own(la_shape shape) {
    return la_products_free(shape);
}

/* ---- small products ---- */

/* A piece of k, at most SMALL_DEPTH. */
static void add_small(const la_gemm *g, int64_t at, int64_t k) {
    const float *a = (const float *)g->a + (g->trans_a ? at * g->lda : at), *b = g->b;
    int64_t strips = pieces(g->m, TALL);
    for (int64_t col = 0; col < g->n; col += WIDE) {
        float panel[SMALL_DEPTH * WIDE];
        int64_t cols = least(g->n - col, WIDE);
        tile t = {
            .k = k, .alpha = g->alpha, .beta = at ? 1 : g->beta, .lda = g->lda, .ldc = g->ldc};
        t.b = panel;
        t.ldb = WIDE;
        if (g->trans_b) {
            turn_panel(b + col * g->ldb + at, g->ldb, cols, k, panel);
        } else if (cols < WIDE) {
            copy_panel(b + at * g->ldb + col, g->ldb, cols, k, panel);
        } else {
            t.b = b + at * g->ldb + col;
            t.ldb = g->ldb;
        }
        for (int64_t s = 0; s < strips; s++) {
            int64_t from = s * g->m / strips;
            t.rows = (s + 1) * g->m / strips - from;
            t.c = g->c + from * g->ldc + col;
            t.a = a + (g->trans_a ? from : from * g->lda);
            compute_columns(&t, g->trans_a, cols);
        }
    }
}

void la_cpu_product_small(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                          const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
                          float *c, int64_t ldc) {
    la_gemm g = {trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc};
    if (!k || !la_cpu_product_own(LA_SHAPE_SMALL)) {
        la_product_f32(&g);
        return;
    }
    for (int64_t at = 0; at < k; at += SMALL_DEPTH)
        add_small(&g, at, least(k - at, SMALL_DEPTH));
}

#else /* no such instructions */

size_t la_cpu_product_bytes(void) {
    return 0;
}

bool la_cpu_product_own(la_shape shape) {
    (void)shape;
    return false;
}

void la_cpu_product(la_backend *be, const la_mat *x, const la_mat *w, bool trans_w,
                    const la_cpu_joined *joined, la_mat *y) {
    (void)be, (void)x, (void)w, (void)trans_w, (void)joined, (void)y;
}

void la_cpu_product_small(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                          const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
                          float *c, int64_t ldc) {
    la_sgemm(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

#endif

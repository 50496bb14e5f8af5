/* Attention over packed rows, forward and backward.
 *
 * Largest gaps observed, emulated (tf32 is as f32). Sharp: scores of 100 and more, whose rounding
 * the exponential magnifies.
 *
 *                                   f32      sharp    bf16     sharp
 *   attention                       5.8e-7   4.0e-6   3.7e-3   2.3e-3
 *   attention_backward q            1.7e-6   7.8e-6   5.9e-3   8.5e-3
 *                      k            1.3e-6   6.6e-6   5.5e-3   1.3e-2
 *                      v            5.4e-7   2.1e-6   4.1e-3   3.4e-3
 *                      distances    1.2e-6   5.7e-6   6.0e-3   8.8e-3 */
#include "cuda/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RHS = 3, ROWS_MAX = 8, TOKENS_MAX = 300, ALL = LA_ATTENTION_ALL };

typedef struct lengths {
    int64_t n, rows[ROWS_MAX];
} lengths;

/* Around the sizes of tiles, and one key alone; the last ones are short, for wide heads. */
static const lengths packs[] = {
    {5, {33, 1, 130, 7, 70}},
    {3, {64, 1, 65}},
    {4, {7, 1, 70, 33}},
};

/* Tokens of a row that are queries. */
typedef enum queries { EVERY, ONE, SOME } queries;

/* Terms of scores that know distances. */
enum { NEITHER = 0, POS_K = 1, POS_Q = 2, BOTH = 3 };

typedef struct attention_case {
    int64_t head_dim, heads, kv_heads, pack;
    int64_t before, after;
    queries queries;
    double sharp; /* times 1 / sqrt(head_dim): large scores must not overflow */
    double softcap;
    int relative;
} attention_case;

static const attention_case cases[] = {
    {5, 3, 3, 0, ALL, ALL, EVERY, 1, 0, NEITHER},
    {5, 6, 2, 0, ALL, 0, EVERY, 1, 0, NEITHER},
    {8, 2, 1, 1, ALL, 0, EVERY, 1, 0, NEITHER},
    {20, 2, 2, 1, ALL, ALL, EVERY, 1, 0, NEITHER},
    {32, 4, 4, 2, ALL, ALL, EVERY, 1, 0, NEITHER},
    {32, 3, 1, 0, ALL, 0, EVERY, 1, 0, NEITHER},
    {64, 2, 2, 0, ALL, ALL, EVERY, 1, 0, NEITHER},
    {64, 4, 2, 2, ALL, 0, EVERY, 1, 0, NEITHER},
    {72, 2, 2, 2, ALL, 0, EVERY, 1, 0, NEITHER},
    {72, 2, 1, 2, ALL, ALL, EVERY, 1, 0, NEITHER},
    {128, 2, 1, 2, ALL, 0, EVERY, 1, 0, NEITHER},
    {128, 1, 1, 1, ALL, ALL, EVERY, 1, 0, NEITHER},
    {5, 4, 1, 0, ALL, ALL, ONE, 1, 0, NEITHER},
    {20, 4, 1, 0, ALL, 0, ONE, 1, 0, NEITHER},
    {64, 2, 2, 0, ALL, ALL, ONE, 1, 0, NEITHER},
    {128, 4, 2, 2, ALL, 0, ONE, 1, 0, NEITHER},
    {8, 2, 2, 0, ALL, ALL, SOME, 1, 0, NEITHER},
    {20, 2, 1, 0, ALL, 0, SOME, 1, 0, NEITHER},
    {64, 2, 1, 0, ALL, 0, SOME, 1, 0, NEITHER},
    {64, 2, 1, 2, ALL, 0, EVERY, 30, 0, NEITHER},
    {32, 2, 2, 2, ALL, ALL, ONE, 30, 0, NEITHER},
    /* windows: narrower and wider than a tile, on one side and on both */
    {8, 2, 1, 0, 5, 0, EVERY, 1, 0, NEITHER},
    {64, 2, 2, 0, 40, 40, EVERY, 1, 0, NEITHER},
    {20, 2, 2, 0, 1, 0, EVERY, 1, 0, NEITHER},
    {32, 2, 1, 0, 3, 17, EVERY, 1, 0, NEITHER},
    {5, 2, 2, 0, 0, ALL, EVERY, 1, 0, NEITHER},
    {20, 4, 2, 0, 9, 4, ONE, 1, 0, NEITHER},
    {32, 2, 1, 0, 12, 0, SOME, 1, 0, NEITHER},
    {72, 2, 2, 0, 20, 20, SOME, 1, 0, NEITHER},
    {32, 2, 2, 0, 33, 2, EVERY, 30, 0, NEITHER},
    /* a softcap that bends, also where scores are far beyond it */
    {20, 4, 2, 0, ALL, 0, EVERY, 1, 1.5, NEITHER},
    {64, 2, 1, 2, 21, 0, EVERY, 1, 0.8, NEITHER},
    {64, 2, 2, 2, ALL, ALL, SOME, 30, 50, NEITHER},
    /* wide heads */
    {160, 2, 1, 2, ALL, 0, EVERY, 1, 0, NEITHER},
    {160, 2, 2, 1, ALL, ALL, SOME, 1, 0, NEITHER},
    {256, 2, 1, 2, ALL, 0, EVERY, 1, 2, NEITHER},
    {256, 1, 1, 1, 30, 8, EVERY, 1, 0, NEITHER},
    {250, 2, 2, 2, ALL, ALL, ONE, 1, 0, NEITHER},
    /* distances */
    {5, 3, 3, 0, ALL, ALL, EVERY, 1, 0, BOTH},
    {64, 2, 2, 0, ALL, ALL, EVERY, 1, 0, BOTH},
    {32, 2, 2, 0, ALL, ALL, EVERY, 1, 0, POS_K},
    {32, 2, 2, 0, ALL, ALL, EVERY, 1, 0, POS_Q},
    {20, 2, 2, 0, ALL, ALL, ONE, 1, 0, BOTH},
    {64, 2, 2, 0, ALL, ALL, SOME, 1, 0, BOTH},
    {72, 1, 1, 2, 40, 3, EVERY, 1, 0, BOTH},
    {128, 1, 1, 2, ALL, 0, EVERY, 1, 3, BOTH},
    {32, 2, 2, 2, ALL, ALL, EVERY, 20, 0, BOTH},
};

/* A batch of rows on both sides. */
typedef struct batch {
    attention_case of;
    int64_t tokens, queries, n_rows, max_length, max_queries;
    operand *cu, *cu_q, *q_at; /* cu_q is cu where every token is a query */
    operand *q, *k, *v, *lse, *out;
    /* distances: [0] pos_k, [1] pos_q; reached: rows of them that belong to rows of the batch */
    operand *at, *cu_relative, *pos[2], *dpos[2];
    int64_t reached;
    la_relative relative; /* on the side of this run */
} batch;

/* Near distances have a row of the tables each, farther ones share, the farthest the last one. */
enum { NEAR = 14, FARTHEST = 19, TABLE = 2 * FARTHEST + 2, REACH = 140 };

static int32_t table_row(int64_t distance) {
    int64_t away = distance < 0 ? -distance : distance;
    if (away > NEAR)
        away = NEAR + (int64_t)ceil(2 * log2((double)away / NEAR));
    away = away > FARTHEST ? FARTHEST : away;
    return (int32_t)(FARTHEST + 1 + (distance < 0 ? -away : away));
}

/* Largest gap for a row of this length. */
static int64_t rows_reached(int64_t length) {
    return table_row(length - 1) - table_row(1 - length) + 1;
}

static void open_relative(batch *b, const lengths *rows) {
    int32_t at[2 * REACH + 1], cu[ROWS_MAX + 1] = {0};
    for (int64_t d = -REACH; d <= REACH; d++)
        at[REACH + d] = table_row(d);
    for (int64_t r = 0; r < rows->n; r++)
        cu[r + 1] = (int32_t)(cu[r] + rows_reached(rows->rows[r]));
    b->at = ints(2 * REACH + 1, at);
    b->cu_relative = ints(rows->n + 1, cu);
    b->reached = cu[rows->n];
    /* reserved for what these rows reach, or not at all */
    int64_t most = rows_reached(b->max_length);
    assert_in_range(most, 1, TABLE);
    la_sizes sizes = {.max_relative = b->of.heads % 2 ? 0 : most};
    la_error err = {0};
    assert_int_equal(device.ops->reserve(&device, &sizes, &err), LA_OK);
}

static la_mat mat_or_none(operand *o) {
    return o ? *on(o) : (la_mat){0};
}

static const la_relative *relative_of(batch *b) {
    b->relative = (la_relative){.pos_k = mat_or_none(b->pos[0]),
                                .pos_q = mat_or_none(b->pos[1]),
                                .at = data(b->at),
                                .reach = REACH,
                                .cu = data(b->cu_relative),
                                .dpos_k = mat_or_none(b->dpos[0]),
                                .dpos_q = mat_or_none(b->dpos[1])};
    return b->of.relative ? &b->relative : NULL;
}

/* The places of a row's queries; how many there are. */
static int64_t places_of(queries which, int64_t row, int64_t length, int32_t *at) {
    int64_t n = 0;
    for (int64_t t = 0; t < length; t++) {
        /* one: the last, the first, or from the middle; some: with steps of 1, 2, 3, ... between */
        int64_t one = row % 3 == 0 ? length - 1 : row % 3 == 1 ? 0 : length / 2;
        if (which == EVERY || (which == ONE && t == one) ||
            (which == SOME && t == n * (n + 1) / 2 + (length > 1)))
            at[n++] = (int32_t)t;
    }
    return n;
}

static void open_batch(batch *b, const attention_case *of, const lengths *rows) {
    int32_t cu[ROWS_MAX + 1] = {0}, cu_q[ROWS_MAX + 1] = {0}, at[TOKENS_MAX];
    *b = (batch){.of = *of, .n_rows = rows->n};
    for (int64_t r = 0; r < rows->n; r++) {
        int64_t length = rows->rows[r];
        int64_t n = places_of(of->queries, r, length, at + cu_q[r]);
        cu[r + 1] = (int32_t)(cu[r] + length);
        cu_q[r + 1] = (int32_t)(cu_q[r] + n);
        b->max_length = length > b->max_length ? length : b->max_length;
        b->max_queries = n > b->max_queries ? n : b->max_queries;
    }
    b->tokens = cu[rows->n];
    b->queries = cu_q[rows->n];
    b->cu = ints(rows->n + 1, cu);
    b->cu_q = of->queries == EVERY ? b->cu : ints(rows->n + 1, cu_q);
    b->q_at = ints(b->queries, at);
    if (of->relative)
        open_relative(b, rows);
}

static la_attention attention_of(batch *b) {
    return (la_attention){
        .n_rows = b->n_rows,
        .cu = data(b->cu),
        .cu_q = data(b->cu_q),
        .q_at = data(b->q_at),
        .n_heads = b->of.heads,
        .n_kv_heads = b->of.kv_heads,
        .head_dim = b->of.head_dim,
        .max_length = b->max_length,
        .max_queries = b->max_queries,
        .scale = (float)(b->of.sharp / sqrt((double)b->of.head_dim)),
        .before = b->of.before,
        .after = b->of.after,
        .softcap = (float)b->of.softcap,
        .relative = relative_of(b),
    };
}

static void attend(batch *b, la_dtype type) {
    b->lse = dense_result(LA_F32, b->queries, b->of.heads);
    b->out = result(type, b->queries, b->of.heads * b->of.head_dim);
    while (next_run()) {
        la_attention a = attention_of(b);
        be->ops->attention(be, &a, on(b->q), on(b->k), on(b->v), data(b->lse), on(b->out));
    }
}

static void draw_batch(batch *b, la_dtype type) {
    b->q = drawn(type, b->queries, b->of.heads * b->of.head_dim, 1);
    b->k = drawn(type, b->tokens, b->of.kv_heads * b->of.head_dim, 1);
    b->v = drawn(type, b->tokens, b->of.kv_heads * b->of.head_dim, 1);
    for (int i = 0; i < 2; i++)
        if (b->of.relative & (i ? POS_Q : POS_K))
            b->pos[i] = drawn(type, TABLE, b->of.heads * b->of.head_dim, 1);
}

/* Gaps between rows in most cases; with 1, three heads of 5 begin at multiples of 16; the last one
 * is as a matrix lies within a wider one. */
static void lay_out_case(int64_t c) {
    static const int64_t pads[][2] = {{1, 0}, {8, 0}, {0, 0}, {3, 1}, {64, 32}};
    lay_out(pads[c % COUNT(pads)][0], pads[c % COUNT(pads)][1]);
}

static void attention(la_dtype type) {
    double worst[2] = {0};
    for (int64_t c = 0; c < COUNT(cases); c++) {
        batch b;
        open_batch(&b, &cases[c], &packs[cases[c].pack]);
        lay_out_case(c);
        draw_batch(&b, type);
        attend(&b, type);
        bool sharp = cases[c].sharp > 1;
        worst[sharp] = larger(worst[sharp], gap(b.out));
        forget();
    }
    check("attention", type, worst[0], (limits){2e-6, 2e-6, 8e-3});
    check("attention, sharp", type, worst[1], (limits){1.6e-5, 1.6e-5, 8e-3});
}

enum { WANT_QK = 1, WANT_V = 2 };

typedef struct attention_gaps {
    double dq, dk, dv, dpos;
} attention_gaps;

static void backward_case(la_dtype type, int64_t c, int64_t n_rhs, int want, attention_gaps *gaps) {
    batch b;
    open_batch(&b, &cases[c], &packs[cases[c].pack]);
    lay_out_case(c);
    draw_batch(&b, type);
    attend(&b, type);
    becomes_input(b.lse);
    becomes_input(b.out);
    int64_t wide = b.of.heads * b.of.head_dim, narrow = b.of.kv_heads * b.of.head_dim;
    operand *g = drawn(type, n_rhs * b.queries, wide, 1);
    operand *dq = want & WANT_QK ? result(type, n_rhs * b.queries, wide) : NULL;
    operand *dk = want & WANT_QK ? result(type, n_rhs * b.tokens, narrow) : NULL;
    operand *dv = want & WANT_V ? result(type, n_rhs * b.tokens, narrow) : NULL;
    for (int i = 0; i < 2; i++)
        if (b.pos[i])
            b.dpos[i] = result(type, n_rhs * b.reached, wide);
    while (next_run()) {
        la_attention a = attention_of(&b);
        be->ops->attention_backward(be, &a, on(b.q), on(b.k), on(b.v), data(b.lse), on(b.out),
                                    n_rhs, on(g), on(dq), on(dk), on(dv));
    }
    if (want & WANT_QK) {
        gaps->dq = larger(gaps->dq, gap(dq));
        gaps->dk = larger(gaps->dk, gap(dk));
    }
    if (want & WANT_V)
        gaps->dv = larger(gaps->dv, gap(dv));
    for (int i = 0; i < 2; i++)
        if (b.dpos[i])
            gaps->dpos = larger(gaps->dpos, gap(b.dpos[i]));
    forget();
}

static void attention_backward(la_dtype type) {
    attention_gaps gaps[2] = {{0}};
    for (int64_t c = 0; c < COUNT(cases); c++) {
        attention_gaps *to = &gaps[cases[c].sharp > 1];
        backward_case(type, c, c % 2 ? 1 : RHS, WANT_QK | WANT_V, to);
        backward_case(type, c, c % 3 ? 1 : RHS, c % 2 ? WANT_V : WANT_QK, to);
    }
    check("attention_backward, q", type, gaps[0].dq, (limits){5e-6, 5e-6, 2e-2});
    check("attention_backward, k", type, gaps[0].dk, (limits){5e-6, 5e-6, 2e-2});
    check("attention_backward, v", type, gaps[0].dv, (limits){2e-6, 2e-6, 8e-3});
    check("attention_backward, distances", type, gaps[0].dpos, (limits){4.5e-6, 4.5e-6, 2e-2});
    check("attention_backward, q, sharp", type, gaps[1].dq, (limits){3e-5, 3e-5, 3e-2});
    check("attention_backward, k, sharp", type, gaps[1].dk, (limits){2.6e-5, 2.6e-5, 4e-2});
    check("attention_backward, v, sharp", type, gaps[1].dv, (limits){7e-6, 7e-6, 1.2e-2});
    check("attention_backward, distances, sharp", type, gaps[1].dpos,
          (limits){2.2e-5, 2.2e-5, 3e-2});
}

/* ---- independence of rows ---- */

/* Numbers of all rows there are, [tokens, width]; a pack takes those of its rows. */
enum { N_ALL = 4 };
static const int64_t all_lengths[N_ALL] = {33, 7, 130, 70};

typedef struct pack_order {
    int64_t n, row[N_ALL];
} pack_order;

static int64_t start_of(int64_t row) {
    int64_t start = 0;
    for (int64_t r = 0; r < row; r++)
        start += all_lengths[r];
    return start;
}

/* [n_rhs, tokens of the pack, width] from [n_rhs, all tokens, width] */
static operand *packed(la_dtype type, const pack_order *order, const double *all, int64_t n_rhs,
                       int64_t width) {
    int64_t tokens = 0, at = 0;
    for (int64_t i = 0; i < order->n; i++)
        tokens += all_lengths[order->row[i]];
    double *values = calloc((size_t)(n_rhs * tokens * width), sizeof *values);
    assert_non_null(values);
    for (int64_t k = 0; k < n_rhs; k++)
        for (int64_t i = 0; i < order->n; i++) {
            int64_t count = all_lengths[order->row[i]] * width;
            int64_t from = (k * start_of(N_ALL) + start_of(order->row[i])) * width;
            memcpy(values + at, all + from, (size_t)count * sizeof *values);
            at += count;
        }
    operand *o = given(type, n_rhs * tokens, width, values);
    free(values);
    return o;
}

enum { OUT, DQ, DK, DV, DPOS_K, DPOS_Q, RESULTS };

/* Kinds of numbers in q, k, v, g, pos_k, pos_q. */
enum { NUMBERS = 6 };

/* Numbers of row 0 among the results of a pack: [RESULTS][RHS * tokens * width, or RHS * lines that
 * it reaches * width]. */
static void results_of_row(la_dtype type, const attention_case *of, const pack_order *order,
                           double *const all[NUMBERS], double *kept[RESULTS]) {
    int64_t wide = of->heads * of->head_dim, narrow = of->kv_heads * of->head_dim, first = 0;
    int64_t first_reached = 0;
    lengths rows = {.n = order->n};
    batch b;
    for (int64_t i = 0; i < order->n; i++)
        rows.rows[i] = all_lengths[order->row[i]];
    for (int64_t i = 0; order->row[i]; i++) {
        first += rows.rows[i];
        first_reached += rows_reached(rows.rows[i]);
    }
    open_batch(&b, of, &rows);
    b.q = packed(type, order, all[0], 1, wide);
    b.k = packed(type, order, all[1], 1, narrow);
    b.v = packed(type, order, all[2], 1, narrow);
    for (int i = 0; of->relative && i < 2; i++)
        b.pos[i] = given(type, TABLE, wide, all[4 + i]);
    attend(&b, type);
    becomes_input(b.lse);
    becomes_input(b.out);
    operand *g = packed(type, order, all[3], RHS, wide), *results[RESULTS] = {b.out};
    results[DQ] = result(type, RHS * b.tokens, wide);
    results[DK] = result(type, RHS * b.tokens, narrow);
    results[DV] = result(type, RHS * b.tokens, narrow);
    for (int i = 0; of->relative && i < 2; i++)
        results[DPOS_K + i] = b.dpos[i] = result(type, RHS * b.reached, wide);
    while (next_run()) {
        la_attention a = attention_of(&b);
        be->ops->attention_backward(be, &a, on(b.q), on(b.k), on(b.v), data(b.lse), on(b.out), RHS,
                                    on(g), on(results[DQ]), on(results[DK]), on(results[DV]));
    }
    for (int i = 0; i < RESULTS && results[i]; i++) {
        bool tables = i >= DPOS_K;
        int64_t step = tables ? b.reached : b.tokens, at = tables ? first_reached : first;
        int64_t n = tables ? rows_reached(all_lengths[0]) : all_lengths[0];
        double *to = kept[i];
        for (int64_t k = 0; k < (i == OUT ? 1 : RHS); k++)
            for (int64_t t = 0; t < n; t++)
                for (int64_t j = 0; j < results[i]->host.cols; j++)
                    *to++ = got(results[i], k * step + at + t, j);
    }
    forget();
}

/* A row's results are the same to the last bit whatever is in the pack with it, and wherever. */
static void rows_are_independent(la_dtype type) {
    static const attention_case of[] = {
        {5, 2, 2, 0, ALL, ALL, EVERY, 1, 0, NEITHER},
        {64, 2, 1, 0, ALL, 0, EVERY, 1, 0, NEITHER},
        {32, 2, 1, 0, 21, 9, EVERY, 1, 1.5, NEITHER},
        {32, 2, 2, 0, ALL, ALL, EVERY, 1, 0, BOTH},
    };
    static const pack_order orders[] = {{1, {0}}, {3, {1, 0, 3}}, {4, {2, 3, 1, 0}}};
    static const char *const names[RESULTS] = {"out", "dq", "dk", "dv", "dpos_k", "dpos_q"};
    for (int64_t c = 0; c < COUNT(of); c++) {
        int64_t wide = of[c].heads * of[c].head_dim, tokens = start_of(N_ALL);
        int64_t reached = rows_reached(all_lengths[0]);
        size_t most = (size_t)(RHS * (reached > all_lengths[0] ? reached : all_lengths[0]) * wide);
        double *all[NUMBERS], *alone[RESULTS], *among[RESULTS];
        for (int i = 0; i < NUMBERS; i++)
            all[i] = normal((i == 3 ? RHS : 1) * tokens * wide);
        for (int i = 0; i < RESULTS; i++) {
            alone[i] = calloc(most, sizeof *alone[i]);
            among[i] = calloc(most, sizeof *among[i]);
            assert_true(alone[i] && among[i]);
        }
        results_of_row(type, &of[c], &orders[0], all, alone);
        for (int64_t o = 1; o < COUNT(orders); o++) {
            results_of_row(type, &of[c], &orders[o], all, among);
            for (int i = 0; i < RESULTS; i++)
                if (memcmp(alone[i], among[i], most * sizeof *alone[i]))
                    fail_msg("%s of a row depends on the other rows of its pack", names[i]);
        }
        for (int i = 0; i < NUMBERS; i++)
            free(all[i]);
        for (int i = 0; i < RESULTS; i++)
            free(alone[i]), free(among[i]);
    }
}

int main(void) {
    static const op_test tests[] = {
        {"attention", attention, EACH},
        {"attention_backward", attention_backward, EACH},
        {"rows_are_independent", rows_are_independent, EACH},
    };
    return run_ops("attention", tests, COUNT(tests));
}

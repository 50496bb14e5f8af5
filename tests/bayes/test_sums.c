/* Sums of unfinished fits over made-up blocks: those of different rows add up, and a fit that was
 * saved goes on as if nothing had happened. */
#include "base/memory.h"
#include "bayes/factored.h"
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 3, ROWS = 24, TOKENS = 3, RHS = 2, BATCH = 4, ARRAYS = 64 };

/* Two blocks that read one matrix, and one that is taller than wide. */
static const struct {
    int64_t out, in, input;
} shapes[BLOCKS] = {{4, 40, 0}, {3, 40, 0}, {12, 5, 1}};

/* Backend, blocks and the rows that they are summed over. */
static struct {
    la_backend be;
    la_blocks blocks;
    la_block list[BLOCKS];
    int64_t index[BLOCKS];
    float x[2][ROWS * TOKENS * 40];
    float g[BLOCKS][ROWS * RHS * TOKENS * 12]; /* batch by batch */
} rows;

static uint64_t seed = 7;

static float uniform(void) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(seed >> 11) / 9007199254740992.0 - 0.5);
}

static int open_rows(void **state) {
    (void)state;
    static const char *const names[BLOCKS] = {"one", "two", "three"};
    la_error err = {0};
    if (la_backend_open_cpu(la_team_of(2), &rows.be, &err) != LA_OK)
        return -1;
    for (int b = 0; b < BLOCKS; b++) {
        rows.index[b] = b;
        rows.list[b] = (la_block){.name = names[b],
                                  .out = shapes[b].out,
                                  .in = shapes[b].in,
                                  .input = shapes[b].input,
                                  .theta_square = 1,
                                  .wanted = true};
        for (size_t i = 0; i < sizeof rows.g[b] / sizeof **rows.g; i++)
            rows.g[b][i] = uniform();
    }
    for (size_t i = 0; i < sizeof rows.x / sizeof **rows.x; i++)
        rows.x[i / (ROWS * TOKENS * 40)][i % (ROWS * TOKENS * 40)] = uniform();
    rows.blocks = (la_blocks){.be = &rows.be,
                              .list = rows.list,
                              .n = BLOCKS,
                              .n_inputs = 2,
                              .index = rows.index,
                              .rows_each_token = 1};
    return 0;
}

static int close_rows(void **state) {
    (void)state;
    rows.be.ops->close(&rows.be);
    return 0;
}

/* ---- fits ---- */

typedef struct fitting {
    const la_structure_kind *kind;
    la_structure_fit *fit;
    la_posterior posterior;
    la_fit_pass pass;
} fitting;

static const struct {
    const char *title;
    const la_structure_kind *kind;
    la_kron kron;
    int64_t rank;
} cases[] = {
    {"kron, expand", &la_structure_kron, LA_KRON_EXPAND, 0},
    {"kron, reduce", &la_structure_kron, LA_KRON_REDUCE, 0},
    {"kron, sketched", &la_structure_kron, LA_KRON_EXPAND, 1},
    {"ekfac", &la_structure_ekfac, LA_KRON_EXPAND, 0},
    {"diag", &la_structure_diag, LA_KRON_EXPAND, 0},
};
enum { CASES = sizeof cases / sizeof *cases };

static void next(fitting *f) {
    la_error err = {0};
    if (la_structure_next(f->kind, &f->fit, 1, &rows.blocks, &f->posterior, &f->pass, &err) !=
        LA_OK)
        fail_msg("%s", err.message);
}

/* A fit whose first pass has begun. */
static fitting begin(int which, int64_t n_rows) {
    la_error err = {0};
    la_fit_shape shape = {.batch = {BATCH, BATCH * TOKENS, RHS},
                          .kron = cases[which].kron,
                          .rank = cases[which].rank,
                          .n_rows = n_rows};
    fitting f = {.kind = cases[which].kind,
                 .posterior = {.curvature = cases[which].kind->curvature,
                               .n_rows = n_rows,
                               .n_tokens = n_rows * TOKENS,
                               .likelihood = &la_softmax_likelihood}};
    if (f.kind->fit->open(&rows.blocks, &shape, &f.fit, &err) != LA_OK)
        fail_msg("%s", err.message);
    next(&f);
    return f;
}

/* Rows [from, to), which begin a batch. */
static void see(fitting *f, int64_t from, int64_t to) {
    int32_t cu[BATCH + 1];
    for (int i = 0; i <= BATCH; i++)
        cu[i] = i * TOKENS;
    for (int64_t at = from; at < to; at += BATCH) {
        if (f->kind->fit->batch)
            f->kind->fit->batch(f->fit, at, BATCH);
        la_block_visitor visitor = f->kind->fit->visitor(f->fit);
        for (int64_t b = 0; b < BLOCKS; b++) {
            int64_t in = shapes[b].in, out = shapes[b].out;
            la_mat x = la_mat_f32(rows.x[shapes[b].input] + at * TOKENS * in, BATCH * TOKENS, in);
            la_mat g = la_mat_f32(rows.g[b] + at * RHS * TOKENS * out, RHS * BATCH * TOKENS, out);
            visitor.visit(visitor.user, b,
                          &(la_block_io){.x = &x,
                                         .cu = cu,
                                         .x_at_g = &x,
                                         .g = &g,
                                         .cu_g = cu,
                                         .g_scale = 1,
                                         .n_rows = BATCH,
                                         .n_rhs = RHS});
        }
    }
}

static void end(fitting *f) {
    f->kind->fit->close(f->fit);
    la_posterior_free(&f->posterior);
}

/* Ends the first pass; a second sees all rows. */
static void finish(fitting *f) {
    for (next(f); f->pass.more; next(f))
        see(f, f->pass.from, f->pass.to);
}

/* ---- arrays in memory ---- */

typedef struct memory {
    int n, at;
    bool reads;
    struct {
        char name[48];
        int64_t count;
        double *data;
    } arrays[ARRAYS];
} memory;

static la_status visit(void *user, const la_array *array, la_error *err) {
    memory *m = user;
    int64_t count = array->rows * array->cols;
    if (!m->reads) {
        assert_true(m->n < ARRAYS);
        m->arrays[m->n].count = count;
        m->arrays[m->n].data = malloc((size_t)count * sizeof(double));
        memcpy(m->arrays[m->n].data, array->data, (size_t)count * sizeof(double));
        snprintf(m->arrays[m->n++].name, sizeof m->arrays[0].name, "%s", array->name);
        return LA_OK;
    }
    if (m->at == m->n || strcmp(m->arrays[m->at].name, array->name) ||
        m->arrays[m->at].count != count)
        return la_fail(err, LA_BAD_INPUT, "%s: is another array", array->name);
    for (int64_t i = 0; i < count; i++)
        array->data[i] += m->arrays[m->at].data[i];
    m->at++;
    return LA_OK;
}

static memory save(fitting *f) {
    memory m = {0};
    la_error err = {0};
    la_array_visitor to = {visit, &m};
    if (la_structure_visit(f->kind, f->fit, false, &to, &err) != LA_OK)
        fail_msg("%s", err.message);
    assert_true(m.n > 0);
    return m;
}

static la_status restore(fitting *f, memory *m, la_error *err) {
    la_array_visitor from = {visit, m};
    m->reads = true;
    m->at = 0;
    return la_structure_visit(f->kind, f->fit, true, &from, err);
}

static void forget(memory *m) {
    for (int i = 0; i < m->n; i++)
        free(m->arrays[i].data);
}

/* Largest difference, relative to the largest number of the same array. */
static double gap(const memory *a, const memory *b) {
    double worst = 0;
    assert_int_equal(a->n, b->n);
    for (int i = 0; i < a->n; i++) {
        double most = 0, apart = 0;
        assert_string_equal(a->arrays[i].name, b->arrays[i].name);
        assert_int_equal(a->arrays[i].count, b->arrays[i].count);
        for (int64_t j = 0; j < a->arrays[i].count; j++) {
            most = fmax(most, fabs(a->arrays[i].data[j]));
            apart = fmax(apart, fabs(a->arrays[i].data[j] - b->arrays[i].data[j]));
        }
        assert_true(most > 0);
        worst = fmax(worst, apart / most);
    }
    return worst;
}

/* ---- tests ---- */

/* Rows A, rows B, merged one way or the other, and all at once: batches are summed in f32, so that
 * those of both ways are the same, and they are added in f64. */
static void parts_add_up(void **state) {
    (void)state;
    enum { CUT = 8 };
    double worst = 0, order = 0;
    for (int k = 0; k < CASES; k++) {
        la_error err = {0};
        fitting all = begin(k, ROWS), some = begin(k, CUT), others = begin(k, ROWS - CUT);
        fitting ahead = begin(k, ROWS - CUT), behind = begin(k, CUT);
        see(&all, 0, ROWS);
        see(&some, 0, CUT), see(&behind, 0, CUT);
        see(&others, CUT, ROWS), see(&ahead, CUT, ROWS);
        la_structure_fit *both[] = {some.fit, others.fit}, *turned[] = {ahead.fit, behind.fit};
        assert_int_equal(la_structure_merge(some.kind, both, 2, &err), LA_OK);
        assert_int_equal(la_structure_merge(some.kind, turned, 2, &err), LA_OK);
        memory a = save(&all), b = save(&some), c = save(&ahead);
        worst = fmax(worst, gap(&a, &b));
        order = fmax(order, gap(&b, &c));
        forget(&a), forget(&b), forget(&c);
        end(&all), end(&some), end(&others), end(&ahead), end(&behind);
    }
    check_within("sums of two parts and of all", worst, 1e-15);
    check_within("sums of parts in two orders", order, 1e-15);
}

/* A third part is restored into a fit that has the first two: what several files hold adds up. */
static void saved_parts_add_up(void **state) {
    (void)state;
    double worst = 0;
    for (int k = 0; k < CASES; k++) {
        la_error err = {0};
        fitting all = begin(k, ROWS), sum = begin(k, ROWS);
        see(&all, 0, ROWS);
        for (int64_t from = 0; from < ROWS; from += BATCH) {
            fitting part = begin(k, BATCH);
            see(&part, from, from + BATCH);
            memory m = save(&part);
            assert_int_equal(restore(&sum, &m, &err), LA_OK);
            forget(&m);
            end(&part);
        }
        memory a = save(&all), b = save(&sum);
        worst = fmax(worst, gap(&a, &b));
        forget(&a), forget(&b);
        end(&all), end(&sum);
    }
    check_within("sums of six parts and of all", worst, 1e-15);
}

static void check_same(const la_posterior *a, const la_posterior *b) {
    for (int64_t i = 0; i < a->n_inputs; i++) {
        const la_factor *f = &la_factored_inputs(a)[i], *g = &la_factored_inputs(b)[i];
        assert_int_equal(f->rank, g->rank);
        assert_memory_equal(f->values, g->values, (size_t)f->rank * sizeof *f->values);
        assert_memory_equal(f->vectors, g->vectors, (size_t)(f->rank * f->n) * sizeof(float));
    }
    for (int64_t i = 0; i < a->n_blocks; i++) {
        const la_posterior_block *block = &a->blocks[i], *other = &b->blocks[i];
        const la_factored_block *p = block->structure, *q = other->structure;
        assert_true(block->denominator == other->denominator);
        assert_true(block->trace_out == other->trace_out);
        assert_int_equal(p->output.rank, q->output.rank);
        size_t rank = (size_t)p->output.rank;
        if (rank) {
            assert_memory_equal(p->output.values, q->output.values, rank * sizeof(double));
            assert_memory_equal(p->output.vectors, q->output.vectors,
                                rank * (size_t)p->output.n * sizeof(float));
        }
        assert_true(!p->spectrum == !q->spectrum);
        if (p->spectrum)
            assert_memory_equal(p->spectrum, q->spectrum,
                                (size_t)(block->out * block->in) * sizeof(float));
    }
}

/* Interrupted after any batch of the first pass. */
static void interrupted(void **state) {
    (void)state;
    for (int k = 0; k < CASES; k++) {
        la_error err = {0};
        fitting whole = begin(k, ROWS);
        see(&whole, 0, ROWS);
        finish(&whole);
        for (int64_t cut = 0; cut <= ROWS; cut += BATCH) {
            fitting before = begin(k, ROWS), after = begin(k, ROWS);
            see(&before, 0, cut);
            memory m = save(&before);
            end(&before);
            assert_int_equal(restore(&after, &m, &err), LA_OK);
            forget(&m);
            see(&after, cut, ROWS);
            finish(&after);
            check_same(&whole.posterior, &after.posterior);
            end(&after);
        }
        end(&whole);
    }
}

/* The second pass of EKFAC stands on the factors, which its posterior has. */
static void second_pass(void **state) {
    (void)state;
    enum { EKFAC = 3, CUT = 12 };
    la_error err = {0};
    fitting whole = begin(EKFAC, ROWS), before = begin(EKFAC, ROWS), after = begin(EKFAC, ROWS);
    see(&whole, 0, ROWS), finish(&whole);
    see(&before, 0, ROWS), next(&before), see(&before, 0, CUT);
    assert_true(before.pass.more);
    memory m = save(&before);
    assert_int_equal(after.kind->fit->follow(after.fit, &before.posterior, &err), LA_OK);
    assert_int_equal(restore(&after, &m, &err), LA_OK);
    see(&after, CUT, ROWS);
    la_fit_pass pass;
    assert_int_equal(
        la_structure_next(after.kind, &after.fit, 1, &rows.blocks, &before.posterior, &pass, &err),
        LA_OK);
    assert_false(pass.more);
    check_same(&whole.posterior, &before.posterior);
    forget(&m);
    end(&whole), end(&before), end(&after);
}

/* Sums of other blocks, or too few of them. */
static void foreign(void **state) {
    (void)state;
    la_error err = {0};
    fitting full = begin(0, ROWS), sketched = begin(2, ROWS), diagonal = begin(4, ROWS);
    memory m = save(&full), few = save(&full);
    few.n--;
    assert_int_equal(restore(&sketched, &m, &err), LA_BAD_INPUT);
    assert_int_equal(restore(&diagonal, &m, &err), LA_BAD_INPUT);
    assert_int_equal(restore(&full, &few, &err), LA_BAD_INPUT);
    few.n++;
    forget(&m), forget(&few);
    end(&full), end(&sketched), end(&diagonal);
}

/* The exact kind holds rows. */
static void rows_are_no_sums(void **state) {
    (void)state;
    la_error err = {0};
    memory m = {0};
    la_array_visitor to = {visit, &m};
    la_fit_shape shape = {.batch = {BATCH, BATCH * TOKENS, RHS}, .n_rows = ROWS};
    la_structure_fit *fit = NULL;
    assert_int_equal(la_structure_exact.fit->open(&rows.blocks, &shape, &fit, &err), LA_OK);
    assert_int_equal(la_structure_visit(&la_structure_exact, fit, false, &to, &err),
                     LA_UNSUPPORTED);
    assert_non_null(strstr(err.message, "--curvature exact"));
    la_structure_exact.fit->close(fit);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_add_up), cmocka_unit_test(saved_parts_add_up),
        cmocka_unit_test(interrupted),  cmocka_unit_test(second_pass),
        cmocka_unit_test(foreign),      cmocka_unit_test(rows_are_no_sums),
    };
    return cmocka_run_group_tests_name("sums", tests, open_rows, close_rows);
}

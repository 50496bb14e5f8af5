#include "cuda/compare.h"
#include "base/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPERANDS_MAX = 64, GUARD = 64 /* elements behind a matrix */ };

la_backend *be;
la_backend host, device;

static la_precision precision;
static bool available;
static operand operands[OPERANDS_MAX];
static int n_operands, run;
static int64_t layout_pad, layout_offset;
static uint64_t next_stream;

/* ---- numbers of a type ---- */

static uint16_t to_f16(double x) {
    int exponent;
    double m = frexp(fabs(x), &exponent);
    long bits = 0x7c00;
    /* rounding up to the next power of two carries */
    if (x == 0 || exponent < -13)
        bits = lrint(ldexp(fabs(x), 24));
    else if (fabs(x) < 65520)
        bits = ((exponent + 14L) << 10) + lrint(ldexp(m, 11)) - 1024;
    return (uint16_t)(bits | (signbit(x) ? 0x8000 : 0));
}

static uint16_t to_bf16(double x) {
    float single = (float)x;
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void encode(la_dtype type, double x, void *to) {
    float single = (float)x;
    uint16_t half = type == LA_F16 ? to_f16(x) : to_bf16(x);
    if (type == LA_F64)
        memcpy(to, &x, sizeof x);
    else if (type == LA_F32)
        memcpy(to, &single, sizeof single);
    else
        memcpy(to, &half, sizeof half);
}

double decode(la_dtype type, const void *from) {
    double x;
    float single;
    if (type == LA_F64) {
        memcpy(&x, from, sizeof x);
        return x;
    }
    la_dtype_to_f32(type, from, 1, &single);
    return (double)single;
}

double *normal(int64_t n) {
    double *values = calloc((size_t)n + 1, sizeof *values);
    assert_non_null(values);
    la_random_normal(12, ++next_stream, 0, (size_t)n, values);
    return values;
}

/* ---- operands ---- */

void lay_out(int64_t pad, int64_t offset) {
    layout_pad = pad;
    layout_offset = offset;
}

static size_t place_of(const operand *o, int64_t row, int64_t col) {
    size_t size = la_dtype_size(o->device.type);
    size_t start = (size_t)((char *)o->device.data - (char *)o->memory);
    return start + (size_t)(row * o->device.ld + col) * size;
}

static size_t host_bytes(const operand *o) {
    return (size_t)(o->host.rows * o->host.cols) * la_dtype_size(o->host.type);
}

static void *host_at(const operand *o, int64_t row, int64_t col) {
    return (char *)o->host.data + (size_t)(row * o->host.cols + col) * la_dtype_size(o->host.type);
}

/* All bytes set, which is NaN in every type, on both sides. */
static operand *make(la_dtype type, int64_t rows, int64_t cols, int64_t pad, int64_t offset) {
    assert_in_range(n_operands, 0, OPERANDS_MAX - 1);
    operand *o = &operands[n_operands++];
    size_t size = la_dtype_size(type);
    *o = (operand){.bytes = (size_t)(offset + rows * (cols + pad) + GUARD) * size};
    o->memory = device.ops->alloc(&device, o->bytes);
    o->device = (la_mat){(char *)o->memory + (size_t)offset * size, rows, cols, cols + pad, type};
    o->host = la_mat_of(type == LA_F64 ? LA_F64 : LA_F32, NULL, rows, cols);
    o->before = malloc(o->bytes);
    o->first = malloc(o->bytes);
    o->after = malloc(o->bytes);
    o->host.data = malloc(host_bytes(o) + 1);
    o->host_before = malloc(host_bytes(o) + 1);
    assert_true(o->memory && o->before && o->first && o->after && o->host.data && o->host_before);
    memset(o->before, 0xff, o->bytes);
    memset(o->host.data, 0xff, host_bytes(o));
    return o;
}

/* Initial values of the operand: those of before and host. */
static operand *start(operand *o) {
    memcpy(o->host_before, o->host.data, host_bytes(o));
    device.ops->upload(&device, o->memory, o->before, o->bytes);
    return o;
}

static operand *fill(operand *o, const double *values, double scale) {
    for (int64_t i = 0; i < o->host.rows; i++)
        for (int64_t j = 0; j < o->host.cols; j++) {
            unsigned char *to = o->before + place_of(o, i, j);
            encode(o->device.type, scale * values[i * o->host.cols + j], to);
            encode(o->host.type, decode(o->device.type, to), host_at(o, i, j));
        }
    return start(o);
}

operand *given(la_dtype type, int64_t rows, int64_t cols, const double *values) {
    return fill(make(type, rows, cols, layout_pad, layout_offset), values, 1);
}

operand *drawn(la_dtype type, int64_t rows, int64_t cols, double scale) {
    double *values = normal(rows * cols);
    operand *o = fill(make(type, rows, cols, layout_pad, layout_offset), values, scale);
    free(values);
    return o;
}

operand *result(la_dtype type, int64_t rows, int64_t cols) {
    return changed(start(make(type, rows, cols, layout_pad, layout_offset)));
}

operand *dense(la_dtype type, int64_t rows, int64_t cols, const double *values) {
    return fill(make(type, rows, cols, 0, 0), values, 1);
}

operand *dense_result(la_dtype type, int64_t rows, int64_t cols) {
    return changed(start(make(type, rows, cols, 0, 0)));
}

operand *ints(int64_t n, const int32_t *values) {
    /* numbers of the size of f32; their bits are only copied */
    operand *o = make(LA_F32, 1, n, 0, 0);
    memcpy(o->before, values, (size_t)n * sizeof *values);
    memcpy(o->host.data, values, (size_t)n * sizeof *values);
    return start(o);
}

operand *changed(operand *o) {
    o->output = true;
    return o;
}

void becomes_input(operand *o) {
    o->output = false;
    memcpy(o->before, o->after, o->bytes);
}

la_mat *on(operand *o) {
    if (!o)
        return NULL;
    return be == &host ? &o->host : &o->device;
}

void *data(operand *o) {
    return o ? on(o)->data : NULL;
}

void forget(void) {
    for (int i = 0; i < n_operands; i++) {
        operand *o = &operands[i];
        if (o->memory)
            device.ops->release(&device, o->memory);
        free(o->before), free(o->first), free(o->after);
        free(o->host.data), free(o->host_before);
    }
    n_operands = run = 0;
    lay_out(0, 0);
}

/* ---- runs ---- */

static void start_run(void) {
    for (int i = 0; i < n_operands; i++) {
        operand *o = &operands[i];
        if (o->output && be == &host)
            memcpy(o->host.data, o->host_before, host_bytes(o));
        else if (o->output)
            device.ops->upload(&device, o->memory, o->before, o->bytes);
    }
}

/* Elements may have changed; nothing else. */
static void check_frame(const operand *o) {
    size_t row_bytes = (size_t)o->host.cols * la_dtype_size(o->device.type), at = 0;
    for (int64_t i = 0; i <= o->host.rows; i++) {
        size_t end = i < o->host.rows ? place_of(o, i, 0) : o->bytes;
        for (; at < end; at++)
            if (o->after[at] != 0xff)
                fail_msg("byte %zu of %zu, around row %lld, lies outside of the matrix and was "
                         "written",
                         at, o->bytes, (long long)i);
        at += row_bytes;
    }
}

static void end_runs(void) {
    for (int i = 0; i < n_operands; i++) {
        operand *o = &operands[i];
        device.ops->download(&device, o->after, o->memory, o->bytes);
        if (!o->output && memcmp(o->after, o->before, o->bytes))
            fail_msg("an input of %lld x %lld was written", (long long)o->host.rows,
                     (long long)o->host.cols);
        if (!o->output)
            continue;
        check_frame(o);
        if (memcmp(o->after, o->first, o->bytes))
            fail_msg("the second run's %lld x %lld differ from the first one's",
                     (long long)o->host.rows, (long long)o->host.cols);
    }
}

bool next_run(void) {
    if (run == 2)
        for (int i = 0; i < n_operands; i++)
            device.ops->download(&device, operands[i].first, operands[i].memory, operands[i].bytes);
    if (++run > 3) {
        end_runs();
        run = 0;
        be = NULL;
        return false;
    }
    be = run == 1 ? &host : &device;
    start_run();
    return true;
}

double got(const operand *o, int64_t row, int64_t col) {
    return decode(o->device.type, o->after + place_of(o, row, col));
}

double wanted(const operand *o, int64_t row, int64_t col) {
    return decode(o->host.type, host_at(o, row, col));
}

double larger(double a, double b) {
    return isnan(a) || a > b ? a : b;
}

static double gap_of(const operand *o, int64_t from, int64_t to) {
    double worst = 0, scale = 0;
    for (int64_t i = 0; i < o->host.rows; i++)
        for (int64_t j = from; j < to; j++) {
            worst = larger(worst, fabs(got(o, i, j) - wanted(o, i, j)));
            scale = larger(scale, fabs(wanted(o, i, j)));
        }
    return worst == 0 ? 0 : worst / scale;
}

double gap(const operand *o) {
    return gap_of(o, 0, o->host.cols);
}

double gap_of_column(const operand *o, int64_t column) {
    return gap_of(o, column, column + 1);
}

void check(const char *what, la_dtype type, double worst, limits most) {
    char text[128];
    const char *name = la_precision_name(precision);
    bool head = precision == LA_PRECISION_BF16 && type == LA_F32;
    snprintf(text, sizeof text, "%s %s%s", name, what, head ? " (f32)" : "");
    check_within(text, worst,
                 type == LA_BF16                 ? most.bf16
                 : precision == LA_PRECISION_F32 ? most.f32
                                                 : most.tf32);
}

/* ---- tests ---- */

static void check_faults(la_backend *which) {
    la_error err = {0};
    if (which->ops->sync(which, &err) != LA_OK)
        fail_msg("%s: %s", which->device, err.message);
}

static void run_or_skip(void **state) {
    const op_test *test = *state;
    if (!available)
        skip();
    /* a test's numbers are its own, whatever ran before */
    next_stream = 0;
    test->run(device.activation);
    check_faults(&host);
    check_faults(&device);
    if (test->scope != EACH_AND_HEAD || device.activation == LA_F32)
        return;
    test->run(LA_F32);
    check_faults(&device);
}

/* Faults of a failed test do not reach the next one. */
static int forget_after(void **state) {
    (void)state;
    la_error ignored = {0};
    if (available)
        (void)device.ops->sync(&device, &ignored);
    forget();
    return 0;
}

static int open_backends(void **state) {
    (void)state;
    la_backend found[LA_DEVICES_MAX];
    la_error err = {0};
    int n;
    la_status status = la_backend_open_cpu(la_team_of(2), &host, &err);
    if (status == LA_OK)
        status = la_backend_open("cuda", precision, la_team_of(2), NULL, found, &n, &err);
    available = status == LA_OK;
    if (available)
        device = found[0];
    else
        print_message("    %s\n", err.message);
    /* the emulated device is there, or broken */
    const char *library = getenv("LAPLORA_CUDA"), *emulated = getenv("EMULATED");
    bool may_lack = status == LA_RESOURCE && !(library && emulated && !strcmp(library, emulated));
    return available || may_lack ? 0 : -1;
}

static int close_backends(void **state) {
    (void)state;
    host.ops->close(&host);
    if (available)
        device.ops->close(&device);
    return 0;
}

int run_ops(const char *group, const op_test *tests, size_t n) {
    int failed = 0;
    struct CMUnitTest *list = calloc(n, sizeof *list);
    char(*names)[64] = calloc(n, sizeof *names);
    if (!list || !names)
        return 1;
    for (int p = LA_PRECISION_F32; p <= LA_PRECISION_BF16; p++) {
        size_t count = 0;
        precision = (la_precision)p;
        for (size_t i = 0; i < n; i++) {
            if ((tests[i].scope == ONCE && p != LA_PRECISION_F32) ||
                (tests[i].scope == IN_BF16 && p != LA_PRECISION_BF16))
                continue;
            snprintf(names[count], sizeof names[count], "%s_%s", tests[i].name,
                     la_precision_name(precision));
            list[count] = (struct CMUnitTest){names[count], run_or_skip, NULL, forget_after,
                                              (void *)(uintptr_t)&tests[i]};
            count++;
        }
        if (count)
            failed += _cmocka_run_group_tests(group, list, count, open_backends, close_backends);
    }
    free(names);
    free(list);
    return failed;
}

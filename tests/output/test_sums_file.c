/* Files of sums: what went in comes out; what is cut, changed or of another kind is refused. */
#include "output/sums_file.h"
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct head {
    const char *word;
    int64_t count, n_rows;
    double share;
    char digest[LA_DIGEST_TEXT];
    int32_t *rows; /* [n_rows, 2] */
} head;

static const la_field rows[] = {
    LA_FIELD(head, word, "word", LA_FIELD_WORD, .meaning = ""),
    LA_FIELD(head, count, "count", LA_FIELD_INT, .min = 1, .max = 100, .meaning = ""),
    LA_FIELD(head, share, "share", LA_FIELD_NUMBER, .min = 0, .max = 1, .meaning = ""),
    LA_FIELD(head, digest, "digest", LA_FIELD_DIGEST, .meaning = ""),
    LA_FIELD(head, rows, "rows", LA_FIELD_I32, .optional = true,
             .rows = LA_FROM_SHAPE(head, n_rows, "rows"), .cols = {"halves", .fixed = 2},
             .meaning = ""),
};
static const la_field_list head_fields = {LA_FIELDS(rows), .size = sizeof(head)};
static const la_sums_kind kind = {.seal = {.magic = "laplora test",
                                           .title = "test",
                                           .again = "write it again",
                                           .schema = 1},
                                  .head = &head_fields},
                          other = {.seal = {.magic = "laplora other",
                                            .title = "other",
                                            .again = "write it again",
                                            .schema = 1},
                                   .head = &head_fields};

enum { ROWS = 7, COLS = 300 };
static double square[ROWS * COLS], one[1];

static la_status visit(void *user, const la_array_visitor *to, la_error *err) {
    const la_array arrays[] = {{"0/kron/inputs/00000/sum", ROWS, COLS, square, 0},
                               {"totals", 1, 1, one, 0}};
    (void)user;
    for (int i = 0; i < 2; i++)
        LA_TRY(to->visit(to->user, &arrays[i], err));
    return LA_OK;
}

static void fill(void) {
    for (int i = 0; i < ROWS * COLS; i++)
        square[i] = sin(i);
    one[0] = 1 / 3.0;
}

static void save(const char *path) {
    int32_t pairs[] = {1, -2, 3, INT32_MIN};
    head h = {.word = "kron", .count = 3, .n_rows = 2, .share = 0.25, .rows = pairs};
    la_sums_save what = {.head = &h, .visit = visit};
    la_error err = {0};
    strcpy(h.digest, "0123456789abcdef0123456789abcdef");
    if (la_sums_file_write(&kind, path, &what, &err) != LA_OK)
        fail_msg("%s", err.message);
}

/* Reads all there is. */
static la_status load(const la_sums_kind *as, const char *path, head *h, double *first,
                      double *second, la_error *err) {
    la_sums_file *file;
    *err = (la_error){0};
    LA_TRY(la_sums_file_open(as, path, h, &file, err));
    const la_array arrays[] = {{"0/kron/inputs/00000/sum", ROWS, COLS, first, 0},
                               {"totals", 1, 1, second, 0}};
    assert_int_equal(h->count > 0, 1);
    la_status status = la_sums_file_read(file, &arrays[0], err);
    if (status == LA_OK)
        status = la_sums_file_read(file, &arrays[1], err);
    la_sums_file_close(file);
    return status;
}

static void comes_back(void **state) {
    (void)state;
    const char *path = scratch("sums.h5"), *again = scratch("again.h5");
    double first[ROWS * COLS], second[1];
    head h = {0};
    la_error err;
    size_t n, m;
    fill();
    save(path);
    save(again);
    char *a = read_file(path, &n), *b = read_file(again, &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    free(a);
    free(b);
    assert_int_equal(load(&kind, path, &h, first, second, &err), LA_OK);
    assert_memory_equal(first, square, sizeof square);
    assert_int_equal(h.n_rows, 2);
    assert_true(second[0] == one[0] && h.count == 3 && h.share == 0.25);
    assert_string_equal(h.digest, "0123456789abcdef0123456789abcdef");
    assert_int_equal(load(&other, path, &h, first, second, &err), LA_BAD_INPUT);
    assert_non_null(strstr(err.message, "is no other of laplora"));
}

static void other_sums(void **state) {
    (void)state;
    const char *path = scratch("sums.h5");
    double data[ROWS * COLS];
    head h = {0};
    la_error err = {0};
    la_sums_file *file;
    const la_array absent = {"1/kron/inputs/00000/sum", ROWS, COLS, data, 0},
                   wide = {"0/kron/inputs/00000/sum", COLS, ROWS, data, 0};
    fill();
    save(path);
    assert_int_equal(la_sums_file_open(&kind, path, &h, &file, &err), LA_OK);
    assert_int_equal(la_sums_file_count(file), 2);
    assert_string_equal(h.word, "kron");
    assert_int_equal(h.rows[1], -2);
    assert_int_equal(h.rows[3], INT32_MIN);
    assert_int_equal(la_sums_file_read(file, &absent, &err), LA_MISMATCH);
    err = (la_error){0};
    assert_int_equal(la_sums_file_read(file, &wide, &err), LA_MISMATCH);
    assert_non_null(strstr(err.message, "7 x 300, expected 300 x 7"));
    la_sums_file_close(file);
    for (int i = 0; i < 3; i++) {
        square[5] = i == 0 ? NAN : i == 1 ? INFINITY : 1e200;
        save(path);
        assert_int_equal(load(&kind, path, &h, data, one, &err), LA_BAD_INPUT);
    }
}

static void seal(const char *path) {
    la_error err = {0};
    FILE *stream = fopen(path, "r+b");
    assert_non_null(stream);
    assert_int_equal(la_seal_stream(&kind.seal, stream, path, false, &err), LA_OK);
    fclose(stream);
}

/* Cut anywhere, or changed under a good seal: an error, or numbers in their range. */
static void hostile(void **state) {
    (void)state;
    const char *path = scratch("sums.h5"), *bad = scratch("bad.h5");
    double first[ROWS * COLS], second[1];
    head h = {0};
    la_error err;
    size_t n;
    uint64_t draw = 1;
    fill();
    save(path);
    char *bytes = read_file(path, &n);
    for (size_t cut = 0; cut < n; cut += 1 + n / 40) {
        write_file(bad, bytes, cut);
        assert_int_equal(load(&kind, bad, &h, first, second, &err), LA_BAD_INPUT);
        if (cut < LA_SEAL_BYTES)
            continue;
        seal(bad);
        la_status status = load(&kind, bad, &h, first, second, &err);
        assert_true(status == LA_BAD_INPUT || status == LA_OK);
    }
    for (int i = 0; i < 2000; i++) {
        draw = draw * 6364136223846793005u + 1442695040888963407u;
        size_t place = LA_SEAL_BYTES + (size_t)(draw >> 33) % (i % 2 ? n - LA_SEAL_BYTES : 4096);
        char was = bytes[place];
        bytes[place] = (char)(draw >> 24);
        write_file(bad, bytes, n);
        if (!(i % 20) && bytes[place] != was)
            assert_int_equal(load(&kind, bad, &h, first, second, &err), LA_BAD_INPUT);
        seal(bad);
        (void)load(&kind, bad, &h, first, second, &err);
        assert_true(err.status == LA_OK || err.status == LA_BAD_INPUT ||
                    err.status == LA_MISMATCH || err.status == LA_UNSUPPORTED ||
                    err.status == LA_RESOURCE);
        bytes[place] = was;
    }
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back),
        cmocka_unit_test(other_sums),
        cmocka_unit_test(hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

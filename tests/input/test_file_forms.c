/* The same rows in every form that tools write, and what is no text refused by its name. */
#include "input/rows.h"
#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define BYTES(text) text, sizeof(text) - 1

static la_row_reader *open_bytes(const char *name, const char *bytes, size_t length,
                                 la_error *err) {
    static const la_row_fields none = {0};
    la_row_reader *reader = NULL;
    *err = (la_error){0};
    write_file(scratch(name), bytes, length);
    (void)la_row_reader_open(scratch(name), &none, &reader, err);
    return reader;
}

/* Two rows: "one" and "zwei \u00e9", with labels 0 and 1. */
static void expect_rows(const char *name, const char *bytes, size_t length, int64_t second_line) {
    static const char *const texts[] = {"one", "zwei \xc3\xa9"};
    la_error err;
    la_row row;
    bool more;
    la_row_reader *reader = open_bytes(name, bytes, length, &err);
    for (int i = 0; i < 2; i++) {
        if (!reader || la_row_reader_next(reader, &row, &more, &err) != LA_OK)
            fail_msg("%s: %s", name, err.message);
        assert_true(more);
        assert_int_equal(row.index, i);
        if (strcmp(row.text, texts[i]))
            fail_msg("%s: \"%s\", expected \"%s\"", name, row.text, texts[i]);
        assert_non_null(row.label);
    }
    assert_int_equal(row.line, second_line);
    assert_int_equal(la_row_reader_next(reader, &row, &more, &err), LA_OK);
    assert_false(more);
    la_row_reader_close(reader);
}

#define A "{\"text\":\"one\",\"label\":0}"
#define B "{\"text\":\"zwei \xc3\xa9\",\"label\":1}"

static void forms(void **state) {
    (void)state;
    static const struct {
        const char *name, *bytes;
        size_t length;
        int64_t line;
    } list[] = {
        {"a.jsonl", BYTES(A "\n" B "\n"), 2},
        {"b.jsonl", BYTES("\xef\xbb\xbf" A "\r\n" B), 2},
        {"c.jsonl", BYTES(A "\r" B "\r"), 2},
        {"a.json", BYTES("[" A ",\n " B "]\n"), 2},
        {"b.json", BYTES("[" A "," B "]"), 1},
        {"c.json",
         BYTES("\n[\n  {\n \"text\": \"one\",\n \"label\": 0\n },\n  {\n \"text\": "
               "\"zwei \\u00e9\",\n \"label\": 1\n }\n]\n"),
         7},
        {"d.json",
         BYTES("{\n \"text\": \"one\",\n \"label\": 0\n}\n{\n \"text\": \"zwei "
               "\xc3\xa9\",\n \"label\": 1\n}\n"),
         5},
        {"e.json", BYTES("[]" A B), 1},
        {"a.csv", BYTES("text,label\none,0\nzwei \xc3\xa9,1\n"), 3},
        {"b.csv", BYTES("text;label\r\none;0\r\n\"zwei \xc3\xa9\";1\r\n"), 3},
        {"c.csv", BYTES("text\tlabel\none\t0\nzwei \xc3\xa9\t1\n"), 3},
        {"d.csv", BYTES("text,label\rone,0\rzwei \xc3\xa9,1\r"), 3},
        {"e.csv", BYTES(A "\n" B "\n"), 2},
        {"f.csv", BYTES("[" A ",\n" B "]\n"), 2},
        {"g.csv", BYTES("\"text\",\"a;b;c\",label\none,,0\nzwei \xc3\xa9,,1\n"), 3},
        {"h.csv", BYTES("text,label,,\none,0,,\nzwei \xc3\xa9,1,,\n"), 3},
        {"a.tsv", BYTES("text,label\none,0\nzwei \xc3\xa9,1\n"), 3},
        {"b.tsv", BYTES("label\ttext\n0\tone\n1\tzwei \xc3\xa9\n"), 3},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        expect_rows(list[i].name, list[i].bytes, list[i].length, list[i].line);
}

static void utf16(void **state) {
    (void)state;
    static const char text[] = "text,label\r\none,0\r\nzwei \xe9,1\r\n"; /* Latin 1 */
    char bytes[2 * sizeof text + 2];
    for (int big = 0; big < 2; big++) {
        for (int marked = 0; marked < 2; marked++) {
            size_t n = 0;
            if (marked) {
                bytes[n++] = big ? '\xfe' : '\xff';
                bytes[n++] = big ? '\xff' : '\xfe';
            }
            for (size_t i = 0; i + 1 < sizeof text; i++) {
                bytes[n + (size_t)big] = text[i];
                bytes[n + (size_t)!big] = 0;
                n += 2;
            }
            expect_rows("u.csv", bytes, n, 3);
            /* half a letter at the end */
            la_error err;
            la_row row;
            bool more = true;
            la_row_reader *reader = open_bytes("u.csv", bytes, n - 1, &err);
            while (err.status == LA_OK && more)
                (void)la_row_reader_next(reader, &row, &more, &err);
            assert_int_equal(err.status, LA_BAD_INPUT);
            assert_non_null(strstr(err.message, "UTF-16"));
            la_row_reader_close(reader);
        }
    }
}

static size_t pack(const char *text, char *out, size_t capacity) {
    z_stream z = {.next_in = (Bytef *)(uintptr_t)text, .avail_in = (uInt)strlen(text)};
    z.next_out = (Bytef *)out;
    z.avail_out = (uInt)capacity;
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return capacity - z.avail_out;
}

static void packed(void **state) {
    (void)state;
    char bytes[2000];
    size_t n = pack(A "\n" B "\n", bytes, sizeof bytes);
    /* its bytes decide, not its name */
    expect_rows("p.jsonl.gz", bytes, n, 2);
    expect_rows("p.jsonl", bytes, n, 2);
    n = pack("text,label\none,0\nzwei \xc3\xa9,1\n", bytes, sizeof bytes);
    expect_rows("p.csv.gz", bytes, n, 3);
    expect_rows("p.CSV.GZ", bytes, n, 3);
    /* two members, as cat makes them, and zeros behind */
    n = pack(A "\n", bytes, sizeof bytes);
    n += pack(B "\n", bytes + n, sizeof bytes - n);
    memset(bytes + n, 0, 100);
    expect_rows("p2.gz", bytes, n + 100, 2);
    for (int damage = 0; damage < 2; damage++) {
        la_error err;
        la_row row;
        bool more = true;
        n = pack(A "\n" B "\n", bytes, sizeof bytes);
        bytes[n - 6] ^= (char)(damage ? 0x55 : 0); /* in the checksum */
        la_row_reader *reader = open_bytes("d.gz", bytes, damage ? n : n - 12, &err);
        while (err.status == LA_OK && more)
            (void)la_row_reader_next(reader, &row, &more, &err);
        assert_int_equal(err.status, LA_BAD_INPUT);
        assert_non_null(strstr(err.message, damage ? "damaged" : "ends early"));
        la_row_reader_close(reader);
    }
}

static void refused(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t length;
        const char *piece, *step;
    } list[] = {
        {BYTES("PAR1\x15\x04\x15\x10"), "a Parquet file", "read_parquet"},
        {BYTES("ARROW1\0\0\x10"), "Arrow", "read_feather"},
        {BYTES("\xff\xff\xff\xff\x10\0\0\0"), "an Arrow stream", "datasets"},
        {BYTES("PK\x03\x04\x14\0"), "Excel", "read_excel"},
        {BYTES("\x28\xb5\x2f\xfd\x04"), "zstd", "unzstd"},
        {BYTES("BZh91AY&SY\x12"), "bzip2", "bunzip2"},
        {BYTES("\xfd\x37zXZ\0\0\x04"), "xz", "unxz"},
        {BYTES("SQLite format 3\0\x10"), "SQLite", "sqlite3"},
        {BYTES("\x80\x04\x95\x10\0\0\0\0\0\0\0"), "pickle", "read_pickle"},
        {BYTES("\x89HDF\r\n\x1a\n\0"), "HDF5", "JSONL"},
        {BYTES("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "Git LFS",
         "git lfs pull"},
        {BYTES("<!DOCTYPE html>\n<html>"), "a web page", "download"},
        {BYTES("\xff\xfe\0\0t\0\0\0"), "UTF-32", "iconv"},
    };
    static const char *const names[] = {"r.jsonl", "r.csv", "r"};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        for (size_t k = 0; k < 3; k++) {
            la_error err;
            la_row row;
            bool more;
            la_row_reader *reader = open_bytes(names[k], list[i].bytes, list[i].length, &err);
            if (reader)
                (void)la_row_reader_next(reader, &row, &more, &err);
            assert_int_equal(err.status, LA_UNSUPPORTED);
            if (!strstr(err.message, list[i].piece) || !strstr(err.message, list[i].step))
                fail_msg("\"%s\" does not say \"%s\" and \"%s\"", err.message, list[i].piece,
                         list[i].step);
            la_row_reader_close(reader);
        }
    }
}

/* Texts that begin with the letters of some file's kind are texts. */
static void letters(void **state) {
    (void)state;
    static const char *const texts[] = {"PAR1s est grand", "ORC is a format", "laplora.posterior"};
    for (size_t i = 0; i < 3; i++) {
        char table[200];
        la_error err;
        la_row row;
        bool more;
        snprintf(table, sizeof table, "%s,text\n1,x\n", texts[i]);
        la_row_reader *reader = open_bytes("t.csv", table, strlen(table), &err);
        if (!reader || la_row_reader_next(reader, &row, &more, &err) != LA_OK)
            fail_msg("%s", err.message);
        assert_string_equal(row.text, "x");
        la_row_reader_close(reader);
    }
}

static void faulty_documents(void **state) {
    (void)state;
    static const struct {
        const char *text, *piece;
    } list[] = {{"[" A ",\n{\"text\":\n", "x.json:2:"},
                {"[1, 2]\n", "x.json:1: not valid JSON"},
                {"[" A ",\n[" B "]]\n", "x.json:2: the row is an array"},
                {"{\n\"text\": \"a\",\n", "has no end"},
                {"{\"text\": [\"a\", \"b\"], \"label\": [0, 1]}\n", "holds columns"},
                {"text,label\na,0\n", ".csv"}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        la_error err;
        la_row row;
        bool more = true;
        la_row_reader *reader = open_bytes("x.json", list[i].text, strlen(list[i].text), &err);
        while (err.status == LA_OK && more)
            (void)la_row_reader_next(reader, &row, &more, &err);
        assert_int_equal(err.status, LA_BAD_INPUT);
        if (!strstr(err.message, list[i].piece))
            fail_msg("\"%s\" does not say \"%s\"", err.message, list[i].piece);
        la_row_reader_close(reader);
    }
}

static void ids(void **state) {
    (void)state;
    static const char *const list[] = {"18446744073709551615",
                                       "123456789012345678901234567890",
                                       "1.10",
                                       "-0.0",
                                       "1E5",
                                       "\"a\\u00e9\"",
                                       "{\"b\": [1, 18446744073709551615], \"a\": \"}\"}",
                                       "[ 1, \"]\" ]",
                                       "true"};
    static const char *const forms[] = {"{\"text\":\"x\",\"id\":%s}\n",
                                        "[{\"id\" : %s , \"text\":\"x\"}]",
                                        "{\n\"x\":{\"id\":7},\n\"id\":%s,\"text\":\"x\"\n}\n"};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        for (size_t k = 0; k < 3; k++) {
            char text[300], id[200];
            la_error err;
            la_row row;
            bool more;
            snprintf(text, sizeof text, forms[k], list[i]);
            la_row_reader *reader = open_bytes("i.jsonl", text, strlen(text), &err);
            if (!reader || la_row_reader_next(reader, &row, &more, &err) != LA_OK)
                fail_msg("%s: %s", text, err.message);
            assert_non_null(row.id_text);
            snprintf(id, sizeof id, "%.*s", (int)row.id_length, row.id_text);
            assert_string_equal(id, list[i]);
            la_row_reader_close(reader);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms),   cmocka_unit_test(utf16),   cmocka_unit_test(packed),
        cmocka_unit_test(refused), cmocka_unit_test(letters), cmocka_unit_test(faulty_documents),
        cmocka_unit_test(ids),
    };
    return cmocka_run_group_tests_name("forms of data files", tests, NULL, NULL);
}

/* Members of an object taken from its text, against jansson: what is taken is what jansson reads,
 * and what is damaged is never taken. */
#include "input/json_members.h"
#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 16 };

static bool scan(const char *text, la_json_value *members, int *n) {
    return la_json_members(text, strlen(text), members, MOST, n);
}

static void takes_values(void **state) {
    la_json_value m[MOST];
    int n;
    (void)state;
    assert_true(scan(" { \"a\" : -1.25e1 ,\"b\":[1,[2, 3],\"x\"],\"c\":{\"d\":[]},\"e\":\"f g\","
                     "\"g\":true,\"h\":null } ",
                     m, &n));
    assert_int_equal(n, 6);
    assert_int_equal(la_json_member_of(m, n, "a")->type, '0');
    assert_true(la_json_value_number(la_json_member_of(m, n, "a")) == -12.5);
    assert_int_equal(la_json_member_of(m, n, "b")->count, 3);
    assert_int_equal(la_json_member_of(m, n, "c")->type, '{');
    assert_int_equal(la_json_member_of(m, n, "e")->length, 3);
    assert_memory_equal(la_json_member_of(m, n, "e")->text, "f g", 3);
    assert_int_equal(la_json_member_of(m, n, "g")->type, 't');
    assert_int_equal(la_json_member_of(m, n, "h")->type, 'n');
    assert_null(la_json_member_of(m, n, "d"));
    assert_true(scan("{}", m, &n));
    assert_int_equal(n, 0);
}

/* Left to a parser, or wrong. */
static void leaves_others(void **state) {
    static const char *const texts[] = {"",
                                        "{",
                                        "[]",
                                        "7",
                                        "{\"a\":1",
                                        "{\"a\":1}x",
                                        "{\"a\":1,}",
                                        "{\"a\" 1}",
                                        "{a:1}",
                                        "{\"a\":1,\"a\":2}",
                                        "{\"a\":NaN}",
                                        "{\"a\":Infinity}",
                                        "{\"a\":01}",
                                        "{\"a\":1.}",
                                        "{\"a\":.5}",
                                        "{\"a\":+1}",
                                        "{\"a\":-}",
                                        "{\"a\":1e}",
                                        "{\"a\":\"x\\qy\"}",
                                        "{\"a\":\"x\\",
                                        "{\"a\":\"\\u00g0\"}",
                                        "{\"a\":\"\\u0000\"}",
                                        "{\"a\":\"\\ud83d\"}",
                                        "{\"a\":\"\\ud83d\\n\"}",
                                        "{\"a\":\"\\ude00\"}",
                                        "{\"a\":\"\xc3\"}",
                                        "{\"a\":\"\xed\xa0\x80\"}",
                                        "{\"a\":\"\xc0\xaf\"}",
                                        "{\"\\u0061\":1}",
                                        "{\"a\":\"x",
                                        "{\"a\":[1,]}",
                                        "{\"a\":[1 2]}",
                                        "{\"a\":tru}",
                                        "{\"a\":[[[[[[[[[1]]]]]]]]]}",
                                        "{\"a\":\"\x01\"}",
                                        "{\"a\":12345678901234567890}",
                                        "{\"a\":1}{\"b\":2}"};
    la_json_value m[MOST];
    int n;
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (scan(texts[i], m, &n))
            fail_msg("taken: %s", texts[i]);
    assert_false(la_json_members("{\"a\":1,\"b\":2}", 13, m, 1, &n));
}

/* Every prefix of a row, and every row with one byte changed: taken only where jansson takes it. */
static void damaged_rows(void **state) {
    static const char row[] =
        "{\"index\":0,\"id\":\"r\",\"label\":1,\"confidence\":0.8125,\"probs\":"
        "[1e-3,0.999],\"ok\":false,\"none\":null,\"text\":\"\\ud83d\\ude00 \\u00e4 "
        "\xc3\xa4 \xf0\x9f\x98\x80\\n\"}";
    static const char bytes[] = "\"{}[]:,0-.eE+tfn\\ xu9d\x80\xe4";
    la_json_value m[MOST];
    char text[sizeof row];
    int n, taken = 0;
    (void)state;
    for (size_t i = 0; i + 1 < sizeof row; i++)
        assert_false(la_json_members(row, i, m, MOST, &n));
    for (size_t i = 0; i + 1 < sizeof row; i++)
        for (size_t b = 0; b + 1 < sizeof bytes; b++) {
            memcpy(text, row, sizeof row);
            text[i] = bytes[b];
            if (!scan(text, m, &n))
                continue;
            json_t *parsed = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
            if (!parsed)
                fail_msg("taken, and is no JSON: %s", text);
            assert_int_equal(n, json_object_size(parsed));
            for (int k = 0; k < n; k++) {
                json_t *own = la_json_value_parse(&m[k]);
                assert_true(json_equal(own, json_object_getn(parsed, m[k].key, m[k].key_length)));
                json_decref(own);
            }
            json_decref(parsed);
            taken++;
        }
    assert_true(taken > 100);
}

static void entries_and_texts(void **state) {
    static const char *const texts[] = {"1", "x,]", "\xc3\xa4\xc3\xa4", "[2, [3]]", "7"};
    la_json_value m[MOST], entry;
    const char *at;
    int n, i = 0;
    la_error err = {0};
    (void)state;
    assert_true(scan("{\"a\":[1, \"x,]\" ,\"\\u00e4\xc3\xa4\",[2, [3]],7 ],\"b\":[ ]}", m, &n));
    for (la_json_entries(&m[0], &at); la_json_entry(&m[0], &at, &entry); i++) {
        char *text = la_json_value_text(&entry, &err);
        assert_string_equal(text, texts[i]);
        assert_true(entry.escaped == (i == 2));
        free(text);
    }
    assert_int_equal(i, 5);
    la_json_entries(&m[1], &at);
    assert_false(la_json_entry(&m[1], &at, &entry));
}

static void numbers(void **state) {
    static const char *const texts[] = {"0",
                                        "-0",
                                        "1",
                                        "0.1",
                                        "0.8071034428",
                                        "1e-5",
                                        "123456789012345678",
                                        "9007199254740993",
                                        "0.30000000000000004",
                                        "2.2250738585072014e-308",
                                        "1.7976931348623157e308",
                                        "0.0000000000000000000000000123",
                                        "-3.5e+2",
                                        "0.12345678901234567890123"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        la_json_value m[MOST];
        char text[80];
        int n;
        snprintf(text, sizeof text, "{\"a\":%s}", texts[i]);
        if (!scan(text, m, &n)) {
            assert_non_null(strstr(texts[i], "e")); /* long ones with an exponent are left */
            continue;
        }
        double own = la_json_value_number(m), expected = strtod(texts[i], NULL);
        assert_memory_equal(&own, &expected, sizeof own);
    }
    for (int i = 0; i < 20000; i++) {
        la_json_value m[MOST];
        char text[80];
        int n;
        snprintf(text, sizeof text, "{\"a\":%.*g}", 1 + i % 17, (double)i * 0.7310585786300049e-4);
        assert_true(scan(text, m, &n));
        double own = la_json_value_number(m), expected = strtod(text + 5, NULL);
        assert_memory_equal(&own, &expected, sizeof own);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_values), cmocka_unit_test(leaves_others),
        cmocka_unit_test(damaged_rows), cmocka_unit_test(entries_and_texts),
        cmocka_unit_test(numbers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

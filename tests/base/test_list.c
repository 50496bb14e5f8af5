/* Lists and numbers that a user writes. */
#include "base/list.h"
#include "base/names.h"
#include "base/numbers.h"
#include "support/support.h"

#include <math.h>
#include <string.h>

/* Elements behind one another, each ended by '|'. */
static void check_list(const char *text, const char *expected) {
    la_list list;
    la_error err = {0};
    char found[256] = "";
    if (la_list_parse("--option", text, &list, &err) != LA_OK)
        fail_msg("\"%s\": %s", text, err.message);
    for (size_t i = 0; i < list.n; i++)
        strcat(strcat(found, list.items[i]), "|");
    assert_string_equal(found, expected);
    la_list_free(&list);
}

static void check_refused(const char *text, const char *piece) {
    la_list list;
    la_error err = {0};
    if (la_list_parse("--option", text, &list, &err) != LA_USAGE ||
        strncmp(err.message, "--option", 8) || !strstr(err.message, piece))
        fail_msg("\"%s\": status %d, \"%s\"", text, (int)err.status, err.message);
    la_list_free(&list);
}

static void elements(void **state) {
    (void)state;
    check_list("a", "a|");
    check_list("a,b,c", "a|b|c|");
    check_list("a, b ,\tc", "a|b|c|");
    check_list("  a b , c  ", "a b|c|");
    check_list("New York\\, NY,b", "New York, NY|b|");
    check_list("\\ a,a, \\ b", " a|a| b|");
    check_list("a\\ ,b", "a |b|");
    check_list("a\\  ,b", "a |b|");
    check_list("\\\\,b", "\\|b|");
    check_list("\\alpha,b\\", "\\alpha|b\\|");
    check_list("\\,", ",|");
    check_list("\xc3\xa9t\xc3\xa9,x", "\xc3\xa9t\xc3\xa9|x|");
}

static void refused(void **state) {
    (void)state;
    check_refused("", "element 1 is empty");
    check_refused(" ", "element 1 is empty");
    check_refused("a,,b", "element 2 is empty");
    check_refused("a, ,b", "element 2 is empty");
    check_refused("a,b,", "element 3 is empty");
    check_refused(",a", "element 1 is empty");
    check_refused("a,b, a", "\"a\" is given twice, as elements 1 and 3");
}

static void integers(void **state) {
    static const char *const bad[] = {
        "", " 1", "1 ", "1x", "0x10", "1.0", "1e3", "--1", "+-1", "-", "9223372036854775808"};
    int64_t value = 0;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (la_integer_parse(bad[i], &value))
            fail_msg("\"%s\" was taken for %lld", bad[i], (long long)value);
    assert_true(la_integer_parse("-12", &value) && value == -12);
    assert_true(la_integer_parse("+7", &value) && value == 7);
    assert_true(la_integer_parse("0012", &value) && value == 12);
    assert_true(la_integer_parse("9223372036854775807", &value) && value == INT64_MAX);
}

static void numbers(void **state) {
    static const char *const bad[] = {"",    " 1",   "1 ",    "1x",    "0x1p3",    "nan",
                                      "inf", "-inf", "1e",    "1e999", "infinity", "1,5",
                                      "e5",  ".",    "1e5.5", "--1",   "1-2",      "+"};
    double value = 0;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (la_number_parse(bad[i], &value))
            fail_msg("\"%s\" was taken for %g", bad[i], value);
    assert_true(la_number_parse("0.25", &value) && value == 0.25);
    assert_true(la_number_parse(".5", &value) && value == 0.5);
    assert_true(la_number_parse("-1e-3", &value) && fabs(value + 1e-3) < 1e-18);
    assert_true(la_number_parse("1E3", &value) && value == 1000);
}

static void distances(void **state) {
    (void)state;
    assert_int_equal(la_edit_distance("threads", "threads"), 0);
    assert_int_equal(la_edit_distance("treads", "threads"), 1);
    assert_int_equal(la_edit_distance("josn", "json"), 2);
    assert_int_equal(la_edit_distance("", "abc"), 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements), cmocka_unit_test(refused),   cmocka_unit_test(integers),
        cmocka_unit_test(numbers),  cmocka_unit_test(distances),
    };
    return cmocka_run_group_tests_name("lists and numbers", tests, NULL, NULL);
}

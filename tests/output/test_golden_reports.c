/* Reports as they are known to be: tests/fixtures/reports. LA_UPDATE_REPORTS=1 writes them anew, to
 * be looked at before they are committed. Numbers may differ in their last digits. */
#include "support/support.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/report_job.h"

#define ROWS "tests/fixtures/reports/rows.jsonl"
#define OTHER "tests/fixtures/reports/other.jsonl"

static const double TOLERANCE = 1e-9; /* relative; of sums in another order */

/* Fails where the texts differ in anything but the last digits of numbers. */
static void check_same(const char *format, const char *found, const char *golden) {
    for (const char *f = found, *g = golden; *f || *g;) {
        char *f_end = (char *)(uintptr_t)f, *g_end = (char *)(uintptr_t)g;
        double x = 0, y = 0;
        if (isdigit((unsigned char)*f) && isdigit((unsigned char)*g)) {
            x = strtod(f, &f_end);
            y = strtod(g, &g_end);
        }
        if (f_end == f && *f != *g)
            fail_msg("%s: \"%.40s\", expected \"%.40s\"; LA_UPDATE_REPORTS=1 writes what is found",
                     format, f, g);
        if (fabs(x - y) > TOLERANCE * fabs(y))
            fail_msg("%s: %.17g, expected %.17g", format, x, y);
        f = f_end == f ? f + 1 : f_end;
        g = g_end == g ? g + 1 : g_end;
    }
}

static void check_format(const char *format) {
    static const char *const by[] = {"region"}, *const max[] = {"ece=0.5", "nll=0.1"};
    char write[300], path[128];
    const char *wishes[] = {write}, *to = scratch("report");
    size_t length;
    int failed;
    la_error err = {0};
    snprintf(write, sizeof write, "%s=%s", format, to);
    snprintf(path, sizeof path, "tests/fixtures/reports/report.%s", format);
    la_report_options options = {.predictions = ROWS,
                                 .against = OTHER,
                                 .write = wishes,
                                 .n_write = 1,
                                 .by = by,
                                 .n_by = 1,
                                 .gates = {.max = max, .n_max = 2}};
    if (la_report_run(&options, &failed, &err) != LA_OK)
        fail_msg("%s: %s", format, err.message);
    assert_int_equal(failed, 1);
    char *found = read_file(to, &length);
    if (getenv("LA_UPDATE_REPORTS"))
        write_file(path, found, length);
    char *golden = read_file(path, &length);
    check_same(format, found, golden);
    free(found);
    free(golden);
}

static void formats(void **state) {
    /* the page has tests of its own */
    static const char *const names[] = {"text",   "json",   "markdown",     "junit", "prometheus",
                                        "gitlab", "mlflow", "label-studio", "csv"};
    (void)state;
    setenv("SOURCE_DATE_EPOCH", "1700000000", 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_format(names[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(formats)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

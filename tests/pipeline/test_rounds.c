/* The story of data/rounds from end to end, on the base that `make demo` has fetched: without that
 * it is skipped, as no test goes to the network. */
#include "support/process.h"
#include "support/reports.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BASE "data/cache/all-MiniLM-L6-v2/.checked"
#define OUT "build/rounds/"

static double figure(const char *file, const char *key) {
    char path[256];
    snprintf(path, sizeof path, OUT "%s", file);
    json_t *report = load_json(path);
    double value = number_at(report, key);
    json_decref(report);
    return value;
}

static void test_story(void **state) {
    (void)state;
    if (SANITIZED) {
        print_message("    minutes, of what other tests run in a sanitizer\n");
        skip();
    }
    if (access(BASE, R_OK)) {
        print_message("    no base of make demo\n");
        skip();
    }
    const char *argv[] = {"data/rounds/run", program(), NULL};
    command done = run_command(argv, NULL);
    if (done.code)
        fail_msg("data/rounds/run ended with %d: %s", done.code, done.err);
    assert_non_null(strstr(done.out, "drift: alarm"));
    assert_non_null(strstr(done.out, "advice: retrain"));
    assert_non_null(strstr(done.out, "rounds done in "));
    command_free(&done);
    assert_int_equal(access(OUT "adapter2/adapter_model.safetensors", R_OK), 0);
    /* the labels of 64 rows help with the month that follows: each more than what is cheaper */
    double none = figure("none-month3.json", "metrics/nll");
    double update = figure("update-month3.json", "metrics/nll");
    double refine = figure("refine-month3.json", "metrics/nll");
    print_message("month 3, NLL: %.4f, updated %.4f, refined %.4f\n", none, update, refine);
    assert_true(update < none - 0.02);
    assert_true(refine < update - 0.02);
    assert_true(figure("refine-month3.json", "metrics/accuracy") >
                figure("none-month3.json", "metrics/accuracy"));
    /* and the first month is not unlearned */
    double before = figure("none-test.json", "metrics/nll");
    double after = figure("refine-test.json", "metrics/nll");
    print_message("first month, NLL: %.4f, refined %.4f\n", before, after);
    assert_true(after < before + 0.05);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_story)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

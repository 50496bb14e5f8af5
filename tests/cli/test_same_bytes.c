/* Two fits of the same inputs give the same bytes, whenever they run; of the same folders
 * elsewhere, the same but for the paths. */
#include "output/posterior_file.h"
#include "support/faults.h"
#include "support/posterior_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name, *fixture, *options;
} fits[] = {
    {"kron", "bert", ""},
    {"kron-low-rank", "bert", "--rank 3 --kron reduce --prior layer"},
    {"ekfac-val", "bert", "--curvature ekfac --val @/test.jsonl"},
    {"diag-head", "bert", "--curvature diag --params lora+head"},
    {"exact-heldout-adue", "bert", "--curvature exact --heldout --adue"},
    {"exact-few", "bert", "--curvature exact --rank 5"},
    {"last-layer-labels", "bert", "--curvature last-layer --labels no,perhaps,yes --adue"},
    {"quantised", "llama-seq", "--base-quant nf4"},
    {"choices", "llama", "--choice-ids 37,76,92,95 --val @/test.jsonl"},
    {"regression", "bert-regression", "--val @/test.jsonl"},
};
enum { FITS = sizeof fits / sizeof *fits };

static void fit(const char *folder, int i, int threads, const char *out) {
    char line[512];
    snprintf(
        line, sizeof line,
        "fit --base @/base --adapter @/adapter --data @/calib.jsonl --quiet --threads %d --out "
        "@/%s %s",
        threads, out, fits[i].options);
    command done = run_line(folder, line, NULL);
    if (done.code)
        fail_msg("%s: %s", fits[i].name, done.err);
    command_free(&done);
}

static bool same(const char *a, const char *b) {
    size_t n, m;
    char *x = read_file(a, &n), *y = read_file(b, &m);
    bool equal = n == m && !memcmp(x, y, n);
    free(x);
    free(y);
    return equal;
}

static void check_again(int threads) {
    char out[64], again[64];
    char folders[FITS][256];
    for (int i = 0; i < FITS; i++) {
        snprintf(folders[i], sizeof folders[i], "%s", open_case(fits[i].fixture));
        snprintf(out, sizeof out, "first-%d", threads);
        fit(folders[i], i, threads, out);
    }
    sleep(1); /* a time in a file would be another one */
    for (int i = 0; i < FITS; i++) {
        snprintf(out, sizeof out, "first-%d", threads);
        snprintf(again, sizeof again, "again-%d", threads);
        fit(folders[i], i, threads, again);
        char first[512], second[512];
        snprintf(first, sizeof first, "%s/%s", folders[i], out);
        snprintf(second, sizeof second, "%s/%s", folders[i], again);
        if (!same(first, second))
            fail_msg("%s, %d threads: other bytes", fits[i].name, threads);
    }
}

static void one_thread(void **state) {
    (void)state;
    check_again(1);
}

static void two_threads(void **state) {
    (void)state;
    check_again(2);
}

/* base_path and adapter_path say where the folders were; nothing else does. */
static void elsewhere(void **state) {
    (void)state;
    char here[256], there[256];
    snprintf(here, sizeof here, "%s", open_case("bert"));
    snprintf(there, sizeof there, "%s", open_case("bert"));
    assert_string_not_equal(here, there);
    fit(here, 2, 1, "p");
    fit(there, 2, 1, "p");
    char *paths[] = {strdup(in_case(here, "p")), strdup(in_case(there, "p"))};
    assert_false(same(paths[0], paths[1]));
    for (int i = 0; i < 2; i++) {
        la_posterior p;
        la_error err = {0};
        assert_int_equal(la_posterior_load(paths[i], &p, &err), LA_OK);
        p.provenance.base_path = p.provenance.adapter_path = "/elsewhere";
        assert_int_equal(la_posterior_save(&p, paths[i], &err), LA_OK);
        la_posterior_free(&p);
    }
    assert_true(same(paths[0], paths[1]));
    free(paths[0]);
    free(paths[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_thread),
        cmocka_unit_test(two_threads),
        cmocka_unit_test(elsewhere),
    };
    return cmocka_run_group_tests_name("the same bytes", tests, NULL, NULL);
}

/* Posteriors that are updated: digests of their rows, sums that are added and taken out. */
#include "bayes/row_digests.h"
#include "support/faults.h"
#include "support/posterior_files.h"
#include "support/row_files.h"

#include <string.h>

static const la_fit_options plain = {.prior = LA_PRIOR_GLOBAL, .select = LA_SELECT_NONE};

/* ---- digests ---- */

static la_posterior fitted(const char *folder, const row_file *rows, const char *name) {
    char path[64];
    snprintf(path, sizeof path, "%s.jsonl", name);
    char *file = in_case(folder, path);
    rows_write(rows, file, true);
    la_fit_summary_free(case_fit(folder, path, name, plain));
    return case_load(folder, name);
}

/* A posterior knows its rows, copies too, and not their order; a row with another label is another
 * one. */
static void rows_are_known(void **state) {
    (void)state;
    char folder[512];
    snprintf(folder, sizeof folder, "%s", open_case("bert"));
    row_file rows = rows_random(3, 12);
    rows_add(&rows, &rows, 4);
    row_file turned = rows_turned(&rows, 5, 2), other = rows;
    other.labels[4] = 1;
    la_posterior a = fitted(folder, &rows, "a"), b = fitted(folder, &turned, "b"),
                 c = fitted(folder, &other, "c");
    const la_row_digest *list = a.provenance.row_digests;
    int copies = 0, found = 0;
    assert_int_equal(a.provenance.n_row_digests, 13);
    assert_memory_equal(list, b.provenance.row_digests, 13 * sizeof *list);
    assert_string_equal(a.provenance.data_digest, b.provenance.data_digest);
    assert_string_not_equal(a.provenance.data_digest, c.provenance.data_digest);
    for (int i = 0; i < 13; i++) {
        copies += i && !la_row_digest_order(&list[i - 1], &list[i]);
        for (int j = 0; j < 13; j++)
            found += !la_row_digest_order(&list[i], &c.provenance.row_digests[j]);
    }
    assert_int_equal(copies, 1);
    assert_int_equal(found, 13); /* eleven, and two that are the copy that kept its label */
    la_posterior_free(&a);
    la_posterior_free(&b);
    la_posterior_free(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_known),
    };
    return cmocka_run_group_tests_name("update", tests, NULL, NULL);
}

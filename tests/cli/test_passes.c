/* Passes over rows that a fit makes, counted by its embeddings: a forward pass has one a batch.
 * What is said beside the curvature comes from passes that run anyway. */
#include "support/faults.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_ROWS = 32 }; /* of three tokens, by --batch-tokens */

static void write_rows(const char *path, int n) {
    FILE *file = fopen(path, "w");
    for (int i = 0; i < n; i++)
        fprintf(file, "{\"input_ids\":[%d,%d,%d],\"label\":%d}\n", 5 + i % 80, 5 + i / 80, 7,
                i % 3);
    fclose(file);
}

/* Calls of an operation by the profile of --verbose. */
static long calls_of(const char *notes, const char *operation) {
    char line[64];
    snprintf(line, sizeof line, "note:   %s ", operation);
    const char *found = strstr(notes, line);
    const char *end = found ? strstr(found, " calls") : NULL;
    if (!end)
        fail_msg("no calls of %s in %s", operation, notes);
    while (end[-1] >= '0' && end[-1] <= '9')
        end--;
    return atol(end);
}

#define FIT_MORE                                                                                   \
    "fit --base @/base --adapter @/adapter --data @/many.jsonl --out @/p --verbose "               \
    "--batch-tokens 96 "
static const struct {
    const char *line;
    int rows; /* in batches of their own, beside the 320 of the curvature */
} cases[] = {
    {FIT_MORE "--prior 3", 0},
    {FIT_MORE, 32},                                             /* signs of trouble */
    {FIT_MORE "--val @/held.jsonl", 64},                        /* the guard */
    {FIT_MORE "--val @/held.jsonl --predict-cost forward", 64}, /* variances distilled */
    {FIT_MORE "--val @/held.jsonl --ood --adue", 64},           /* distances, error head */
    {FIT_MORE "--ood --adue", 32},
};

static void passes_are_shared(void **state) {
    const char *folder = open_case("bert");
    (void)state;
    write_rows(in_case(folder, "many.jsonl"), 320);
    write_rows(in_case(folder, "held.jsonl"), 64);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        command done = run_line(folder, cases[i].line, NULL);
        if (done.code)
            fail_msg("%s: %s", cases[i].line, done.err);
        assert_int_equal(calls_of(done.err, "embed"), (320 + cases[i].rows) / BATCH_ROWS);
        command_free(&done);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(passes_are_shared)};
    return cmocka_run_group_tests_name("passes of a fit", tests, NULL, NULL);
}

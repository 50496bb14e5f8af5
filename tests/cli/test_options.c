/* How options are read, whatever they are, and that the README lists those that there are. */
#include "support/faults.h"

#include <stdlib.h>

static void readme_is_fresh(void **state) {
    const char *program = getenv("LAPLORA");
    command done = run_command((const char *const[]){"tests/generate/option_table",
                                                     program ? program : "build/laplora",
                                                     "README.md", "--check", NULL},
                               NULL);
    (void)state;
    if (done.code)
        fail_msg("%s", done.err);
    command_free(&done);
}

/* ---- how options are read ---- */

static const fault faults[] = {
    {"a value given twice", 2, {"--adapter", "given twice"}, .command = FIT " --adapter @/second"},
    {"a number given twice",
     2,
     {"--threads", "given twice"},
     .command = FIT " --threads 1 --threads=2"},
    {"a choice given twice",
     2,
     {"--kron", "given twice"},
     .command = FIT " --kron reduce --kron reduce"},
    {"two adapters to predict",
     2,
     {"--adapter"},
     .command = PREDICT " --adapter @/a --adapter @/b"},
    {"a flag twice", 0, {NULL}, .command = FIT " --quiet --quiet"},
    {"an abbreviation", 2, {"--thr", "did you mean --threads?"}, .command = FIT " --thr 1"},
    {"letters exchanged", 2, {"--josn", "did you mean --json?"}, .command = FIT " --josn"},
    {"an option of others", 2, {"--seed", "predict and compare"}, .command = FIT " --seed 1"},
    {"ids in fit", 2, {"--id-field", "predict"}, .command = FIT " --id-field id"},
    {"json of tokenize",
     2,
     {"--json"},
     .command = "tokenize --base @/base --data @/calib.jsonl --json"},
    {"an empty value", 2, {"--labels", "empty"}, .command = FIT " --labels ''"},
    {"an empty value behind =", 2, {"--labels", "empty"}, .command = FIT " --labels="},
    {"an option for a value", 2, {"--labels", "--json"}, .command = FIT " --labels --json"},
    {"a value behind =", 0, {NULL}, .command = FIT " --threads=1"},
    {"a number with a blank", 2, {"--prior"}, .command = FIT " --prior=0x3"},
    {"a prior too large", 2, {"--prior"}, .command = FIT " --prior 1e999"},
    {"a command nearly", 2, {"\"ft\"", "did you mean fit?"}, .command = "ft --base @/base"},
    {"an option before the command", 2, {"--quiet"}, .command = "--quiet fit"},
    {"operands behind --", 3, {"info --json"}, .command = "info -- --json"},
    {"kron of a diagonal", 2, {"--kron", "diag"}, .command = FIT " --curvature diag --kron reduce"},
    {"rank of a diagonal", 2, {"--rank", "diag"}, .command = FIT " --curvature diag --rank 3"},
    {"params of the last layer",
     2,
     {"--params", "last-layer"},
     .command = FIT " --curvature last-layer --params head"},
    {"quiet and verbose", 2, {"--verbose"}, .command = FIT " --verbose"},
    {"two formats", 2, {"--json", "html"}, .command = "report @/p.jsonl --json --format html"},
    {"a list with a hole", 2, {"--labels", "element 2 is empty"}, .command = FIT " --labels a,,b"},
    {"a list with an end", 2, {"--emit", "element 2 is empty"}, .command = PREDICT " --emit cov,"},
};

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readme_is_fresh),
    };
    int failed = run_faults("options", faults, sizeof faults / sizeof *faults);
    return failed + cmocka_run_group_tests_name("options of the README", tests, NULL, NULL);
}

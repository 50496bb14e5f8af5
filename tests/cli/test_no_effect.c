/* Options without effect: refused where that is certain, reported where it depends on the rows. And
 * equal prompts in fit and predict. */
#include "base/visible.h"
#include "support/faults.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOUD_FIT "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/out"
#define LOUD_PREDICT "predict --posterior @/posterior --data @/test.jsonl --out @/out"
#define COMPARE                                                                                    \
    "compare --base @/base --adapter @/adapter --calib @/calib.jsonl --test @/test.jsonl --out "   \
    "@/out"
#define REPORT "report @/p.jsonl --max-regression nll=1 --out @/out --baseline @/baseline"
#define ROW "{\"index\":0,\"label\":1,\"probs\":[0.25,0.75],\"confidence_kind\":\"map\"}\n"

static void put_predictions(const fault *f, const char *folder) {
    write_file(in_case(folder, "p.jsonl"), ROW, strlen(ROW));
    put_file(f, folder);
}

/* A template, and rows with text. */
static void put_template(const fault *f, const char *folder) {
    use_tokenizer(f, folder);
    put_file(f, folder);
}

/* A folder whose configuration cannot be looked at, whoever asks. */
static void loop(const fault *f, const char *folder) {
    mkdir(in_case(folder, "loop"), 0700);
    if (symlink(f->a, in_case(folder, f->file)))
        fail_msg("%s: no link", f->file);
}

static const fault faults[] = {
    /* ---- templates ---- */
    {"a template without a field",
     3,
     {"t.txt", "names no field", "{text}"},
     FIT " --template @/t.txt",
     put_template,
     .file = "t.txt",
     .a = "Is it good?\n"},
    {"an empty template",
     3,
     {"t.txt", "names no field"},
     FIT " --template @/t.txt",
     put_template,
     .file = "t.txt",
     .a = ""},
    {"a template of another language",
     3,
     {"t.txt", "names no field", "\"{{\" is a brace"},
     FIT " --template @/t.txt",
     put_template,
     .file = "t.txt",
     .a = "{{ text }}"},
    {"a template in compare",
     3,
     {"t.txt", "names no field"},
     COMPARE " --template @/t.txt",
     put_template,
     .file = "t.txt",
     .a = "good\n"},
    {"a template for ids",
     0,
     {"calib.jsonl: the template is not applied to", "input_ids"},
     LOUD_FIT " --template @/t.txt",
     put_file,
     .file = "t.txt",
     .a = "{text}"},

    /* ---- fields ---- */
    {"the text of ids",
     0,
     {"calib.jsonl: --text-field \"x\": of no effect, all rows have input_ids"},
     .command = LOUD_FIT " --text-field x"},
    {"the pair of ids",
     0,
     {"test.jsonl: --pair-field \"x\": of no effect, all rows have input_ids"},
     .command = LOUD_PREDICT " --pair-field x"},
    {"the text of ids in tokenize",
     0,
     {"--text-field \"x\": of no effect"},
     .command = "tokenize --base @/base --data @/test.jsonl --text-field x",
     .damage = put_template,
     .file = "test.jsonl",
     .a = "{\"input_ids\":[5]}\n"},
    {"the text beside a template",
     0,
     {"--text-field \"text\": of no effect, the template"},
     LOUD_FIT " --template @/t.txt --text-field text",
     put_template,
     .file = "t.txt",
     .a = "very {text}"},
    {"the pair of words",
     0,
     {"--pair-field \"x\": of no effect"},
     .command = LOUD_FIT " --pair-field x",
     .fixture = "bert-token"},
    {"no text of this name",
     3,
     {"calib.jsonl:1:", "\"x\""},
     .command = FIT " --text-field x",
     .damage = use_tokenizer},
    {"no label of this name in fit",
     3,
     {"calib.jsonl:1:", "\"x\""},
     .command = FIT " --label-field x"},
    {"no label of this name in predict",
     0,
     {"test.jsonl: --label-field \"x\": no row has this field"},
     .command = LOUD_PREDICT " --label-field x"},
    {"no id of this name",
     0,
     {"test.jsonl: --id-field \"x\": no row has this field"},
     .command = LOUD_PREDICT " --id-field x"},

    /* ---- options that leave each other nothing ---- */
    {"held-out rows twice",
     2,
     {"--heldout", "--val"},
     .command = FIT " --val @/test.jsonl --heldout"},
    {"--select val and --heldout",
     2,
     {"--heldout", "--val"},
     .command = FIT " --select val --val @/test.jsonl --heldout"},
    {"--select cross and --val",
     2,
     {"--val", "--select cross"},
     .command = FIT " --select cross --val @/test.jsonl --heldout"},
    {"--select cross and --val for an error head",
     0,
     {NULL},
     .command = LOUD_FIT " --select cross --val @/test.jsonl --heldout --adue"},
    {"the covariance of map",
     0,
     {"--emit cov", "\"map\" needs no covariance"},
     .command = LOUD_PREDICT " --predictive map --emit cov"},
    {"quiet and verbose in fit", 2, {"--quiet", "--verbose"}, .command = FIT " --verbose"},
    {"quiet and verbose in predict", 2, {"--quiet", "--verbose"}, .command = PREDICT " --verbose"},
    {"quiet and verbose in compare",
     2,
     {"--quiet", "--verbose"},
     .command = COMPARE " --methods map --quiet --verbose"},
    {"a structure without the guard",
     2,
     {"--curvature diag", "guard"},
     .command = COMPARE " --methods map,kron --curvature diag"},
    {"factors of a diagonal",
     2,
     {"--kron reduce", "ekfac"},
     .command = COMPARE " --methods map,diag --kron reduce"},
    {"factors of a guard over a diagonal",
     2,
     {"--kron reduce", "ekfac"},
     .command = COMPARE " --methods guard --val @/test.jsonl --curvature diag --kron reduce"},
    {"factors of a guard",
     0,
     {NULL},
     .command = COMPARE " --methods guard --val @/test.jsonl --kron reduce"},
    {"factors of the default methods",
     0,
     {NULL},
     .command = COMPARE " --curvature diag --kron reduce"},
    {"two adapters without an ensemble",
     2,
     {"--adapter", "ensemble"},
     .command = COMPARE " --methods map --adapter @/adapter"},

    /* ---- tokenize ---- */
    {"an adapter's name without its folder",
     2,
     {"--adapter-name x", "--adapter DIR"},
     .command = "tokenize --base @/base --data @/test.jsonl --adapter-name x"},
    {"tokenize with an adapter that is none",
     3,
     {"--adapter", "cannot be read"},
     .command = "tokenize --base @/base --adapter @/none/of/it --data @/test.jsonl",
     .damage = use_tokenizer},

    /* ---- messages that fit ---- */
    {"predictions for a baseline",
     3,
     {"baseline: is predictions", "laplora report", "--format json"},
     REPORT,
     put_predictions,
     .file = "baseline",
     .a = ROW ROW},
    {"predictions of one row for a baseline",
     3,
     {"baseline: is predictions", "--format json"},
     REPORT,
     put_predictions,
     .file = "baseline",
     .a = ROW},
    {"a base that cannot be looked at",
     3,
     {"loop/config.json: cannot be read", "symbolic links"},
     .command = "info @/loop",
     .damage = loop,
     .file = "loop/config.json",
     .a = "config.json"},
    {"something else for a baseline",
     3,
     {"baseline", "schema"},
     REPORT,
     put_predictions,
     .file = "baseline",
     .a = "{\"x\":1}\n"},
    {"an output in a folder that is not there",
     5,
     {"names a folder by its end", "there is none"},
     .command = "predict --posterior @/posterior --data @/test.jsonl --out @/new/ --quiet"},
    {"an output below a file",
     5,
     {"names a folder by its end", "there is none"},
     .command = "predict --posterior @/posterior --data @/test.jsonl --out @/test.jsonl/ --quiet"},
    {"an output that is a folder",
     5,
     {"/base/: is a directory"},
     .command = "predict --posterior @/posterior --data @/test.jsonl --out @/base/ --quiet"},
};

/* ---- the prompt ---- */

/* The answers of map, without the line that is said on the way. */
static char *answers(const char *folder, const char *line) {
    command done = run_line(folder, line, NULL);
    if (done.code)
        fail_msg("%s: %s", line, done.err);
    free(done.err);
    return done.out;
}

/* A template with two newlines at its end is a prompt with one, in fit as in predict: the same
 * rows, written out, have the same log likelihood and the same answers. */
static void newlines_at_the_end(void **state) {
    static const char rows[] = "{\"text\":\"good\",\"label\":0}\n{\"text\":\"bad\",\"label\":1}\n";
    static const char out[] = "{\"text\":\"very good film\\n\",\"label\":0}\n{\"text\":\"very bad "
                              "film\\n\",\"label\":1}\n";
    const char *folder = open_case("bert");
    (void)state;
    use_tokenizer(NULL, folder);
    /* a tokenizer to which a line end is a character */
    replace_text(&(fault){.file = "base/tokenizer.json",
                          .a = "\"clean_text\":true",
                          .b = "\"clean_text\":false"},
                 folder);
    replace_text(&(fault){.file = "base/tokenizer.json",
                          .a = "\"BertPreTokenizer\"",
                          .b = "\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":\"Isolated\","
                               "\"invert\":false"},
                 folder);
    write_file(in_case(folder, "calib.jsonl"), rows, strlen(rows));
    write_file(in_case(folder, "out.jsonl"), out, strlen(out));
    write_file(in_case(folder, "t.txt"), "very {text} film\n\n", 18);
    write_file(in_case(folder, "short.txt"), "very {text} film", 16);
#define HALF "fit --base @/base --adapter @/adapter --prior 1 --quiet "
    char *text[3];
    free(answers(folder, HALF "--data @/calib.jsonl --template @/t.txt --out @/p.h5"));
    free(answers(folder, HALF "--data @/out.jsonl --out @/q.h5"));
    free(answers(folder, HALF "--data @/calib.jsonl --template @/short.txt --out @/s.h5"));
    text[0] = answers(folder, "predict --posterior @/p.h5 --data @/calib.jsonl --quiet");
    text[1] = answers(folder, "predict --posterior @/q.h5 --data @/out.jsonl --quiet");
    text[2] = answers(folder, "predict --posterior @/s.h5 --data @/calib.jsonl --quiet");
    assert_string_equal(text[0], text[1]);
    if (!strcmp(text[0], text[2]))
        fail_msg("the newline changes no answer, and this test shows nothing");
    for (int i = 0; i < 3; i++)
        free(text[i]);
}

/* Options that have an effect are no reason for a note. */
static void no_note(void **state) {
    static const char *const lines[] = {
        LOUD_FIT " --prior 1 --text-field text --label-field label",
        LOUD_FIT " --prior 1 --template @/t.txt",
        "predict --posterior @/posterior --data @/test.jsonl --text-field text --label-field label "
        "--id-field label --emit cov --predictive mc --out @/out"};
    const char *folder = open_case("bert");
    (void)state;
    use_tokenizer(NULL, folder);
    write_file(in_case(folder, "t.txt"), "very {text} film", 16);
    fit_case(folder);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        command done = run_line(folder, lines[i], NULL);
        if (done.code || strstr(done.err, "field") || strstr(done.err, "template") ||
            strstr(done.err, "covariance"))
            fail_msg("%s: %s", lines[i], done.err);
        command_free(&done);
    }
}

/* A line of --stdin is the field of this name, so that the option is used. */
static void text_field_of_lines(void **state) {
    const char *folder = open_case("bert");
    (void)state;
    use_tokenizer(NULL, folder);
    fit_case(folder);
    command done =
        run_line(folder, "predict --posterior @/posterior --stdin --skip-bad --text-field x",
                 "good film\n{\"x\":\"bad\"}\n{\"text\":\"bad\"}\n");
    assert_int_equal(done.code, 0);
    assert_null(strstr(done.err, "no effect"));
    assert_non_null(strstr(done.out, "no field \\\"x\\\""));
    assert_non_null(strstr(done.out, "{\"index\":1,\"prediction\""));
    command_free(&done);
}

/* Only users other than root are kept out of a directory by its mode. */
static void no_permission(void **state) {
    const char *folder = open_case("bert");
    (void)state;
    if (!geteuid())
        skip(); /* the row with the loop of links holds for root, too */
    chmod(in_case(folder, "base"), 0600);
    command done = run_line(folder, "info @/base", NULL);
    chmod(in_case(folder, "base"), 0700);
    check_message(&done, 3, (const char *const[]){"Permission denied"}, 1);
    command_free(&done);
}

/* Text that is shortened to fit a message is cut between characters, wherever the cut falls. */
static void whole_characters(void **state) {
    (void)state;
    assert_int_equal(la_visible_cut("a\xc3\xa9", 1), 1);
    assert_int_equal(la_visible_cut("a\xc3\xa9", 2), 1);
    assert_int_equal(la_visible_cut("a\xc3\xa9", 3), 3);
    assert_int_equal(la_visible_cut("a\xc3", 9), 2);
    const char *folder = open_case("bert");
    use_tokenizer(NULL, folder);
    for (int shift = 0; shift < 2; shift++) {
        char name[600] = "a", line[900], row[900];
        size_t used = (size_t)shift;
        for (int i = 0; i < 250; i++, used += 2)
            memcpy(name + used, "\xc3\xa9", 3);
        snprintf(line, sizeof line, "info --%s", name);
        snprintf(row, sizeof row, "{\"%s\":1,\"label\":1}\n", name);
        write_file(in_case(folder, "calib.jsonl"), row, strlen(row));
        command done[] = {run_line(folder, line, NULL), run_line(folder, FIT, NULL)};
        for (int i = 0; i < 2; i++) {
            check_message(&done[i], i ? 3 : 2, (const char *const[]){"\xc3\xa9\xc3\xa9"}, 1);
            assert_null(strstr(done[i].err, "\\x"));
            command_free(&done[i]);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(newlines_at_the_end), cmocka_unit_test(no_note),
        cmocka_unit_test(no_permission),       cmocka_unit_test(whole_characters),
        cmocka_unit_test(text_field_of_lines),
    };
    int failed = run_faults("no effect", faults, sizeof faults / sizeof *faults);
    return failed + cmocka_run_group_tests_name("what has an effect", tests, NULL, NULL);
}

/* Posteriors from parts: equal to one fit over all rows, the same bytes in any order; parts that do
 * not belong together are refused by name. */
#include "output/part_file.h"
#include "output/posterior_file.h"
#include "pipeline/merge.h"
#include "pipeline/part.h"
#include "support/faults.h"
#include "support/posterior_files.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PARTS_MOST = 128, PATH = 512 };

typedef struct merge_case {
    const char *name, *fixture;
    la_fit_options how;
    int n[5]; /* numbers of parts to try; 0: no more */
} merge_case;

static const merge_case cases[] = {
    {"kron", "bert", {.curvature = "kron"}, {1, 2, 3, 7, 30}},
    {"kron reduce", "bert", {.curvature = "kron", .kron = LA_KRON_REDUCE}, {2, 7}},
    {"kron rank 2", "bert", {.curvature = "kron", .rank = 2}, {3}},
    {"kron with the head", "bert", {.curvature = "kron", .params = LA_PARAMS_LORA_HEAD}, {2, 3}},
    {"diag", "bert", {.curvature = "diag"}, {1, 2, 3, 7, 30}},
    {"last layer", "bert", {.curvature = "last-layer"}, {1, 3, 30}},
    {"exact", "bert", {.curvature = "exact"}, {1, 2, 3, 7, 30}},
    {"exact rank 5", "bert", {.curvature = "exact", .rank = 5}, {3}},
    {"exact regression", "bert-regression", {.curvature = "exact"}, {3}},
    {"last layer of sets", "bert-multilabel", {.curvature = "last-layer"}, {3}},
    {"ekfac", "bert", {.curvature = "ekfac", .basis = "basis.h5"}, {1, 2, 3, 7, 30}},
    {"ekfac rank 2", "bert", {.curvature = "ekfac", .basis = "basis.h5", .rank = 2}, {3}},
    {"ekfac reduce",
     "bert",
     {.curvature = "ekfac", .basis = "basis.h5", .kron = LA_KRON_REDUCE},
     {3}},
    {"regression", "bert-regression", {.curvature = "kron"}, {1, 3, 7}},
    {"several classes a row", "bert-multilabel", {.curvature = "kron"}, {2, 7}},
    {"tokens", "bert-token", {.curvature = "kron"}, {2, 3}},
    {"answer tokens", "llama", {.curvature = "kron", .choice_ids = "37,76,92,95"}, {2, 3}},
};
enum { CASES = sizeof cases / sizeof *cases };

static char folder[PATH];

static void say(const la_error *err) {
    if (err->status != LA_OK)
        fail_msg("%s", err->message);
}

static la_fit_options options_of(const merge_case *c, char paths[5][PATH], const char *out) {
    const char *const names[] = {"base", "adapter", "calib.jsonl", out, "basis.h5"};
    la_fit_options o = c->how;
    for (int i = 0; i < 5; i++)
        snprintf(paths[i], PATH, "%s", in_case(folder, names[i]));
    o.run.device = "cpu";
    o.run.batch_tokens = 64;
    o.run.threads = 1;
    o.base = paths[0];
    o.adapter = paths[1];
    o.data = paths[2];
    o.out = paths[3];
    o.prior = strcmp(o.curvature, "exact") && strcmp(o.curvature, "last-layer") ? LA_PRIOR_MODULE
                                                                                : LA_PRIOR_GLOBAL;
    o.basis = o.basis ? paths[4] : NULL;
    return o;
}

static la_status make_part(const merge_case *c, int number, int n, const char *name,
                           la_error *err) {
    char paths[5][PATH];
    la_fit_options o = options_of(c, paths, name);
    la_part_fit part = {.out = o.out, .basis = o.basis, .part = {number, n}};
    la_carrier how = la_part_carrier(&part);
    la_carriers carriers = {.list = &how, .n = 1, .adds = true};
    la_fit_summary *none;
    *err = (la_error){0};
    la_status status = la_fit_carried(&o, &carriers, &none, err);
    assert_null(none);
    assert_true(status != LA_OK || part.n_rows == la_part_rows(number, n, part.n_all));
    return status;
}

static void make_parts(const merge_case *c, int n) {
    char name[64];
    la_error err;
    for (int i = 1; i <= n; i++) {
        snprintf(name, sizeof name, "part%d.h5", i);
        (void)make_part(c, i, n, name, &err);
        say(&err);
    }
}

/* Merges part (step i + start) mod n + 1 for all i. */
static la_status merge_parts(const la_fit_options *how, int n, int step, int start, const char *out,
                             la_fit_summary **summary, la_error *err) {
    char names[PARTS_MOST][PATH], to[PATH];
    const char *list[PARTS_MOST];
    for (int i = 0; i < n; i++) {
        char name[64];
        snprintf(name, sizeof name, "part%d.h5", (step * i + start) % n + 1);
        snprintf(names[i], PATH, "%s", in_case(folder, name));
        list[i] = names[i];
    }
    la_merge_options o = {.parts = list, .n_parts = n};
    if (how)
        o.fit = *how;
    snprintf(to, sizeof to, "%s", in_case(folder, out));
    o.fit.out = to;
    o.fit.run.device = "cpu";
    o.fit.run.batch_tokens = 64;
    o.fit.run.threads = 1;
    return la_merge(&o, summary, err);
}

static void check_same_files(const char *a, const char *b) {
    size_t n, m;
    char *x = read_file(in_case(folder, a), &n), *y = read_file(in_case(folder, b), &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

/* Largest difference of two numbers, or arrays of them; of what is above 1, relative. */
static double differ(const json_t *a, const json_t *b) {
    double worst = 0;
    if (json_is_array(a))
        for (size_t i = 0; i < json_array_size(a); i++)
            worst = fmax(worst, differ(json_array_get(a, i), json_array_get(b, i)));
    return json_is_array(a) ? worst : relative(json_number_value(a), json_number_value(b), 1);
}

static json_t *answers(const char *posterior) {
    char line[256];
    snprintf(line, sizeof line,
             "predict --posterior @/%s --data @/test.jsonl --out @/p.jsonl --quiet --samples 0 "
             "--threads 1",
             posterior);
    command done = run_line(folder, line, NULL);
    if (done.code)
        fail_msg("%s", done.err);
    command_free(&done);
    return load_lines(in_case(folder, "p.jsonl"));
}

/* Largest difference in what two posteriors answer. */
static double difference(const char *a, const char *b) {
    static const char *const fields[] = {"probs", "prediction", "variance"};
    json_t *x = answers(a), *y = answers(b);
    double worst = 0;
    assert_int_equal(json_array_size(x), json_array_size(y));
    assert_true(json_array_size(x) > 0);
    for (size_t i = 0; i < json_array_size(x); i++)
        for (int k = 0; k < 3; k++) {
            const json_t *p = json_array_get(x, i), *q = json_array_get(y, i);
            const json_t *tokens = json_object_get(p, "tokens");
            for (size_t t = 0; t < (tokens ? json_array_size(tokens) : 1); t++) {
                const json_t *u = tokens ? json_array_get(tokens, t) : p;
                const json_t *v = tokens ? json_array_get(json_object_get(q, "tokens"), t) : q;
                worst = fmax(worst,
                             differ(json_object_get(u, fields[k]), json_object_get(v, fields[k])));
            }
        }
    json_decref(x);
    json_decref(y);
    return worst;
}

/* The first round of a structure of two: factors of all rows, from parts. */
static void make_basis(const merge_case *c, int n) {
    merge_case first = {.how = c->how};
    la_fit_summary *summary;
    la_error err = {0};
    first.how.curvature = "kron";
    first.how.basis = NULL;
    make_parts(&first, n);
    (void)merge_parts(NULL, n, 1, 0, "basis.h5", &summary, &err);
    say(&err);
    la_fit_summary_free(summary);
}

/* 24 rows leave a factor of 32 a null space, whose eigenvectors are rounding's: batches of another
 * size move the evidence of one fit by 7e-5. */
static bool is_loose(const merge_case *c) {
    return c->how.basis && c->how.kron == LA_KRON_REDUCE;
}

static void check_case(const merge_case *c, double *evidence, double *probs) {
    char paths[5][PATH];
    la_fit_summary *all, *merged, *again;
    la_error err = {0};
    snprintf(folder, sizeof folder, "%s", open_case(c->fixture));
    la_fit_options o = options_of(c, paths, "all.h5"), m = {.basis = o.basis};
    o.basis = NULL; /* by one fit in two passes */
    (void)la_fit(&o, &all, &err);
    say(&err);
    for (int k = 0; k < 5 && c->n[k]; k++) {
        int n = c->n[k], step = n > 2 && n % 2 ? 2 : 1;
        if (m.basis)
            make_basis(c, n);
        make_parts(c, n);
        (void)merge_parts(&m, n, 1, 0, "merged.h5", &merged, &err);
        say(&err);
        (void)merge_parts(&m, n, step, n / 2, "again.h5", &again, &err);
        say(&err);
        check_same_files("merged.h5", "again.h5");
        assert_int_equal(merged->n_rows, all->n_rows);
        assert_int_equal(merged->n_tokens, all->n_tokens);
        assert_int_equal(merged->n_parameters, all->n_parameters);
        double e = relative(merged->log_marginal_likelihood, all->log_marginal_likelihood, 1);
        e = fmax(e, relative(merged->log_likelihood, all->log_likelihood, 1));
        double p = difference("all.h5", "merged.h5");
        printf("    %-24s %2d parts: evidence %.2g relative, answers %.2g\n", c->name, n, e, p);
        assert_true(!is_loose(c) || (e < 2e-4 && p < 1e-4));
        *evidence = fmax(*evidence, is_loose(c) ? 0 : e);
        *probs = fmax(*probs, is_loose(c) ? 0 : p);
        la_posterior x = case_load(folder, "all.h5"), y = case_load(folder, "merged.h5");
        assert_string_equal(x.provenance.data_digest, y.provenance.data_digest);
        assert_string_equal(x.provenance.tokenizer_digest, y.provenance.tokenizer_digest);
        assert_string_equal(x.provenance.base_path, y.provenance.base_path);
        assert_int_equal(x.provenance.max_length, y.provenance.max_length);
        la_posterior_free(&x);
        la_posterior_free(&y);
        la_fit_summary_free(merged);
        la_fit_summary_free(again);
    }
    la_fit_summary_free(all);
}

/* Exact covariances are a difference, which loses digits of an f32 in what a regression says. */
static void equal_to_one_fit(void **state) {
    double evidence = 0, probs = 0, numbers = 0;
    (void)state;
    for (int i = 0; i < CASES; i++)
        check_case(&cases[i], &evidence,
                   strcmp(cases[i].fixture, "bert-regression") ? &probs : &numbers);
    check_within("evidence of all parts against one fit, relative", evidence, 2e-7);
    check_within("probabilities of all parts against one fit", probs, 5e-7);
    check_within("numbers of a regression likewise", numbers, 1.4e-5);
}

/* The guard by --val, with --data cross-fitted, and a prior that is given: as in fit. */
static void choices(void **state) {
    char paths[5][PATH], val[PATH];
    la_fit_summary *all, *merged;
    la_error err = {0};
    (void)state;
    snprintf(folder, sizeof folder, "%s", open_case("bert"));
    make_parts(&cases[0], 3);
    for (int i = 0; i < 3; i++) {
        la_fit_options o = options_of(&cases[0], paths, "all.h5"), m = {.heldout = i == 1};
        snprintf(val, sizeof val, "%s", in_case(folder, "test.jsonl"));
        if (i == 0)
            o.val = m.val = val;
        if (i == 1) {
            o.heldout = m.heldout = 1;
            m.data = o.data;
        }
        if (i == 2) {
            o.prior = m.prior = LA_PRIOR_FIXED;
            o.prior_value = m.prior_value = 3;
            o.prior_given = m.prior_given = 1;
        }
        (void)la_fit(&o, &all, &err);
        say(&err);
        (void)merge_parts(&m, 3, 2, 1, "merged.h5", &merged, &err);
        say(&err);
        assert_true((all->choice.method != NULL) == (i < 2));
        if (i < 2)
            assert_string_equal(all->choice.method, merged->choice.method);
        check_within("answers after the guard", difference("all.h5", "merged.h5"), 1e-5);
        la_fit_summary_free(all);
        la_fit_summary_free(merged);
    }
}

/* Two processes that write one name, and a merge at the same time: a whole part of one of them. */
static void one_name(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "%s", open_case("bert"));
    check_script(
        folder,
        "F=\"--base $D/base --adapter $D/adapter --data $D/calib.jsonl --threads 1 --quiet\"\n"
        "for i in 1 2 3; do\n"
        "  for k in 1 2; do $L fit $F --shard $k/2 --out $D/one.h5 & done\n"
        "  wait\n"
        "  $L fit $F --shard 1/2 --out $D/a.h5 && $L fit $F --shard 2/2 --out $D/b.h5\n"
        "  cmp -s $D/one.h5 $D/a.h5 || cmp -s $D/one.h5 $D/b.h5 || exit 9\n"
        "done\n");
}

/* The shell loop of data/integrations: what it writes is the merge of its parts. */
static void loop(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "%s", open_case("bert"));
    check_script(folder,
                 "mkdir $D/bin && ln -s $L $D/bin/laplora && PATH=$D/bin:$PATH\n"
                 "F=\"--base $D/base --adapter $D/adapter --data $D/calib.jsonl --threads 1\"\n"
                 "MERGE=\"--val $D/test.jsonl --threads 1\" data/integrations/parts 3 $D/parts "
                 "$D/looped.h5 $F || exit 1\n"
                 "SLURM_ARRAY_TASK_ID=2 SLURM_ARRAY_TASK_COUNT=3 sh -c 'cd $0 && exec "
                 "$1/data/integrations/slurm_array --base $0/base --adapter $0/adapter --data "
                 "$0/calib.jsonl' $D $PWD || exit 2\n"
                 "cmp $D/parts/part-2.h5 $D/parts/part-2-of-3.h5 || exit 3\n"
                 "laplora merge $D/parts/part-[123]-of-3.h5 --out $D/again.h5 --val $D/test.jsonl "
                 "--threads 1 && cmp $D/looped.h5 $D/again.h5\n");
}

/* ---- parts that do not belong together ---- */

typedef struct wrong {
    const char *line;
    int code;
    const char *pieces[3];
} wrong;

#define SUM "fit --base @/base --adapter @/adapter --data @/calib.jsonl --threads 1 --quiet "
#define OUT " --out @/out --quiet"

static const char *const makes[] = {
    SUM "--shard 1/2 --out @/one",
    SUM "--shard 2/2 --out @/two",
    SUM "--shard 2/3 --out @/third",
    SUM "--shard 2/2 --out @/diag --curvature diag",
    SUM "--shard 2/2 --out @/reduced --kron reduce",
    SUM "--shard 2/2 --out @/cut --rank 1",
    SUM "--shard 2/2 --out @/short --max-length 5",
    SUM "--shard 2/2 --out @/named --labels a,b,c",
    "fit --base @/base --adapter @/adapter --data @/test.jsonl --quiet --shard 2/2 --out @/rows",
    "fit --base @/base --adapter @/still --data @/calib.jsonl --quiet --shard 2/2 --out @/still.h5",
    SUM "--out @/whole",
    SUM "--out @/prior --prior 2",
    SUM "--out @/ekfac --curvature ekfac",
    SUM "--out @/turned1 --curvature ekfac --basis @/whole --shard 1/2",
    SUM "--out @/turned2 --curvature ekfac --basis @/whole --shard 2/2",
    SUM "--out @/other2 --curvature ekfac --basis @/prior --shard 2/2",
};

static const wrong wrongs[] = {
    {"merge @/one" OUT, 7, {"part 2/2", "is missing", "/one"}},
    {"merge @/one @/two @/one" OUT, 7, {"/one", "is part 1/2, and so is"}},
    {"merge @/one @/third" OUT, 7, {"/third (part 2/3)", "another number of parts"}},
    {"merge @/one @/diag" OUT, 7, {"/diag (part 2/2)", "another curvature"}},
    {"merge @/one @/reduced" OUT, 7, {"/reduced", "another curvature"}},
    {"merge @/one @/cut" OUT, 7, {"/cut", "--rank"}},
    {"merge @/one @/short" OUT, 7, {"/short", "--max-length"}},
    {"merge @/one @/named" OUT, 7, {"/named", "class names"}},
    {"merge @/one @/rows" OUT, 7, {"/rows", "another rows (--data)"}},
    {"merge @/still.h5 @/one" OUT, 7, {"/one", "another adapter", "/still.h5"}},
    {"merge @/one @/two --adapter @/still" OUT, 7, {"/still", "another adapter"}},
    {"merge @/one @/nothing" OUT, 3, {"/nothing", "cannot read"}},
    {"merge @/one @/base" OUT, 3, {"/base", "is no file, expected a part"}},
    {"merge @/one @/calib.jsonl" OUT, 3, {"calib.jsonl", "is no part"}},
    {"merge @/one @/two --data @/test.jsonl" OUT, 7, {"test.jsonl", "10 rows are not the 24"}},
    {"merge @/one @/two --heldout" OUT, 2, {"--heldout", "--data FILE"}},
    {"merge @/one @/two --adue --val @/test.jsonl" OUT, 2, {"--adue", "--data FILE"}},
    {"merge @/one @/two --ood" OUT, 2, {"--ood", "--data FILE"}},
    {"merge @/one @/two --max-length 5" OUT, 7, {"--max-length"}},
    {"merge @/one @/two --base-quant int8" OUT, 7, {"--base-quant"}},
    {"merge @/one @/two --out @/one --quiet", 2, {"/one"}},
    {"merge @/one @/two --quiet", 2, {"--out"}},
    {"merge --out @/out", 2, {"PART.h5"}},
    {"predict --posterior @/one --data @/test.jsonl --quiet",
     3,
     {"/one", "is no posterior but a part of one", "laplora merge"}},
    {"report @/one", 4, {"/one", "is a part of a laplora posterior", "laplora merge"}},
    {"report @/whole", 4, {"/whole", "is a laplora posterior", "laplora predict"}},
    {"merge @/one @/whole" OUT, 3, {"/whole", "is no part but a posterior"}},
    {SUM "--shard 1/2 --out @/out --prior 3", 2, {"--prior", "laplora merge"}},
    {SUM "--shard 1/2 --out @/out --val @/test.jsonl", 2, {"--val", "laplora merge"}},
    {SUM "--shard 1/2 --out @/out --heldout", 2, {"--heldout", "laplora merge"}},
    {SUM "--shard 1/2 --out @/out --select none", 2, {"--select", "laplora merge"}},
    {SUM "--shard 1/2 --out @/out --ood", 2, {"--ood", "laplora merge"}},
    {SUM "--shard 1/2 --out @/out --adue", 2, {"--adue", "laplora merge"}},
    {SUM "--shard 1/2 --out @/out --noise 1", 2, {"--noise", "laplora merge"}},
    {SUM "--shard 1/2 --curvature ekfac --out @/out", 4, {"ekfac", "--curvature kron", "--basis"}},
    {SUM "--basis @/whole --out @/out", 2, {"--basis", "--curvature kron"}},
    {SUM "--curvature ekfac --basis @/ekfac --out @/out", 7, {"/ekfac", "posterior of kron"}},
    {SUM "--curvature ekfac --basis @/whole --kron reduce --out @/out", 7, {"/whole", "--kron"}},
    {SUM "--curvature ekfac --basis @/whole --rank 1 --out @/out", 7, {"/whole", "--rank"}},
    {"fit --base @/base --adapter @/adapter --data @/test.jsonl --out @/out --quiet --curvature "
     "ekfac --basis @/whole",
     7,
     {"/whole", "another rows (--data)"}},
    {"fit --base @/base --adapter @/still --data @/calib.jsonl --out @/out --quiet --curvature "
     "ekfac --basis @/whole",
     7,
     {"/whole", "another adapter"}},
    {"merge @/turned1 @/turned2" OUT, 2, {"/turned1", "--basis"}},
    {"merge @/turned1 @/turned2 --basis @/ekfac" OUT, 7, {"/ekfac", "another --basis"}},
    {"merge @/one @/two --basis @/whole" OUT, 7, {"/whole", "another --basis"}},
    {"merge @/turned1 @/other2 --basis @/whole" OUT, 7, {"/other2", "another posterior (--basis)"}},
    {SUM "--shard 0/2 --out @/out", 2, {"expected I/N"}},
    {SUM "--shard 3/2 --out @/out", 2, {"part 3 of 2"}},
    {SUM "--shard 1 --out @/out", 2, {"expected I/N"}},
    {SUM "--shard 1/2/3 --out @/out", 2, {"expected I/N"}},
    {SUM "--shard +1/2 --out @/out", 2, {"expected I/N"}},
    {SUM "--shard 1/99999999999 --out @/out", 2, {"expected I/N"}},
    {SUM "--shard auto --out @/out", 2, {"SLURM_PROCID", "give --shard I/N"}},
};

static void wrong_parts(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "%s", open_case("bert"));
    copy_folder(in_case(folder, "adapter"), in_case(folder, "still"));
    set_key(&(fault){.file = "still/adapter_config.json", .a = "lora_alpha", .b = "1"}, folder);
    for (size_t i = 0; i < sizeof makes / sizeof *makes; i++) {
        command done = run_line(folder, makes[i], NULL);
        if (done.code)
            fail_msg("%s: %s", makes[i], done.err);
        command_free(&done);
    }
    for (size_t i = 0; i < sizeof wrongs / sizeof *wrongs; i++) {
        command done = run_line(folder, wrongs[i].line, NULL);
        if (done.code != wrongs[i].code)
            printf("%s\n%s", wrongs[i].line, done.err);
        check_message(&done, wrongs[i].code, wrongs[i].pieces, 3);
        check_nothing_written(folder);
        command_free(&done);
    }
}

/* What a part is, and what becomes of it; the summary of a merge counts no rows a second, as it
 * passes over none. */
static void told(void **state) {
    static const char *const lines[] = {
        "fit --base @/base --adapter @/adapter --data @/calib.jsonl --shard 2/3 --out @/part",
        "fit --base @/base --adapter @/adapter --data @/calib.jsonl --shard 1/1 --out @/all",
        "merge @/all --out @/out"};
    (void)state;
    snprintf(folder, sizeof folder, "%s", open_case("bert"));
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        command done = run_line(folder, lines[i], NULL);
        assert_int_equal(done.code, 0);
        assert_null(strstr(done.err, "rows/s"));
        assert_non_null(strstr(done.err, i < 2 ? ": part " : ", sums "));
        command_free(&done);
    }
    command done = run_line(folder, "info @/part --json", NULL);
    json_t *facts = json_loads(done.out, 0, NULL);
    assert_int_equal(done.code, 0);
    assert_string_equal(json_string_value(at(facts, "kind")), "part");
    assert_int_equal(number_at(facts, "part"), 2);
    assert_int_equal(number_at(facts, "n_parts"), 3);
    assert_int_equal(number_at(facts, "n_rows"), 8);
    assert_int_equal(number_at(facts, "n_rows_of_all"), 24);
    assert_non_null(strstr(json_string_value(at(facts, "base")), "/base"));
    assert_non_null(strstr(json_string_value(at(facts, "next")), "laplora merge"));
    json_decref(facts);
    command_free(&done);
}

/* Cut, changed, and changed under a good seal: an error of a file, never another posterior. */
static void damaged_parts(void **state) {
    size_t n;
    uint64_t draw = 7;
    la_error err = {0};
    la_fit_summary *summary;
    (void)state;
    snprintf(folder, sizeof folder, "%s", open_case("bert"));
    make_parts(&cases[0], 2);
    char *bytes = read_file(in_case(folder, "part2.h5"), &n);
    for (size_t cut = 0; cut < n; cut += 1 + n / 12) {
        write_file(in_case(folder, "part2.h5"), bytes, cut);
        assert_int_equal(merge_parts(NULL, 2, 1, 0, "out", &summary, &err), LA_BAD_INPUT);
        assert_non_null(strstr(err.message, "part2.h5"));
    }
    for (int i = 0; i < 60; i++) {
        draw = draw * 6364136223846793005u + 1442695040888963407u;
        size_t place = LA_SEAL_BYTES + (size_t)(draw >> 33) % (i % 2 ? n - LA_SEAL_BYTES : 8192);
        char was = bytes[place];
        bytes[place] = (char)(draw >> 25);
        write_file(in_case(folder, "part2.h5"), bytes, n);
        FILE *stream = fopen(in_case(folder, "part2.h5"), "r+b");
        assert_non_null(stream);
        assert_int_equal(la_seal_stream(&la_part_kind.seal, stream, "part2.h5", false, &err), 0);
        fclose(stream);
        la_status status = merge_parts(NULL, 2, 1, 0, "out", &summary, &err);
        assert_true(status == LA_OK || status == LA_BAD_INPUT || status == LA_MISMATCH ||
                    status == LA_NUMERICAL || status == LA_UNSUPPORTED);
        la_fit_summary_free(summary);
        err = (la_error){0};
        bytes[place] = was;
    }
    free(bytes);
}

/* ---- which part ---- */

typedef struct launched {
    const char *text, *variables; /* NAME=VALUE... */
    int64_t number, n;            /* 0: refused */
} launched;

static const launched launches[] = {
    {"2/3", "", 2, 3},
    {"1/1", "", 1, 1},
    {"auto", "SLURM_PROCID=2 SLURM_NTASKS=4", 3, 4},
    {"auto", "SLURM_ARRAY_TASK_ID=5 SLURM_ARRAY_TASK_COUNT=10 SLURM_ARRAY_TASK_MIN=1", 5, 10},
    {"auto", "SLURM_ARRAY_TASK_ID=6 SLURM_ARRAY_TASK_COUNT=4 SLURM_ARRAY_TASK_STEP=2", 4, 4},
    {"auto", "SLURM_ARRAY_TASK_ID=1 SLURM_ARRAY_TASK_COUNT=3 SLURM_PROCID=1 SLURM_NTASKS=2", 4, 6},
    {"auto", "OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=2 SLURM_PROCID=0 SLURM_NTASKS=1", 1, 2},
    {"auto", "PMI_RANK=6 PMI_SIZE=7", 7, 7},
    {"auto", "RANK=1 WORLD_SIZE=8", 2, 8},
    {"auto/5", "JOB_COMPLETION_INDEX=4", 5, 5},
    {"auto", "JOB_COMPLETION_INDEX=0 JOB_COMPLETIONS=3", 1, 3},
    {"auto/4", "SLURM_PROCID=2 SLURM_NTASKS=4", 3, 4},
    {"auto/6", "JOB_COMPLETION_INDEX=1 RANK=1 WORLD_SIZE=2", 4, 6},
    {"auto", "JOB_COMPLETION_INDEX=0", 0, 0},
    {"auto", "RANK=1", 0, 0},
    {"auto/5", "SLURM_PROCID=2 SLURM_NTASKS=4", 0, 0},
    {"auto/5", "JOB_COMPLETION_INDEX=5", 0, 0},
    {"auto", "SLURM_ARRAY_TASK_ID=9 SLURM_ARRAY_TASK_COUNT=3 SLURM_ARRAY_TASK_MIN=1", 0, 0},
    {"auto", "SLURM_PROCID=x SLURM_NTASKS=4", 0, 0},
    {"auto", "SLURM_PROCID=4 SLURM_NTASKS=4", 0, 0},
    {"auto", "", 0, 0},
    {"/3", "", 0, 0},
    {"1/", "", 0, 0},
    {"", "", 0, 0},
};

static void which_part(void **state) {
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK",
                                        "OMPI_COMM_WORLD_SIZE",
                                        "RANK",
                                        "WORLD_SIZE",
                                        "PMI_RANK",
                                        "PMI_SIZE",
                                        "SLURM_PROCID",
                                        "SLURM_NTASKS",
                                        "SLURM_ARRAY_TASK_ID",
                                        "SLURM_ARRAY_TASK_MIN",
                                        "SLURM_ARRAY_TASK_COUNT",
                                        "SLURM_ARRAY_TASK_STEP",
                                        "JOB_COMPLETION_INDEX",
                                        "JOB_COMPLETIONS"};
    (void)state;
    for (size_t i = 0; i < sizeof launches / sizeof *launches; i++) {
        const launched *l = &launches[i];
        la_part_number part = {0};
        la_error err = {0};
        char copy[256], *rest = NULL;
        for (size_t k = 0; k < sizeof names / sizeof *names; k++)
            unsetenv(names[k]);
        snprintf(copy, sizeof copy, "%s", l->variables);
        for (char *one = strtok_r(copy, " ", &rest); one; one = strtok_r(NULL, " ", &rest)) {
            char *value = strchr(one, '=');
            *value++ = 0;
            setenv(one, value, 1);
        }
        la_status status = la_part_number_parse(l->text, &part, &err);
        if (status != (l->n ? LA_OK : LA_USAGE) ||
            (l->n && (part.number != l->number || part.n != l->n)))
            fail_msg("%s %s: %d %lld/%lld %s", l->text, l->variables, (int)status,
                     (long long)part.number, (long long)part.n, err.message);
    }
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        unsetenv(names[k]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_to_one_fit), cmocka_unit_test(choices),
        cmocka_unit_test(one_name),         cmocka_unit_test(loop),
        cmocka_unit_test(wrong_parts),      cmocka_unit_test(damaged_parts),
        cmocka_unit_test(which_part),       cmocka_unit_test(told),
    };
    return cmocka_run_group_tests_name("merge", tests, NULL, NULL);
}

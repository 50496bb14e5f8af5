/* Posteriors with numbers that no fit writes, all of them finite and in range: predict and info
 * give whole rows of finite numbers, or one line that says why not. And what is no file at all. */
#include "bayes/exact.h"
#include "bayes/factored.h"
#include "output/posterior_file.h"
#include "support/faults.h"
#include "support/posterior_files.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* values that a field may have */
#define LARGEST 1e300

typedef void (*change)(la_posterior *);

static void each_of(const la_factor *f, double value, float vector) {
    for (int64_t i = 0; i < f->rank && value >= 0; i++)
        f->values[i] = value;
    for (int64_t i = 0; i < f->rank * f->n && vector != 0; i++)
        f->vectors[i] = vector;
}

static void each_factor(la_posterior *p, double value, float vector) {
    if (la_structure_of(p->curvature)->joint) {
        const la_directions *d = la_exact_directions(p);
        each_of(&(la_factor){d->width, d->rank, d->values, d->vectors}, value, vector);
        return;
    }
    for (int64_t i = 0; i < p->n_inputs; i++)
        each_of(&la_factored_inputs(p)[i], value, vector);
    for (int64_t b = 0; b < p->n_blocks; b++) {
        const la_factored_block *own = la_factored_of(p, b);
        each_of(&own->output, value, vector);
        for (int64_t i = 0; i < own->rows * own->cols && value >= 0; i++)
            own->spectrum[i] = value > FLT_MAX ? FLT_MAX : (float)value;
    }
}

static void each_precision(la_posterior *p, double precision, double denominator) {
    p->prior_precision = precision;
    for (int64_t b = 0; b < p->n_blocks; b++) {
        p->blocks[b].prior_precision = precision;
        if (denominator > 0)
            p->blocks[b].denominator = denominator;
    }
}

#define CHANGE(name, what)                                                                         \
    static void name(la_posterior *p) {                                                            \
        what;                                                                                      \
    }
CHANGE(values_zero, each_factor(p, 0, 0))
CHANGE(values_huge, each_factor(p, LARGEST, 0))
CHANGE(values_tiny, each_factor(p, 5e-324, 0))
CHANGE(vectors_huge, each_factor(p, -1, FLT_MAX))
CHANGE(all_huge, each_factor(p, LARGEST, FLT_MAX))
CHANGE(precision_tiny, each_precision(p, 5e-324, 0))
CHANGE(precision_huge, each_precision(p, LARGEST, 0))
CHANGE(precision_and_values_tiny, each_factor(p, 0, 0); each_precision(p, 5e-324, 0))
CHANGE(denominator_tiny, each_precision(p, 1, 5e-324))
CHANGE(denominator_huge, each_precision(p, 5e-324, LARGEST))
CHANGE(temperature_tiny, p->temperature = 5e-324)
CHANGE(temperature_huge, p->temperature = LARGEST)
CHANGE(length_one, p->provenance.max_length = 1)
CHANGE(length_huge, p->provenance.max_length = INT32_MAX)
CHANGE(scale_tiny,
       for (int k = 0; k < LA_METHODS; k++) p->choice.candidates[k].prior_scale = 5e-324)
CHANGE(scale_huge, for (int64_t k = 0; k < p->choice.n_settings; k++) p->choice.settings[k]
                       .prior_scale = LARGEST)
CHANGE(settings_cold, for (int64_t k = 0; k < p->choice.n_settings;
                           k++) if (p->choice.settings[k].method) p->choice.settings[k]
                          .temperature = 5e-324)
CHANGE(candidates_cold,
       for (int k = 0; k < LA_METHODS; k++) p->choice.candidates[k].temperature = 5e-324)
CHANGE(smooth_huge, p->adue.smooth = LARGEST)
CHANGE(smooth_tiny, p->adue.smooth = 5e-324)
CHANGE(head_huge, for (int64_t k = 0; p->adue.weight && k < p->n_classes * p->adue.width; k++)
                      p->adue.weight[k] = k % 2 ? LARGEST : -LARGEST)
CHANGE(distances_huge, for (int64_t k = 0; k < p->ood.rank * p->ood.width; k++)
                           p->ood.vectors[k] = k % 2 ? 3e38f : -3e38f)
CHANGE(distances_tiny, if (p->ood.means) p->ood.rest = p->ood.values[0] = 5e-324)
CHANGE(noise_tiny, if (p->noise_variance > 0) p->noise_variance = 5e-324)
CHANGE(noise_huge, if (p->noise_variance > 0) p->noise_variance = LARGEST)
CHANGE(traces_negative, p->blocks[0].trace_in = -LARGEST; p->blocks[0].theta_square = -LARGEST)
CHANGE(likelihood_huge, p->log_likelihood = LARGEST; p->log_marginal_likelihood = -LARGEST)

static const struct {
    const char *name;
    change apply;
} changes[] = {{"values 0", values_zero},
               {"values huge", values_huge},
               {"values tiny", values_tiny},
               {"vectors huge", vectors_huge},
               {"values and vectors huge", all_huge},
               {"precision tiny", precision_tiny},
               {"precision huge", precision_huge},
               {"precision tiny and values 0", precision_and_values_tiny},
               {"denominator tiny", denominator_tiny},
               {"denominator huge", denominator_huge},
               {"temperature tiny", temperature_tiny},
               {"temperature huge", temperature_huge},
               {"one token", length_one},
               {"2^31 tokens", length_huge},
               {"scale tiny", scale_tiny},
               {"scale huge", scale_huge},
               {"settings cold", settings_cold},
               {"candidates cold", candidates_cold},
               {"smooth huge", smooth_huge},
               {"smooth tiny", smooth_tiny},
               {"head huge", head_huge},
               {"distances huge", distances_huge},
               {"distances tiny", distances_tiny},
               {"noise tiny", noise_tiny},
               {"noise huge", noise_huge},
               {"traces negative", traces_negative},
               {"likelihood huge", likelihood_huge}};
enum { CHANGES = sizeof changes / sizeof *changes };

/* jansson refuses NaN and Infinity */
static void check_done(const char *name, const char *line, const command *done, int lines) {
    if (done->code) {
        bool known = done->code == LA_BAD_INPUT || done->code == LA_UNSUPPORTED ||
                     done->code == LA_NUMERICAL || done->code == LA_MISMATCH;
        if (!known || strncmp(done->err, "laplora: error: ", 16) ||
            strchr(done->err, '\n') != done->err + strlen(done->err) - 1)
            fail_msg("%s: %s: exit code %d, %s", name, line, done->code, done->err);
        return;
    }
    int found = 0;
    for (char *at = done->out, *end; *at; at = end + 1, found++) {
        json_error_t err;
        end = strchr(at, '\n');
        if (!end)
            fail_msg("%s: %s: half a line", name, line);
        *end = 0;
        json_t *row = json_loads(at, 0, &err);
        if (!row)
            fail_msg("%s: %s: %s in %.300s", name, line, err.text, at);
        json_decref(row);
    }
    if (found != lines)
        fail_msg("%s: %s: %d lines, expected %d", name, line, found, lines);
}

static int count_lines(const char *path) {
    size_t length;
    int lines = 0;
    char *data = read_file(path, &length);
    for (size_t i = 0; i < length; i++)
        lines += data[i] == '\n';
    free(data);
    return lines;
}

static void try_all(const char *fixture_name, const char *options, const char *const *predicts) {
    const char *folder = open_case(fixture_name);
    char line[512];
    snprintf(line, sizeof line,
             "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/plain --quiet %s",
             options);
    command fitted = run_line(folder, line, NULL);
    if (fitted.code)
        fail_msg("%s", fitted.err);
    command_free(&fitted);
    int rows = count_lines(in_case(folder, "test.jsonl"));
    for (int i = 0; i < CHANGES; i++) {
        la_posterior p = case_load(folder, "plain");
        changes[i].apply(&p);
        case_save(&p, folder, "posterior");
        la_posterior_free(&p);
        command done = run_line(folder, "info @/posterior --json", NULL);
        check_done(changes[i].name, "info", &done, 1);
        command_free(&done);
        for (int k = 0; predicts[k]; k++) {
            snprintf(line, sizeof line,
                     "predict --posterior @/posterior --data @/test.jsonl --quiet --threads 1 %s",
                     predicts[k]);
            done = run_line(folder, line, NULL);
            check_done(changes[i].name, line, &done, rows);
            command_free(&done);
        }
    }
}

static void classes(void **state) {
    (void)state;
    static const char *const predicts[] = {"--samples 20 --emit logits,cov", "--samples 0",
                                           "--predictive bridge", NULL};
    try_all("bert", "--curvature kron", predicts);
}

static void classes_guarded(void **state) {
    (void)state;
    static const char *const predicts[] = {"--samples 20", "--predictive average --samples 20",
                                           "--predictive temperature --emit ood", NULL};
    try_all("bert", "--curvature ekfac --val @/calib.jsonl --adue --ood", predicts);
}

static void directions(void **state) {
    (void)state;
    static const char *const predicts[] = {"--samples 20", "--predictive weights --samples 3",
                                           NULL};
    try_all("bert", "--curvature exact", predicts);
}

static void diagonal(void **state) {
    (void)state;
    static const char *const predicts[] = {"--samples 20", "--predictive weights --samples 3",
                                           NULL};
    try_all("bert", "--curvature diag", predicts);
}

static void regression(void **state) {
    (void)state;
    static const char *const predicts[] = {"--emit logits,cov", "--predictive weights --samples 3",
                                           NULL};
    try_all("bert-regression", "", predicts);
}

/* ---- what is no posterior ---- */

/* Pipes and devices are recognised before they are read: nothing waits, nothing fills memory. */
static void no_files(void **state) {
    (void)state;
    const char *folder = open_case("bert");
    assert_int_equal(mkfifo(in_case(folder, "pipe"), 0600), 0);
    static const char *const names[] = {"@/pipe", "/dev/zero", "/dev/null", "@/base"};
    for (int i = 0; i < 4; i++) {
        char line[256];
        snprintf(line, sizeof line, "predict --posterior %s --data @/test.jsonl --quiet", names[i]);
        command done = run_line(folder, line, NULL);
        const char *pieces[] = {strrchr(names[i], '/') + 1, "is no file"};
        check_message(&done, LA_BAD_INPUT, pieces, 2);
        command_free(&done);
    }
}

/* Numbers of the posterior that contradict the model. */
static void beyond_the_model(void **state) {
    (void)state;
    const char *folder = open_case("llama");
    command fitted = run_line(folder, FIT_CHOICES, NULL);
    if (fitted.code)
        fail_msg("%s", fitted.err);
    command_free(&fitted);
    static const int32_t ids[] = {INT32_MAX, 100000, 76};
    static const char *const pieces[] = {"choice id 2147483647, expected 0 to",
                                         "choice id 100000, expected 0 to",
                                         "choice id 76 is given twice"};
    for (int i = 0; i < 3; i++) {
        la_posterior p = case_load(folder, "out");
        p.provenance.choice_ids[0] = ids[i];
        case_save(&p, folder, "posterior");
        la_posterior_free(&p);
        command done =
            run_line(folder, "predict --posterior @/posterior --data @/test.jsonl --quiet", NULL);
        check_message(&done, LA_BAD_INPUT, &pieces[i], 1);
        command_free(&done);
    }
}

/* ---- what a posterior could not keep ---- */

/* Refused before the fit. */
static void texts(void **state) {
    (void)state;
    const char *folder = open_case("llama");
    char *longer = calloc(1, 70002);
    assert_non_null(longer);
    memset(longer, 'x', 70000);
    memcpy(longer, "{text}", 6);
    write_file(in_case(folder, "long.txt"), longer, 70000);
    write_file(in_case(folder, "bytes.txt"), "Is \xff {text}", 11);
    static const struct {
        const char *file, *piece;
        int code;
    } files[] = {{"long.txt", "70000 bytes of text", LA_UNSUPPORTED},
                 {"bytes.txt", "not valid UTF-8", LA_BAD_INPUT}};
    for (int i = 0; i < 2; i++) {
        char line[256];
        snprintf(line, sizeof line, FIT_CHOICES " --template @/%s", files[i].file);
        command done = run_line(folder, line, NULL);
        const char *pieces[] = {files[i].file, files[i].piece};
        check_message(&done, files[i].code, pieces, 2);
        check_nothing_written(folder);
        command_free(&done);
    }
    free(longer);
    folder = open_case("bert");
    command done = run_line(folder, FIT " --labels a,\xff\xfe,c", NULL);
    const char *pieces[] = {"not", "UTF-8"};
    check_message(&done, LA_BAD_INPUT, pieces, 2);
    check_nothing_written(folder);
    command_free(&done);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes),          cmocka_unit_test(classes_guarded),
        cmocka_unit_test(directions),       cmocka_unit_test(diagonal),
        cmocka_unit_test(regression),       cmocka_unit_test(no_files),
        cmocka_unit_test(beyond_the_model), cmocka_unit_test(texts),
    };
    return cmocka_run_group_tests_name("posteriors with odd numbers", tests, NULL, NULL);
}

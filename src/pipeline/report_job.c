#include "pipeline/report_job.h"
#include "base/list.h"
#include "base/memory.h"
#include "base/output_file.h"
#include "base/team_open.h"
#include "base/visible.h"
#include "input/json.h"
#include "input/rows.h"
#include "monitor/threshold.h"
#include "output/report.h"
#include "pipeline/step_summary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The locale as the environment names it: LC_ALL before LC_CTYPE before LANG. */
static bool locale_is_utf8(void) {
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        if (value && *value)
            return strcasestr(value, "utf-8") || strcasestr(value, "utf8");
    }
    return false;
}

/* Names of --labels in place of those that the rows give. */
static la_status set_names(const la_labels *given, la_predictions *p, la_error *err) {
    if (!given->names)
        return LA_OK;
    if (!p->names)
        return la_fail(err, LA_USAGE,
                       "--labels: the predictions are of %s, whose report has no label of its own; "
                       "leave --labels out",
                       p->kind->metrics->rows);
    if (given->count != p->n_classes)
        return la_fail(err, LA_USAGE, "--labels: has %lld names, expected %lld, one for each label",
                       (long long)given->count, (long long)p->n_classes);
    for (int64_t c = 0; c < p->n_classes; c++) {
        free(p->names[c]);
        p->names[c] = la_visible_copy(given->names[c], err);
    }
    return err->status;
}

/* A file to be written; path NULL or "-": standard output. */
typedef struct output {
    const la_report_format *format;
    const char *path;
    la_output_file file;
} output;

static bool is_stdout(const char *path) {
    return !path || !strcmp(path, "-");
}

/* True where both lead to the same file, be it there or not. */
static bool same_place(const char *a, const char *b) {
    la_target one = {0}, two = {0};
    struct stat first, second;
    la_error none = {0};
    if (is_stdout(a) || is_stdout(b))
        return is_stdout(a) && is_stdout(b);
    bool same = la_target_find(a, &one, &none) == LA_OK && one.kind == LA_TARGET_FILE &&
                la_target_find(b, &two, &none) == LA_OK && two.kind == LA_TARGET_FILE &&
                !fstat(one.folder, &first) && !fstat(two.folder, &second) &&
                first.st_dev == second.st_dev && first.st_ino == second.st_ino &&
                !strcmp(one.name, two.name);
    la_target_close(&one);
    la_target_close(&two);
    return same;
}

static la_status parse_write(const char *text, output *out, la_error *err) {
    char known[128];
    const char *equals = strchr(text, '=');
    if (!equals || !equals[1])
        return la_fail(err, LA_USAGE, "--write %s: expected FORMAT=FILE", text);
    for (int i = 0; i < LA_REPORT_FORMATS; i++)
        if (strlen(la_report_formats[i].name) == (size_t)(equals - text) &&
            !strncmp(la_report_formats[i].name, text, (size_t)(equals - text)))
            *out = (output){.format = &la_report_formats[i], .path = equals + 1};
    if (out->format)
        return LA_OK;
    return la_fail(err, LA_USAGE, "--write %s: there is no format \"%.*s\"; expected one of %s",
                   text, (int)(equals - text), text,
                   la_list_names(known, sizeof known, ", ", &la_report_formats->name,
                                 sizeof *la_report_formats, LA_REPORT_FORMATS));
}

/* outputs: [n_write + 1]. Without other wishes than --write, nothing else is written. */
static la_status list_outputs(const la_report_options *options, output *outputs, int *n,
                              la_error *err) {
    *n = 0;
    if (!options->n_write || options->format || options->out)
        outputs[(*n)++] = (output){.format = options->format ? options->format : la_report_formats,
                                   .path = options->out};
    for (int i = 0; i < options->n_write; i++)
        LA_TRY(parse_write(options->write[i], &outputs[(*n)++], err));
    for (int i = 0; i < *n; i++) {
        const char *path = outputs[i].path;
        LA_TRY(la_output_apart(path, "the predictions", options->predictions, err));
        LA_TRY(la_output_apart(path, "--baseline", options->gates.baseline, err));
        LA_TRY(la_output_apart(path, "--threshold", options->threshold, err));
        LA_TRY(la_output_apart(path, "--against", options->against, err));
        LA_TRY(la_output_check(path, err));
        for (int j = 0; j < i; j++)
            if (same_place(path, outputs[j].path))
                return la_fail(err, LA_USAGE,
                               "%s: is named for %s and for %s; name a file for each",
                               is_stdout(path) ? "standard output" : path, outputs[j].format->name,
                               outputs[i].format->name);
    }
    return LA_OK;
}

/* What is kept of a reading besides the predictions. */
typedef struct notes {
    bool wants_tasks, wants_page;
    la_tasks tasks;
    la_report_slices slices;
    la_review review;
    const char *threshold; /* path; NULL: none */
    la_threshold_rule rule;
    int64_t n_accepted, n_wrong; /* rows with a label that it accepts */
    la_row_ids ids;              /* of --against */
    la_against against;
} notes;

/* A score of a prediction; NaN: missing. */
static la_status find_score(const la_prediction_entry *entry, int score, double *out,
                            la_error *err) {
    const la_json_value *value = la_entry_member(entry, la_scores[score].name);
    char place[LA_ENTRY_PLACE];
    *out = NAN;
    if (!value || value->type == '0') {
        *out = value ? la_json_value_number(value) : NAN;
        return LA_OK;
    }
    const json_t *row = la_entry_json(entry, err);
    return row ? la_json_number(row, la_entry_place(entry, place), la_scores[score].name, false,
                                out, err)
               : err->status;
}

static la_status judge(notes *kept, const la_prediction_entry *entry, const la_look *look,
                       la_error *err) {
    double scores[LA_SCORES];
    char place[LA_ENTRY_PLACE];
    la_score needed[] = {kept->rule.score, kept->rule.limited};
    for (int s = 0; s < LA_SCORES; s++)
        LA_TRY(find_score(entry, s, &scores[s], err));
    for (int i = 0; i < 2; i++)
        if (needed[i] != LA_SCORE_NONE && isnan(scores[needed[i]]))
            return la_fail(err, LA_BAD_INPUT, "%s: no \"%s\", which the threshold of %s is on; %s",
                           la_entry_place(entry, place), la_scores[needed[i]].name, kept->threshold,
                           la_scores[needed[i]].source);
    if (la_threshold_reason(&kept->rule, scores, look->class))
        return LA_OK;
    kept->n_accepted++;
    kept->n_wrong += !isnan(look->mistake);
    return LA_OK;
}

/* A word of a file as the threshold's has it; "": there is none. */
static la_status find_word(const la_prediction_entry *entry, const char *name, bool of_row,
                           size_t size, char *word, la_error *err) {
    const la_json_value *value =
        of_row ? la_entry_field(entry, name) : la_entry_member(entry, name);
    char place[LA_ENTRY_PLACE];
    *word = 0;
    if (!value || value->type == 'n')
        return LA_OK;
    if (value->type != '"') {
        const char *text = NULL;
        const json_t *row = of_row ? la_entry_row_json(entry, err) : la_entry_json(entry, err);
        return row ? la_json_text(row, la_entry_place(entry, place), name, false, &text, err)
                   : err->status;
    }
    char *text = la_json_value_text(value, err);
    if (text)
        la_answers_word(text, size, word);
    free(text);
    return err->status;
}

/* Rows are of the threshold's model, and their confidences of its kind, as far as both say. */
static la_status check_origin(const notes *kept, const la_prediction_entry *entry, la_error *err) {
    char word[LA_MODEL_TEXT + LA_KIND_TEXT], place[LA_ENTRY_PLACE];
    LA_TRY(find_word(entry, "model", true, LA_MODEL_TEXT, word, err));
    LA_TRY(la_threshold_of_model(&kept->rule, kept->threshold, "the row at",
                                 la_entry_place(entry, place), word, err));
    LA_TRY(find_word(entry, "confidence_kind", false, LA_KIND_TEXT, word, err));
    return la_threshold_of_kind(&kept->rule, kept->threshold, word, err);
}

static la_status see(void *user, const la_prediction_entry *entry, int64_t number, la_error *err) {
    notes *kept = user;
    la_look look;
    if (kept->wants_tasks)
        LA_TRY(la_tasks_see(&kept->tasks, entry, err));
    if (kept->wants_page)
        LA_TRY(la_review_see(&kept->review, entry, number >= 0, &look, err));
    if (kept->threshold)
        LA_TRY(check_origin(kept, entry, err));
    if (kept->threshold && number >= 0)
        LA_TRY(judge(kept, entry, &look, err));
    if (kept->ids.rows)
        LA_TRY(la_row_ids_see(&kept->ids, entry, number, err));
    return la_report_slices_see(&kept->slices, entry, number, err);
}

static la_status show_threshold(const notes *kept, la_report_threshold *out, la_error *err) {
    if (!kept->threshold)
        return LA_OK;
    *out = (la_report_threshold){.file = la_visible_copy(kept->threshold, err),
                                 .score = la_scores[kept->rule.score].name,
                                 .value = kept->rule.value,
                                 .by_class = kept->rule.by_class,
                                 .of_confidence = kept->rule.score == LA_SCORE_CONFIDENCE &&
                                                  kept->rule.limited == LA_SCORE_NONE &&
                                                  !kept->rule.by_class,
                                 .n_accepted = kept->n_accepted,
                                 .n_wrong = kept->n_wrong};
    return err->status;
}

/* The report of predictions, with the gates taken over. only_tasks: it has nothing else. */
static la_status measure(const la_report_options *options, notes *kept, bool only_tasks,
                         la_gate *gates, int n_gates, la_report *report, la_error *err) {
    la_predictions predictions = {0};
    la_prediction_watch watch = {.see = see, .user = kept};
    const char *path = options->predictions, *file = strcmp(path, "-") ? path : "standard input";
    kept->review.predictions = &predictions;
    la_labels labels = {0};
    la_team team;
    bool built = false,
         watched = kept->wants_tasks || kept->wants_page || options->n_by || options->against;
    la_status status =
        options->labels ? la_labels_parse("--labels", options->labels, &labels, err) : LA_OK;
    if (status == LA_OK)
        status = la_predictions_watch(path, watched ? &watch : NULL, &predictions, err);
    if (status != LA_OK || only_tasks)
        goto done;
    LA_TRY_DONE(set_names(&labels, &predictions, err));
    LA_TRY_DONE(la_team_open(0, false, NULL, &team, err));
    built = true;
    LA_TRY_DONE(la_report_build(team, file, &predictions, options->gates.baseline, gates, n_gates,
                                report, err));
    if (options->against)
        LA_TRY_DONE(la_against_read(team, options->against, file, &predictions, &kept->ids,
                                    LA_REPORT_RESAMPLES, LA_REPORT_SEED, &kept->against, err));
    status = la_report_slices_measure(&kept->slices, team, file, &predictions, LA_REPORT_RESAMPLES,
                                      LA_REPORT_SEED, err);
done:
    if (!built)
        free(gates);
    la_predictions_free(&predictions);
    la_labels_free(&labels);
    return status;
}

/* The report as Markdown, behind what the file holds. */
static la_status append_summary(const char *path, const la_report *report, la_error *err) {
    la_report_style style = {0};
    char *text = NULL;
    size_t length;
    FILE *stream = open_memstream(&text, &length);
    if (!stream)
        return la_fail(err, LA_RESOURCE, "out of memory for the summary");
    la_status status = la_report_markdown(report, &style, stream, err);
    if (fclose(stream) && status == LA_OK)
        status = la_fail(err, LA_RESOURCE, "out of memory for the summary");
    if (status == LA_OK)
        status = la_step_summary_append(path, text, length, err);
    free(text);
    return status;
}

/* All are written before the first one takes its place. */
static la_status write_outputs(const la_report_options *options, output *outputs, int n,
                               const char *summary, const la_report *report, la_error *err) {
    la_status status = LA_OK;
    for (int i = 0; i < n && status == LA_OK; i++) {
        output *out = &outputs[i];
        la_report_style style = {.colour = options->colour && is_stdout(out->path),
                                 .utf8 = locale_is_utf8()};
        status = la_output_open(&out->file, out->path, LA_OUTPUT_STREAM, err);
        if (status == LA_OK)
            status = out->format->write(report, &style, out->file.stream, err);
    }
    if (status == LA_OK && summary)
        status = append_summary(summary, report, err);
    for (int i = 0; i < n && status == LA_OK; i++)
        status = la_output_commit(&outputs[i].file, err);
    for (int i = 0; i < n; i++)
        la_output_discard(&outputs[i].file);
    return status;
}

/* Formats for people say it themselves. */
static void warn_of_bias(const la_report_options *options, const output *outputs, int n,
                         const la_report *report) {
    char bias[LA_REPORT_BIAS];
    la_report_bias(report, bias);
    for (int i = 0; i < n; i++)
        if (is_stdout(outputs[i].path) && (outputs[i].format->write == la_report_text ||
                                           outputs[i].format->write == la_report_markdown))
            return;
    if (*bias)
        la_warn(&options->log, "%s: %s", options->predictions, bias);
}

la_status la_report_run(const la_report_options *options, int *gates_failed, la_error *err) {
    la_report report = {0};
    notes kept = {.threshold = options->threshold};
    const char *summary = NULL;
    la_gate *gates = NULL;
    int n_gates, n = 0, n_tasks = 0;
    *gates_failed = 0;
    if (!options->predictions)
        return la_fail(err, LA_USAGE, "report: which file? give PREDICTIONS.jsonl");
    output *outputs = la_alloc((size_t)options->n_write + 1, sizeof *outputs, err);
    if (!outputs)
        return err->status;
    la_status status = LA_OK;
    LA_TRY_DONE(list_outputs(options, outputs, &n, err));
    if (options->summary) {
        LA_TRY_DONE(la_step_summary_path(&summary, err));
        LA_TRY_DONE(la_output_apart(summary, "the predictions", options->predictions, err));
        for (int i = 0; i < n; i++)
            if (same_place(summary, outputs[i].path))
                LA_TRY_DONE(la_fail(err, LA_USAGE, "%s: is named for %s and for --summary", summary,
                                    outputs[i].format->name));
    }
    if (options->against)
        LA_TRY_DONE(la_row_ids_open(&kept.ids, err));
    LA_TRY_DONE(la_report_slices_open(options->by, options->n_by, &kept.slices, err));
    for (int i = 0; i < n; i++) {
        n_tasks += outputs[i].format->tasks;
        kept.wants_page |= outputs[i].format->write == la_report_html;
    }
    if (options->threshold && !kept.wants_page) {
        status = la_fail(err, LA_USAGE, "--threshold is marked in the page: give --format html");
        goto done;
    }
    if (options->threshold)
        LA_TRY_DONE(la_threshold_load(options->threshold, &kept.rule, err));
    LA_TRY_DONE(la_gates_parse(&options->gates, &gates, &n_gates, err));
    kept.wants_tasks = n_tasks > 0;
    LA_TRY_DONE(measure(options, &kept, n_tasks == n && !n_gates && !summary && !options->against,
                        gates, n_gates, &report, err));
    la_tasks_sort(&kept.tasks);
    report.tasks = &kept.tasks;
    report.slices = &kept.slices;
    report.review = kept.wants_page ? &kept.review : NULL;
    LA_TRY_DONE(show_threshold(&kept, &report.threshold, err));
    report.against = options->against ? &kept.against : NULL;
    LA_TRY_DONE(write_outputs(options, outputs, n, summary, &report, err));
    warn_of_bias(options, outputs, n, &report);
    *gates_failed = report.n_failed;
done:
    la_report_free(&report);
    la_tasks_free(&kept.tasks);
    la_report_slices_free(&kept.slices);
    la_review_free(&kept.review);
    la_threshold_rule_free(&kept.rule);
    la_row_ids_free(&kept.ids);
    la_against_free(&kept.against);
    free(outputs);
    return status;
}

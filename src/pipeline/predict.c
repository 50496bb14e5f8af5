/* A data file in, prediction rows out, in input order. */
#include "pipeline/predict.h"
#include "base/output_file.h"
#include "base/stop.h"
#include "base/list.h"
#include "base/machine.h"
#include "bayes/row_digests.h"
#include "monitor/threshold.h"
#include "output/prediction_rows.h"
#include "pipeline/kept_rows.h"
#include "pipeline/predictor.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Bytes at most in which rows wait for an estimate of their class shares, and the share of the free
 * memory; where that is too little, they are answered twice. */
enum { KEPT_SHARE = 4 };
#define KEPT_MOST ((size_t)1 << 30)

/* State shared by a file's batches. */
typedef struct file_run {
    const la_predict_job *job;
    la_predictor *predictor;
    la_row_reader *reader;
    la_feed feed;
    la_row_fields fields;
    la_feed_batch batches[LA_DEVICES_MAX]; /* one a worker */
    la_output_file out;
    char *text; /* of a batch of another rank than the first, on its way there */
    size_t length;
    int64_t n_batches; /* so far, of all ranks */
    const la_row_format *format;
    la_row_shape shape; /* of all rows */
    int64_t n_written;
    int64_t n_actions[2]; /* written: reviews, acceptances */
    bool *has_kept;       /* [keep.n] fields that any row has had */
    uint64_t *hashes;
    la_prediction *answers; /* of a batch */
    la_threshold_rule rule;
    la_list keep;
    char model[LA_MODEL_TEXT];
    /* while class shares are estimated: nothing is written */
    bool estimating;
    la_share_rows probs;
    la_kept_rows kept;
} file_run;

/* The writer of rows does not know where they go. */
static la_status write_failed(const la_predict_job *job, la_error *err) {
    const char *path = job->out && strcmp(job->out, "-") ? job->out : "standard output";
    *err = (la_error){0};
    return la_fail(err, LA_RESOURCE, "%s: cannot write: %s", path, la_errno_text(errno));
}

static const char *reason_of(const file_run *run, const la_prediction *p) {
    double scores[LA_SCORES] = {[LA_SCORE_CONFIDENCE] = p->confidence,
                                [LA_SCORE_ENTROPY] = p->entropy,
                                [LA_SCORE_MUTUAL_INFORMATION] = p->mutual_information,
                                [LA_SCORE_ADUE] = p->adue,
                                [LA_SCORE_OOD] = p->ood};
    return la_threshold_reason(&run->rule, scores, p->prediction);
}

/* Slots are of answers. */
static la_status write_items(file_run *run, const la_feed_item *items, int64_t n_items,
                             const la_prediction *answers, la_error *err) {
    const la_predict_job *job = run->job;
    FILE *stream = run->out.stream;
    bool tags = run->shape.has_tokens, flat = tags && job->flat;
    for (int64_t j = 0; j < n_items; j++) {
        const la_feed_item *item = &items[j];
        la_row_token token = {.nested = !flat,
                              .first = item->first,
                              .last = item->last,
                              .row = item->index,
                              .token = item->token,
                              .word = item->word};
        la_prediction_row row = {.shape = &run->shape,
                                 .index = flat ? run->n_written : item->index,
                                 .id_json = item->id,
                                 .label = item->label,
                                 .prediction = item->slot < 0 ? NULL : &answers[item->slot],
                                 .error = item->error,
                                 .token = tags ? &token : NULL};
        row.fields_json = item->fields;
        if (la_posterior_chose(&run->predictor->posterior, item->hash))
            row.held_out = "true";
        if (item->calibration)
            row.calibration = "true";
        if (job->threshold && (row.prediction || row.error)) {
            row.reason = row.error ? "error" : reason_of(run, row.prediction);
            row.action = row.reason ? "review" : "accept";
            run->n_actions[!row.reason]++;
        }
        la_status status = la_prediction_write(run->format, stream, &row, err);
        if (status == LA_RESOURCE && ferror(stream))
            return write_failed(job, err);
        LA_TRY(status);
        run->n_written += item->slot >= 0 || item->error;
    }
    return job->lines && fflush(stream) ? write_failed(job, err) : LA_OK;
}

static la_status run_batch(void *user, int w, la_error *err) {
    file_run *run = user;
    const la_feed_batch *batch = &run->batches[w];
    if (!batch->batch.n_rows || la_predictor_batch(run->predictor, w, &batch->batch, err) == LA_OK)
        return LA_OK;
    return la_feed_locate(&run->feed, batch, run->predictor->session.workers[w].run.bad_row, err);
}

/* Probabilities of the batch for the estimate, and its rows as far as there is room. */
static la_status collect(file_run *run, la_feed_batch *batch, la_error *err) {
    for (int64_t i = 0; i < batch->batch.n_rows; i++)
        LA_TRY(la_share_rows_add(&run->probs, run->answers[i].probs, err));
    return la_kept_rows_take(&run->kept, batch, run->answers, err);
}

/* Marks rows that the posterior was fitted on. */
static la_status find_fitted(const file_run *run, la_feed_batch *batch, la_error *err) {
    const la_posterior *posterior = &run->predictor->posterior;
    const la_batch *rows = &batch->batch;
    la_row_digest digest;
    for (int64_t j = 0; posterior->provenance.n_row_digests && j < batch->n_items; j++) {
        la_feed_item *item = &batch->items[j];
        if (item->slot < 0 || la_label_is_none(item->label))
            continue;
        int64_t at = rows->cu[item->slot];
        LA_TRY(la_row_digest_of(item->label, run->feed.rule.n_classes, rows->ids + at,
                                rows->types + at, rows->cu[item->slot + 1] - at, item->token,
                                &digest, err));
        item->calibration = la_posterior_has_row(posterior, &digest);
    }
    return LA_OK;
}

static la_status answer_batch(file_run *run, int w, la_error *err) {
    la_feed_batch *batch = &run->batches[w];
    LA_TRY(find_fitted(run, batch, err));
    for (int64_t j = 0; j < batch->n_items; j++)
        if (batch->items[j].slot >= 0)
            run->hashes[batch->items[j].slot] = batch->items[j].stream;
    LA_TRY(la_predictor_answer(run->predictor, w, &batch->batch, run->hashes, run->answers, err));
    return run->estimating ? collect(run, batch, err)
                           : write_items(run, batch->items, batch->n_items, run->answers, err);
}

/* ---- batches of several processes: in turn, and written by the first ---- */

static bool is_own(const file_run *run) {
    const la_ranks *ranks = &run->job->ranks;
    return ranks->size < 2 || run->n_batches % ranks->size == ranks->rank;
}

/* What a batch of another process counts for. */
static void pass_over(file_run *run, const la_feed_batch *batch) {
    for (int64_t j = 0; j < batch->n_items; j++)
        run->n_written += batch->items[j].slot >= 0 || batch->items[j].error;
}

static la_status take_text(file_run *run, int from, int64_t number, la_error *err) {
    char *text;
    size_t length;
    la_status status = la_ranks_receive_text(from, number, &text, &length, err);
    if (status == LA_OK && fwrite(text, 1, length, run->out.stream) != length)
        status = write_failed(run->job, err);
    free(text);
    return status;
}

static la_status send_text(file_run *run, la_error *err) {
    if (fflush(run->out.stream))
        return la_fail(err, LA_RESOURCE, "out of memory for the rows of a batch");
    la_ranks_send_text(run->n_batches, run->text, run->length);
    rewind(run->out.stream);
    return LA_OK;
}

/* The next batch, by whom it falls to. */
static la_status share_batch(file_run *run, la_error *err) {
    const la_ranks *ranks = &run->job->ranks;
    bool first = !ranks->rank, own = is_own(run);
    if (own) {
        LA_TRY(run_batch(run, 0, err));
        LA_TRY(answer_batch(run, 0, err));
    } else {
        pass_over(run, &run->batches[0]);
    }
    if (first && !own)
        LA_TRY(take_text(run, (int)(run->n_batches % ranks->size), run->n_batches, err));
    if (!first && own)
        LA_TRY(send_text(run, err));
    run->n_batches++;
    return LA_OK;
}

static la_status share_rows(file_run *run, la_error *err) {
    const la_log *log = &run->job->options.run.log;
    const la_ranks *ranks = &run->job->ranks;
    for (;;) {
        LA_TRY(la_check_interrupt(err));
        LA_TRY(la_feed_next(&run->feed, &run->batches[0], err));
        if (!run->batches[0].n_items)
            break;
        LA_TRY(share_batch(run, err));
        if (log->progress)
            log->progress(log->user, "predict", run->feed.n_rows,
                          la_row_reader_fraction(run->reader));
    }
    if (ranks->rank)
        la_ranks_send_text(-1, "", 0);
    for (int r = 1; !ranks->rank && r < ranks->size; r++)
        LA_TRY(take_text(run, r, -1, err));
    return LA_OK;
}

/* A batch for every worker, then their answers in input order. */
static la_status run_rows(file_run *run, la_error *err) {
    const la_log *log = &run->job->options.run.log;
    la_feed *feed = &run->feed;
    for (;;) {
        LA_TRY(la_check_interrupt(err));
        int filled = 0, workers = run->job->lines ? 1 : run->predictor->session.n_workers;
        for (; filled < workers; filled++) {
            LA_TRY(la_feed_next(feed, &run->batches[filled], err));
            if (!run->batches[filled].n_items)
                break;
        }
        if (!filled)
            return LA_OK;
        LA_TRY(la_workers_run(filled, run_batch, run, err));
        for (int w = 0; w < filled; w++)
            LA_TRY(answer_batch(run, w, err));
        if (log->progress && !run->job->lines)
            log->progress(log->user, run->estimating ? "class shares" : "predict", feed->n_rows,
                          la_row_reader_fraction(run->reader));
    }
}

/* Options of draws where none are made. */
static void note_unused(const file_run *run) {
    const la_predict_job *job = run->job;
    bool samples = job->samples_given && job->options.samples > 0;
    if (!la_predictor_draws(run->predictor) && (samples || job->seed_given))
        la_warn(&job->options.run.log, "%s%s%s: of no effect, nothing is drawn for \"%s\"",
                samples ? "--samples" : "", samples && job->seed_given ? ", " : "",
                job->seed_given ? "--seed" : "", run->predictor->label);
}

/* Where no answer reads a covariance, the one that is written is zero. */
static void note_no_covariance(const file_run *run) {
    const la_predictor *p = run->predictor;
    if (run->job->emit_cov && !p->n_scales)
        la_warn(&run->job->options.run.log,
                "--emit cov: \"%s\" needs no covariance and none is computed: \"logit_cov\" is "
                "zero; --predictive mc, probit or bridge has one",
                p->label);
}

/* Models but for the class shares that their rows are for. */
static bool same_posterior(const char *a, const char *b) {
    size_t length = strcspn(a, "+");
    return length == strcspn(b, "+") && !memcmp(a, b, length);
}

/* A threshold says something about the confidences that it was made from, and no others. */
static la_status open_threshold(file_run *run, la_error *err) {
    const char *path = run->job->threshold;
    const la_predictor *p = run->predictor;
    la_threshold_rule *rule = &run->rule;
    const la_score scores[2] = {rule->score, rule->limited};
    if (*rule->model && !same_posterior(rule->model, run->model))
        return la_fail(err, LA_MISMATCH,
                       "%s: was made from predictions of model %s, and the posterior %s is model "
                       "%s; make a threshold from its own predictions",
                       path, rule->model, run->job->options.posterior, run->model);
    bool regresses = la_predictor_regresses(p);
    if (regresses || rule->n_classes > p->n_classes)
        return la_fail(err, LA_MISMATCH, "%s: is of %lld classes, and the posterior %s of %lld%s",
                       path, (long long)rule->n_classes, run->job->options.posterior,
                       (long long)p->n_classes, regresses ? ", a regression" : "");
    LA_TRY(la_threshold_of_kind(rule, path, p->label, err));
    for (int s = 0; s < 2; s++)
        if ((scores[s] == LA_SCORE_OOD && !p->posterior.ood.means) ||
            (scores[s] == LA_SCORE_ADUE && !p->posterior.adue.weight))
            return la_fail(err, LA_MISMATCH,
                           "%s: needs \"%s\", which predictions of %s do not have; %s", path,
                           la_scores[scores[s]].name, run->job->options.posterior,
                           la_scores[scores[s]].source);
    if (*rule->model && strcmp(rule->model, run->model))
        la_warn(&run->job->options.run.log,
                "%s: was made from predictions for other class shares than these: what it promises "
                "holds for rows with its own; make one from labelled rows that are predicted with "
                "the same --class-shares",
                path);
    return LA_OK;
}

/* Name of the model that rows are of: the posterior's, and of the class shares. */
static la_status name_model(file_run *run, la_error *err) {
    const la_class_shares *shares = &run->predictor->shares;
    LA_TRY(la_posterior_model(&run->predictor->posterior, run->model, err));
    size_t length = strlen(run->model);
    if (!shares->is_set && !run->estimating)
        return LA_OK;
    if (run->estimating) { /* of other shares with every file */
        strcpy(run->model + length, "+" LA_SHARES_ESTIMATED);
        return LA_OK;
    }
    run->model[length++] = '+';
    return la_class_shares_name(shares, run->model + length, sizeof run->model - length, err);
}

static la_feed_options feed_options(const file_run *run) {
    const la_predict_job *job = run->job;
    const la_session *session = &run->predictor->session;
    la_feed_options feed = la_session_feed(session, false, job->skip_bad);
    feed.keep = job->keep ? &run->keep : NULL;
    feed.kept = run->has_kept;
    if (job->lines && !run->fields.tagged)
        feed.batch_rows = 1;
    feed.row_at_a_time = feed.answer_all = job->lines;
    return feed;
}

static la_status open_rows(file_run *run, la_error *err) {
    const la_session *session = &run->predictor->session;
    la_feed_options feed = feed_options(run);
    LA_TRY(la_row_reader_open(run->job->data, &run->fields, &run->reader, err));
    la_feed_open(run->reader, session->tokenizer, &session->workers[0].model, &session->labels,
                 &run->fields, &feed, &run->feed);
    return LA_OK;
}

static void close_rows(file_run *run) {
    la_feed_close(&run->feed);
    la_row_reader_close(run->reader);
    run->reader = NULL;
}

static la_status open_estimate(file_run *run, la_error *err) {
    const la_predict_job *job = run->job;
    size_t available, total;
    if (job->ranks.size > 1)
        return la_fail(err, LA_UNSUPPORTED,
                       "--class-shares auto: the rows of several processes are not estimated from "
                       "together; run one process, or give the shares");
    LA_TRY(la_predictor_check_shares(run->predictor, job->options.posterior, err));
    la_memory_available(&available, &total);
    run->estimating = true;
    run->probs = la_share_rows_of(run->predictor->n_classes);
    run->kept = (la_kept_rows){.n_classes = run->predictor->n_classes,
                               .logits = job->emit_logits,
                               .cov = job->emit_cov,
                               .most = available / KEPT_SHARE};
    if (run->kept.most > KEPT_MOST)
        run->kept.most = KEPT_MOST;
    if (job->most_kept)
        run->kept.most = job->most_kept;
    return LA_OK;
}

static la_status open_run(file_run *run, la_error *err) {
    const la_predict_job *job = run->job;
    const la_run_options *options = &job->options.run;
    LA_TRY(la_output_check(job->out, err));
    LA_TRY(la_output_apart(job->out, "--data", job->data, err));
    LA_TRY(la_output_apart(job->out, "--posterior", job->options.posterior, err));
    LA_TRY(la_output_apart(job->out, "--threshold", job->threshold, err));
    if (job->threshold)
        LA_TRY(la_threshold_load(job->threshold, &run->rule, err));
    if (job->keep) {
        LA_TRY(la_list_parse("--keep", job->keep, &run->keep, err));
        run->has_kept = la_alloc(run->keep.n, sizeof *run->has_kept, err);
        LA_TRY(err->status);
    }
    LA_TRY(la_predictor_open(&job->options, &run->predictor, err));
    LA_TRY(la_output_apart(job->out, "a file of --base",
                           run->predictor->posterior.provenance.base_path, err));
    LA_TRY(la_output_apart(job->out, "a file of --adapter",
                           run->predictor->posterior.provenance.adapter_path, err));
    LA_TRY(la_output_apart(job->out, "a file of --base", job->options.base, err));
    LA_TRY(la_output_apart(job->out, "a file of --adapter", job->options.adapter, err));
    const la_session *session = &run->predictor->session;
    const la_model *model = &session->workers[0].model;
    if (job->flat && model->task != LA_TASK_TAG)
        return la_fail(err, LA_USAGE,
                       "--flat is for adapters that classify tokens; this one classifies rows");
    if (job->emit_ood && !run->predictor->posterior.ood.means)
        return la_fail(err, LA_USAGE,
                       "--emit ood: %s keeps no distances to its calibration rows; fit it with "
                       "--ood",
                       job->options.posterior);
    if (job->estimate_shares)
        LA_TRY(open_estimate(run, err));
    LA_TRY(name_model(run, err));
    if (job->threshold)
        LA_TRY(open_threshold(run, err));
    run->format = job->format ? job->format : la_row_format_of(job->out);
    run->shape =
        (la_row_shape){.kind = la_row_kind_of(model->likelihood),
                       .n_classes = model->n_classes,
                       .labels = (const char *const *)session->labels.names,
                       .confidence_kind = run->predictor->label,
                       .model = run->model,
                       .has_model = true,
                       .has_held_out = run->predictor->posterior.provenance.n_held_out > 0,
                       .has_calibration = run->predictor->posterior.provenance.n_row_digests > 0,
                       .has_fields = job->keep != NULL,
                       .has_action = job->threshold != NULL,
                       .emit_logits = job->emit_logits,
                       .emit_cov = job->emit_cov,
                       .emit_ood = job->emit_ood,
                       .has_tokens = model->task == LA_TASK_TAG,
                       .has_errors = job->skip_bad || job->lines};
    if (run->shape.has_tokens && !job->flat && run->format->one_a_line)
        return la_fail(
            err, LA_USAGE,
            "--format %s: the adapter classifies tokens, which are lines of their own in "
            "a table; give --flat",
            run->format->name);
    note_unused(run);
    note_no_covariance(run);
    run->fields = (la_row_fields){.text = options->text_field,
                                  .pair = options->pair_field,
                                  .label = options->label_field,
                                  .id = options->id_field,
                                  .prompt = run->predictor->prompt,
                                  .plain_lines = job->lines,
                                  .tagged = model->task == LA_TASK_TAG,
                                  .log = &options->log};
    LA_TRY(open_rows(run, err));
    int64_t batch_rows = run->feed.options.batch_rows;
    for (int w = 0; w < session->n_workers; w++)
        LA_TRY(la_feed_batch_open(&run->feed, &run->batches[w], err));
    LA_TRY(la_prediction_list_new(run->predictor, batch_rows, &run->answers, err));
    run->hashes = la_alloc((size_t)batch_rows, sizeof *run->hashes, err);
    LA_TRY(err->status);
    if (job->ranks.rank) {
        run->out = (la_output_file){.folder = -1, .slot = -1};
        run->out.stream = open_memstream(&run->text, &run->length);
        return run->out.stream ? LA_OK : la_fail(err, LA_RESOURCE, "out of memory for rows");
    }
    LA_TRY(la_output_open(&run->out, job->out, LA_OUTPUT_STREAM, err));
    return la_prediction_header(run->format, run->out.stream, &run->shape, err);
}

static void close_run(file_run *run) {
    if (run->job->ranks.rank && run->out.stream)
        fclose(run->out.stream);
    free(run->text);
    la_output_discard(&run->out);
    for (int w = 0; w < LA_DEVICES_MAX; w++)
        la_feed_batch_close(&run->batches[w]);
    close_rows(run);
    la_share_rows_free(&run->probs);
    la_kept_rows_free(&run->kept);
    free(run->hashes);
    la_list_free(&run->keep);
    free(run->has_kept);
    la_threshold_rule_free(&run->rule);
    la_prediction_list_free(run->answers);
    la_predictor_close(run->predictor);
}

enum { SHARES_SHOWN = 8 };

/* classes[SHARES_SHOWN]: those whose shares have moved most, in their order; returns how many. */
static int most_moved(const la_class_shares *s, int64_t *classes) {
    int n = s->n_classes < SHARES_SHOWN ? (int)s->n_classes : SHARES_SHOWN, found = 0;
    double least = INFINITY; /* of those found */
    for (int64_t c = 0; c < s->n_classes; c++) {
        double moved = fabs(s->shares[c] - s->training[c]);
        int out = 0;
        if (found < n) {
            classes[found++] = c;
            least = fmin(least, moved);
            continue;
        }
        if (!(moved > least))
            continue;
        while (fabs(s->shares[classes[out]] - s->training[classes[out]]) > least)
            out++;
        memmove(classes + out, classes + out + 1, (size_t)(n - 1 - out) * sizeof *classes);
        classes[n - 1] = c;
        least = INFINITY;
        for (int k = 0; k < n; k++)
            least = fmin(least, fabs(s->shares[classes[k]] - s->training[classes[k]]));
    }
    return n;
}

static void log_shares(const file_run *run) {
    const la_class_shares *s = &run->predictor->shares;
    int64_t classes[SHARES_SHOWN];
    char text[900] = "";
    size_t used = 0;
    int n = most_moved(s, classes);
    for (int k = 0; k < n; k++) {
        int64_t c = classes[k];
        const char *name = la_predictor_label(run->predictor, c);
        char number[24], error[40] = "";
        snprintf(number, sizeof number, "class %lld", (long long)c);
        if (isfinite(s->errors[c]))
            snprintf(error, sizeof error, " +- %.3f", s->errors[c]);
        int length =
            snprintf(text + used, sizeof text - used, "%s%.40s %.3f%s (else %.3f)",
                     used ? ", " : "", name ? name : number, s->shares[c], error, s->training[c]);
        used += length > 0 ? (size_t)length : 0;
        used = used < sizeof text ? used : sizeof text - 1;
    }
    la_warn(&run->job->options.run.log, "class shares estimated from %lld rows: %s%s",
            (long long)s->n_rows, text, n < s->n_classes ? "; the others moved less" : "");
    if (!run->predictor->posterior.class_means)
        la_warn(&run->job->options.run.log,
                "no held-out rows have told what the model answers on rows with training's shares: "
                "the estimate takes its probabilities to be right on average; fit with --val");
}

/* Rows that have waited, for the shares that they say; or where they were too many, all again. */
static la_status run_estimated(file_run *run, la_error *err) {
    la_predictor *p = run->predictor;
    la_kept_rows *kept = &run->kept;
    LA_TRY(la_class_shares_estimate(&p->shares, &run->probs, err));
    run->estimating = false;
    if (run->probs.seen)
        log_shares(run);
    if (!kept->full) {
        for (int64_t i = 0; i < kept->n_answers; i++)
            p->posterior.likelihood->reshare(&p->shares, &kept->answers[i]);
        return write_items(run, kept->items, kept->n_items, kept->answers, err);
    }
    struct stat file;
    if (stat(run->job->data, &file) || !S_ISREG(file.st_mode))
        return la_fail(err, LA_RESOURCE,
                       "%s: %lld rows do not fit the memory, and an estimate of class shares needs "
                       "them twice; save them to a file",
                       la_row_reader_name(run->reader), (long long)run->probs.seen);
    close_rows(run);
    run->fields.log = NULL; /* how it was understood has been said */
    LA_TRY(open_rows(run, err));
    return run_rows(run, err);
}

/* A name that no row has is more likely a mistake than a field that all of them lack. */
static void note_kept(const file_run *run) {
    for (size_t i = 0; i < run->keep.n && run->feed.n_rows; i++)
        if (!run->has_kept[i])
            la_warn(&run->job->options.run.log,
                    "--keep %s: no row of %s has that field, and all carry null",
                    run->keep.items[i], la_row_reader_name(run->reader));
}

static la_status run_all(file_run *run, la_predict_summary *summary, la_error *err) {
    double start = la_seconds();
    LA_TRY(open_run(run, err));
    summary->seconds_load = la_seconds() - start;
    start = la_seconds();
    LA_TRY((run->job->ranks.size > 1 ? share_rows : run_rows)(run, err));
    if (run->estimating)
        LA_TRY(run_estimated(run, err));
    const la_feed *feed = &run->feed;
    summary->n_rows = feed->n_rows;
    summary->n_bad = feed->n_bad;
    summary->n_truncated = feed->n_truncated;
    if (!feed->n_rows && !feed->n_bad && !run->job->lines)
        return la_fail(err, LA_BAD_INPUT, "%s: has no rows", la_row_reader_name(run->reader));
    if (feed->n_truncated)
        la_warn(&run->job->options.run.log,
                "%lld rows are longer than %lld tokens and were truncated",
                (long long)feed->n_truncated, (long long)run->predictor->session.max_length);
    if (!run->job->ranks.rank)
        note_kept(run);
    bool counted = run->job->threshold && run->job->ranks.size < 2;
    summary->n_accepted = counted ? run->n_actions[1] : -1;
    summary->n_review = counted ? run->n_actions[0] : -1;
    la_feed_log_lost(feed->n_lost, run->predictor->session.max_length, &run->job->options.run.log);
    if (!run->job->ranks.rank)
        LA_TRY(la_output_commit(&run->out, err));
    summary->seconds_rows = la_seconds() - start;
    la_session_profile(&run->predictor->session, summary->seconds_rows, &run->job->options.run.log);
    summary->shares = run->predictor->shares;
    summary->forward = la_predictor_is_forward(run->predictor);
    run->predictor->shares = (la_class_shares){0};
    return LA_OK;
}

la_status la_predict_file(const la_predict_job *job, la_predict_summary *summary, la_error *err) {
    file_run run = {.job = job};
    *summary = (la_predict_summary){0};
    la_status status = run_all(&run, summary, err);
    close_run(&run);
    return status;
}

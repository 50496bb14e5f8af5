/* la_fit: calibration rows -> curvature -> prior -> posterior file. */
#include "bayes/curvature.h"
#include "bayes/predictive.h"
#include "base/output_file.h"
#include "base/threads.h"
#include "input/json.h"
#include "output/posterior_file.h"
#include "pipeline/session.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEMPLATE_BYTES_MAX = 1 << 20, FEW_ROWS = 10 };

/* A device's share of the rows. */
typedef struct fitting_part {
    la_curvature_fit *curvature;
    la_feed_batch batch;
    float *logits, *cotangents; /* [rows, C], [rhs rows, C] */
    double *factor;             /* [C, C-1] */
} fitting_part;

typedef struct fitting {
    const la_fit_options *options;
    la_session session;
    const la_curvature_kind *kind;
    fitting_part parts[LA_DEVICES_MAX]; /* one a worker of the session */
    la_template *prompt;
    la_row_reader *reader;
    la_feed feed;
    la_digest *digest;
    int64_t *class_count;
    la_posterior posterior;
    double log_likelihood;
} fitting;

static void close_fitting(fitting *f) {
    for (int w = 0; w < LA_DEVICES_MAX; w++) {
        fitting_part *part = &f->parts[w];
        if (part->curvature)
            f->kind->fit_close(part->curvature);
        la_feed_batch_close(&part->batch);
        free(part->logits);
        free(part->cotangents);
        free(part->factor);
    }
    la_feed_close(&f->feed);
    la_row_reader_close(f->reader);
    la_template_free(f->prompt);
    la_digest_free(f->digest);
    free(f->class_count);
    la_posterior_free(&f->posterior);
    la_session_close(&f->session);
}

static la_status read_template(const char *path, la_template **prompt, la_error *err) {
    char *text;
    size_t length;
    if (!path)
        return LA_OK;
    LA_TRY(la_file_read(path, TEMPLATE_BYTES_MAX, &text, &length, err));
    la_status status = la_template_parse(path, text, length, prompt, err);
    free(text);
    return status;
}

static la_status open_fitting(fitting *f, la_error *err) {
    const la_fit_options *options = f->options;
    int32_t *ids = NULL;
    int64_t n_ids = 0;
    LA_TRY(la_output_check(options->out, err));
    if (options->choices && options->choice_ids)
        return la_fail(err, LA_USAGE, "give --choices or --choice-ids, not both");
    if (options->choice_ids)
        LA_TRY(la_choice_ids_parse(options->choice_ids, &ids, &n_ids, err));
    la_session_options session = {.run = options->run,
                                  .base = options->base,
                                  .adapter = options->adapter,
                                  .params = options->params,
                                  .choices = options->choices,
                                  .choice_ids = ids,
                                  .n_choices = n_ids,
                                  .all_inputs = true,
                                  .kind = f->kind,
                                  .kron = options->kron,
                                  .rank = options->rank};
    la_status status = la_session_open(&session, &f->session, err);
    free(ids);
    LA_TRY(status);
    LA_TRY(read_template(options->template_path, &f->prompt, err));
    la_row_fields fields = {options->run.text_field,
                            options->run.pair_field,
                            options->run.label_field,
                            options->run.id_field,
                            f->prompt,
                            false};
    LA_TRY(la_row_reader_open(options->data, &fields, &f->reader, err));
    la_feed_options feed = la_session_feed(&f->session, true, false);
    feed.label_field = options->run.label_field;
    const la_model *model = &f->session.workers[0].model;
    la_feed_open(f->reader, f->session.tokenizer, model, &f->session.labels, &feed, &f->feed);
    size_t rows = (size_t)f->session.batch_rows, classes = (size_t)model->n_classes;
    for (int w = 0; w < f->session.n_workers; w++) {
        fitting_part *part = &f->parts[w];
        LA_TRY(la_feed_batch_open(&f->feed, &part->batch, err));
        part->logits = la_alloc(rows * classes, sizeof *part->logits, err);
        part->cotangents = la_alloc(rows * classes * (classes - 1), sizeof *part->cotangents, err);
        part->factor = la_alloc(classes * (classes - 1), sizeof *part->factor, err);
        LA_TRY(err->status);
        LA_TRY(f->kind->fit_open(&f->session.workers[w].model, options->kron, f->session.batch_rows,
                                 f->session.n_rhs, &part->curvature, err));
    }
    f->class_count = la_alloc(classes, sizeof *f->class_count, err);
    f->digest = la_digest_new(err);
    return err->status;
}

/* cotangents[(k n + i), c] = S_i[c, k] */
static void fisher_cotangents(fitting_part *part, int64_t classes) {
    int64_t n = part->batch.batch.n_rows, m = classes - 1;
    for (int64_t i = 0; i < n; i++) {
        la_fisher_factor(classes, part->logits + i * classes, part->factor);
        for (int64_t k = 0; k < m; k++)
            for (int64_t c = 0; c < classes; c++)
                part->cotangents[(k * n + i) * classes + c] = (float)part->factor[c * m + k];
    }
}

static void count_rows(fitting *f, const fitting_part *part) {
    int64_t classes = f->session.workers[0].model.n_classes;
    const la_batch *batch = &part->batch.batch;
    for (int64_t j = 0; j < part->batch.n_items; j++) {
        const la_feed_item *item = &part->batch.items[j];
        int64_t i = item->slot, length = batch->cu[i + 1] - batch->cu[i];
        f->log_likelihood += la_log_likelihood(classes, part->logits + i * classes, item->label);
        f->class_count[item->label]++;
        la_digest_add_number(f->digest, (double)item->label);
        la_digest_add_number(f->digest, (double)length);
        la_digest_add(f->digest, batch->ids + batch->cu[i], (size_t)length * sizeof(int32_t));
    }
}

/* Forward, the Fisher's cotangents, backward into the worker's sums. */
static la_status accumulate_batch(void *user, int w, la_error *err) {
    fitting *f = user;
    fitting_part *part = &f->parts[w];
    la_worker *worker = &f->session.workers[w];
    bool changed;
    LA_TRY(la_session_reserve(&f->session, worker, part->batch.batch.n_tokens, &changed, err));
    double start = la_seconds();
    if (la_run_forward(&worker->run, &part->batch.batch, part->logits, err) != LA_OK)
        return la_feed_locate(&f->feed, &part->batch, worker->run.bad_row, err);
    worker->seconds_forward += la_seconds() - start;
    start = la_seconds();
    fisher_cotangents(part, worker->model.n_classes);
    f->kind->fit_batch(part->curvature);
    la_block_visitor visitor = f->kind->fit_visitor(part->curvature);
    LA_TRY(la_run_backward(&worker->run, part->cotangents, &visitor, err));
    worker->seconds_backward += la_seconds() - start;
    return LA_OK;
}

/* A batch for every worker at a time. */
static la_status accumulate(fitting *f, la_error *err) {
    const la_log *log = &f->options->run.log;
    for (;;) {
        int filled = 0;
        LA_TRY(la_check_interrupt(err));
        for (; filled < f->session.n_workers; filled++) {
            LA_TRY(la_feed_next(&f->feed, &f->parts[filled].batch, err));
            if (!f->parts[filled].batch.n_items)
                break;
        }
        if (!filled)
            break;
        LA_TRY(la_workers_run(filled, accumulate_batch, f, err));
        for (int w = 0; w < filled; w++)
            count_rows(f, &f->parts[w]);
        if (log->progress)
            log->progress(log->user, "curvature", f->feed.n_rows,
                          la_row_reader_fraction(f->reader));
    }
    if (!f->feed.n_rows)
        return la_fail(err, LA_BAD_INPUT, "%s: has no rows, expected labelled calibration rows",
                       f->options->data);
    return LA_OK;
}

/* The sums of all workers -> the posterior's factors. */
static la_status decompose(fitting *f, la_error *err) {
    la_curvature_fit *all[LA_DEVICES_MAX];
    for (int w = 0; w < f->session.n_workers; w++)
        all[w] = f->parts[w].curvature;
    /* the decompositions need room of their own */
    la_session_release_runs(&f->session);
    if (f->session.n_workers > 1)
        LA_TRY(f->kind->fit_merge(all, f->session.n_workers, err));
    return f->kind->fit_finish(all[0], f->options->rank, &f->posterior, err);
}

static void warn_about_rows(const fitting *f) {
    const la_log *log = &f->options->run.log;
    if (f->feed.n_rows < FEW_ROWS)
        la_warn(log, "only %lld calibration rows: the curvature is a rough guess",
                (long long)f->feed.n_rows);
    if (f->feed.n_truncated)
        la_warn(log, "%lld of %lld rows are longer than %lld tokens and were truncated",
                (long long)f->feed.n_truncated, (long long)f->feed.n_rows,
                (long long)f->session.max_length);
    int64_t missing = 0;
    for (int64_t c = 0; c < f->session.workers[0].model.n_classes; c++)
        missing += !f->class_count[c];
    if (missing)
        la_warn(log, "%lld of %lld classes have no calibration row", (long long)missing,
                (long long)f->session.workers[0].model.n_classes);
}

static void warn_about_blocks(const fitting *f) {
    int64_t flat = 0;
    const char *first = NULL;
    for (int64_t b = 0; b < f->posterior.n_blocks; b++) {
        if (!la_block_is_flat(&f->posterior, &f->posterior.blocks[b]))
            continue;
        first = flat++ ? first : f->posterior.blocks[b].name;
    }
    if (flat)
        la_warn(&f->options->run.log,
                "%lld blocks have no curvature under this approximation, the first is %s; a prior "
                "per module gives them the others' global precision",
                (long long)flat, first);
}

/* Absolute, so that predict finds the folders from anywhere. */
static const char *kept_path(la_pool *pool, const char *path, la_error *err) {
    char absolute[PATH_MAX];
    if (!realpath(path, absolute))
        return la_pool_text(pool, path, strlen(path), err);
    return la_pool_text(pool, absolute, strlen(absolute), err);
}

static la_status describe(fitting *f, la_error *err) {
    la_posterior *p = &f->posterior;
    const la_session *session = &f->session;
    const la_model *model = &session->workers[0].model;
    p->kron = f->options->kron;
    p->params = f->options->params;
    p->rank_asked = f->options->rank;
    p->n_rows = f->feed.n_rows;
    p->n_tokens = f->feed.n_tokens;
    p->n_classes = model->n_classes;
    p->log_likelihood = f->log_likelihood;
    p->max_length = session->max_length;
    p->base_path = kept_path(&p->pool, f->options->base, err);
    p->adapter_path = kept_path(&p->pool, f->options->adapter, err);
    strcpy(p->base_digest, model->base_digest);
    strcpy(p->adapter_digest, model->adapter_digest);
    if (f->feed.n_text)
        strcpy(p->tokenizer_digest, la_tokenizer_digest(session->tokenizer));
    la_digest_finish(f->digest, p->data_digest);
    f->digest = NULL;
    if (session->choice_ids) {
        p->choice_ids = la_pool_take(&p->pool, (size_t)p->n_classes, sizeof *p->choice_ids, err);
        if (p->choice_ids)
            memcpy(p->choice_ids, session->choice_ids,
                   (size_t)p->n_classes * sizeof *p->choice_ids);
    }
    if (f->prompt) {
        const char *text = la_template_text(f->prompt);
        p->template_text = la_pool_text(&p->pool, text, strlen(text), err);
    }
    LA_TRY(err->status);
    return la_labels_copy(&session->labels, &p->labels, err);
}

static la_status summarise(const fitting *f, const double seconds[5], la_fit_summary **out,
                           la_error *err) {
    const la_posterior *p = &f->posterior;
    la_fit_summary *s = la_alloc(1, sizeof *s, err);
    if (!s)
        return err->status;
    *s = (la_fit_summary){.n_rows = p->n_rows,
                          .n_tokens = p->n_tokens,
                          .n_classes = p->n_classes,
                          .n_blocks = p->n_blocks,
                          .n_truncated = f->feed.n_truncated,
                          .log_likelihood = p->log_likelihood,
                          .log_marginal_likelihood = p->log_marginal_likelihood,
                          .prior = p->prior,
                          .prior_precision = p->prior_precision,
                          .seconds_load = seconds[0],
                          .seconds_curvature = seconds[1],
                          .seconds_decompose = seconds[2],
                          .seconds_prior = seconds[3],
                          .seconds_save = seconds[4],
                          .device = f->session.workers[0].backend.ops->name,
                          .precision = la_precision_name(f->session.workers[0].backend.precision),
                          .threads = f->session.threads};
    s->blocks = la_alloc((size_t)p->n_blocks, sizeof *s->blocks, err);
    for (int64_t b = 0; s->blocks && b < p->n_blocks; b++) {
        const la_posterior_block *block = &p->blocks[b];
        char *name = la_alloc(strlen(block->name) + 1, 1, err);
        if (!name)
            break;
        strcpy(name, block->name);
        s->blocks[b] = (la_block_summary){.name = name,
                                          .out = block->out,
                                          .in = block->in,
                                          .trace_in = block->trace_in,
                                          .trace_out = block->trace_out,
                                          .prior_precision = block->prior_precision};
        s->n_parameters += block->out * block->in;
    }
    if (err->status != LA_OK) {
        la_fit_summary_free(s);
        return err->status;
    }
    *out = s;
    return LA_OK;
}

void la_fit_summary_free(la_fit_summary *summary) {
    if (!summary)
        return;
    for (int64_t b = 0; summary->blocks && b < summary->n_blocks; b++)
        free((void *)(uintptr_t)summary->blocks[b].name);
    free(summary->blocks);
    free(summary);
}

static la_status run(fitting *f, la_fit_summary **summary, la_error *err) {
    const la_fit_options *options = f->options;
    double seconds[5], at = la_seconds(), now;
#define LAP(i) (now = la_seconds(), seconds[i] = now - at, at = now)
    LA_TRY(open_fitting(f, err));
    LAP(0);
    LA_TRY(accumulate(f, err));
    warn_about_rows(f);
    LAP(1);
    LA_TRY(describe(f, err));
    LA_TRY(decompose(f, err));
    LA_TRY(la_check_interrupt(err));
    LAP(2);
    LA_TRY(la_prior_choose(&f->posterior, options->prior, options->prior_value, err));
    warn_about_blocks(f);
    LAP(3);
    LA_TRY(la_posterior_save(&f->posterior, options->out, err));
    LAP(4);
    la_session_profile(&f->session, seconds[1] + seconds[2], &options->run.log);
#undef LAP
    return summarise(f, seconds, summary, err);
}

la_status la_fit(const la_fit_options *options, la_fit_summary **summary, la_error *err) {
    fitting f = {.options = options, .kind = &la_curvature_kron};
    *err = (la_error){0};
    *summary = NULL;
    if (!options->base || !options->adapter || !options->data || !options->out)
        return la_fail(err, LA_USAGE, "a fit needs base, adapter, data and out");
    la_status status = run(&f, summary, err);
    close_fitting(&f);
    return status;
}

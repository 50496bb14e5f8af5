#include "pipeline/session.h"
#include "backend/product_choice.h"
#include "backend/profile.h"
#include "base/kernels.h"
#include "base/team_open.h"
#include "base/machine.h"
#include "base/stop.h"
#include "input/folders.h"
#include "input/text_file.h"
#include "pipeline/choices.h"
#include "pipeline/session_tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEMPLATE_BYTES_MAX = 1 << 20 };

la_status la_template_read(const char *path, la_template **prompt, la_error *err) {
    char *text;
    size_t length;
    LA_TRY(la_text_file_read(path, "a prompt", TEMPLATE_BYTES_MAX, &text, &length, err));
    if (length && text[length - 1] == '\n')
        length--;
    la_status status = la_template_parse(path, text, length, prompt, err);
    free(text);
    LA_TRY(status);
    if (la_template_has_fields(*prompt))
        return LA_OK;
    la_template_free(*prompt);
    *prompt = NULL;
    return la_fail(err, LA_BAD_INPUT,
                   "%s: names no field, so that all rows would have the same prompt; expected the "
                   "name of a field in braces, as in {text} (\"{{\" is a brace)",
                   path);
}

/* The classes are the choices, named so unless --labels names them. */
static la_status take_choices(la_session *session, const char *choices, const la_log *log,
                              int64_t *n, la_error *err) {
    la_labels names = {0};
    if (!session->tokenizer)
        return la_fail(err, LA_UNSUPPORTED,
                       "--choices needs the tokenizer.json of the base or the adapter, which is "
                       "missing; give --choice-ids");
    LA_TRY(la_choices_parse(session->tokenizer, choices, log, &session->choice_ids, &names, err));
    *n = names.count;
    if (session->labels.names)
        la_labels_free(&names);
    else
        session->labels = names;
    return LA_OK;
}

static la_status take_labels(la_session *session, const la_session_options *options,
                             la_error *err) {
    const la_config *config = &session->workers[0].model.config;
    int64_t n = session->workers[0].model.n_classes;
    const char *nameless = session->workers[0].model.likelihood->nameless;
    if (nameless)
        return session->labels.names ? la_fail(err, LA_USAGE, "--labels: %s", nameless) : LA_OK;
    if (session->labels.names && session->labels.count != n)
        return la_fail(err, LA_BAD_INPUT,
                       "--labels or --choices gives %lld names, the model has %lld classes",
                       (long long)session->labels.count, (long long)n);
    if (session->labels.names)
        return LA_OK;
    if (options->labels && options->labels->names && options->labels->count == n)
        return la_labels_copy(options->labels, &session->labels, err);
    if (session->beside.names && session->beside.count == n)
        return la_labels_copy(&session->beside, &session->labels, err);
    /* the base may have been a classifier of something else */
    if (config->labels.names && config->labels.count == n)
        return la_labels_copy(&config->labels, &session->labels, err);
    return LA_OK;
}

static void take_sizes(la_session *session, const la_session_options *options) {
    la_config config = session->workers[0].model.config;
    /* the adapter's directory counts as well, where it states one */
    int64_t own = session->tokenizer_of_adapter ? la_tokenizer_max_length(session->tokenizer) : 0;
    if (own)
        config.model_max_length = own;
    int64_t limit = la_config_default_length(&config);
    int64_t most = la_prompt_most_tokens(&session->workers[0].model);
    limit = most && most < limit ? most : limit;
    if (options->max_length)
        limit = options->max_length;
    session->max_length = options->run.max_length ? options->run.max_length : limit;
    const la_model *model = &session->workers[0].model;
    session->n_rhs = options->forward_only    ? 0
                     : options->one_cotangent ? 1
                                              : model->likelihood->contrasts(model->n_classes);
    session->all_inputs = options->all_inputs;
}

static la_run_shape run_shape(const la_session *session, int64_t tokens) {
    return (la_run_shape){.max_rows = session->batch_rows,
                          .max_tokens =
                              tokens > session->batch_tokens ? tokens : session->batch_tokens,
                          .n_rhs = session->n_rhs,
                          .all_inputs = session->all_inputs,
                          .recompute = session->recompute,
                          .max_factor = session->max_factor};
}

static void log_line(void *user, const char *line) {
    la_warn(user, "%s", line);
}

static la_status log_program(la_session *session, const la_log *log, la_error *err) {
    la_log to = *log;
    la_run_shape shape = run_shape(session, session->batch_tokens);
    return la_run_print(&session->workers[0].model, &shape, log_line, &to, err);
}

/* All devices run the same batches: the smallest plan of any of them. It is made, and what cannot
 * fit refused, before anything is on a device. */
static la_status make_plan(la_session *session, const la_session_options *options, la_error *err) {
    la_plan_request request = {.kind = options->kind,
                               .beside = options->beside,
                               .n_beside = options->n_beside,
                               .kron = options->kron,
                               .rank = options->rank,
                               .n_scales = options->n_scales,
                               .posterior = options->fits ? NULL : options->posterior,
                               .batch_tokens = options->run.batch_tokens,
                               .n_rhs = session->n_rhs,
                               .all_inputs = session->all_inputs};
    la_plan plan, least = {0};
    for (int w = 0; w < session->n_workers; w++) {
        LA_TRY(la_plan_make(&session->workers[w].model, &request, &plan, err));
        if (!w || plan.batch_tokens < least.batch_tokens)
            least = plan;
        session->recompute |= plan.recompute;
        if (options->run.profile)
            la_plan_log(&session->workers[w].model, &plan, &options->run.log);
    }
    session->batch_tokens = least.batch_tokens;
    session->batch_rows = least.batch_rows;
    session->max_factor = least.max_factor;
    if (options->run.profile)
        LA_TRY(log_program(session, &options->run.log, err));
    const la_worker *first = &session->workers[0];
    if (!first->backend.ops->in_place && first->backend.precision == LA_PRECISION_F32 &&
        first->model.max_weight)
        la_warn(&options->run.log, "the base is stored in 16 bits or fewer and computed in f32; "
                                   "--precision bf16 is several "
                                   "times as fast, and rounds to 8 bits");
    if (first->backend.precision != LA_PRECISION_F32 && session->n_rhs && options->kind->subtracts)
        la_warn(&options->run.log,
                "the covariance of --curvature %s is a difference, of which products in %s leave "
                "about three digits; --precision f32 leaves six",
                la_structure_name(options->kind), la_precision_name(first->backend.precision));
    return LA_OK;
}

static la_status open_models(la_session *session, const la_session_options *options,
                             la_model_options *model, la_error *err) {
    for (int w = 0; w < session->n_workers; w++) {
        la_worker *worker = &session->workers[w];
        model->twin = w ? &session->workers[0].model : NULL;
        LA_TRY(la_model_open(&worker->backend, model, &worker->model, err));
    }
    LA_TRY(take_labels(session, options, err));
    take_sizes(session, options);
    return LA_OK;
}

static la_status place_model(void *user, int number, la_error *err) {
    la_session *session = user;
    return la_model_upload(&session->workers[number].model, err);
}

static la_status open_parts(const la_session_options *options, la_session *session, la_error *err) {
    const la_run_options *run = &options->run;
    la_backend backends[LA_DEVICES_MAX];
    la_precision precision;
    LA_TRY(la_folder_find(LA_FOLDER_BASE, "--base", options->base, &session->pool, &run->log,
                          &session->base, err));
    LA_TRY(la_folder_find(LA_FOLDER_ADAPTER, "--adapter", options->adapter, &session->pool,
                          &run->log, &session->adapter, err));
    LA_TRY(la_precision_parse(run->precision, &precision, err));
    if (run->profile) {
        char kernels[256];
        la_kernels_describe(kernels, sizeof kernels);
        la_warn(&run->log, "%s", kernels);
        la_warn(&run->log, "instructions of other operations on the CPU: %s",
                la_cpu_instructions());
    }
    la_team team;
    LA_TRY(la_team_open(run->threads, true, &run->log, &team, err));
    session->team = team;
    LA_TRY(la_backend_open(run->device, precision, session->team, &run->log, backends,
                           &session->n_workers, err));
    for (int w = 0; w < session->n_workers; w++)
        session->workers[w].backend = backends[w];
    if (run->profile && backends->ops->in_place) {
        char products[LA_PRODUCTS_TEXT];
        la_products_describe(products);
        la_warn(&run->log, "%s", products);
        if (backends->ops->own_products && la_products_free(LA_SHAPE_LARGE))
            la_warn(&run->log, "products with weights and in attention: kernels of laplora's own");
    }
    for (int w = 0; w < session->n_workers && run->profile; w++)
        LA_TRY(la_profile_start(&session->workers[w].backend, err));
    LA_TRY(la_config_beside(session->adapter, session->base, &session->beside, &run->log, err));
    la_tokenizer_request request = {.base = session->base,
                                    .adapter = session->adapter,
                                    .adapter_name = run->adapter_name,
                                    .posterior = options->posterior,
                                    .log = &run->log};
    /* without one rows may still carry ids: an error names the row that has text */
    LA_TRY(
        la_session_tokenizer(&request, &session->tokenizer, &session->tokenizer_of_adapter, err));
    if (run->labels)
        LA_TRY(la_labels_parse("--labels", run->labels, &session->labels, err));
    la_model_options model = {.base = session->base,
                              .adapter = session->adapter,
                              .adapter_name = run->adapter_name,
                              .params = options->params,
                              .head_optional = options->head_optional,
                              .choice_ids = options->choice_ids,
                              .n_choices = options->n_choices,
                              .log = run->log};
    LA_TRY(la_base_quant_parse(run->base_quant, &model.quant, err));
    if (options->choices) {
        LA_TRY(take_choices(session, options->choices, &run->log, &model.n_choices, err));
        model.choice_ids = session->choice_ids;
    } else if (options->choice_ids) {
        size_t bytes = (size_t)options->n_choices * sizeof *session->choice_ids;
        session->choice_ids = la_alloc(1, bytes, err);
        if (!session->choice_ids)
            return err->status;
        memcpy(session->choice_ids, options->choice_ids, bytes);
    }
    LA_TRY(open_models(session, options, &model, err));
    int64_t most = la_prompt_most_tokens(&session->workers[0].model);
    bool too_long = most && session->max_length > most;
    /* a length from a posterior belongs to its own base: the digest of another base differs */
    if (too_long && run->max_length)
        return la_fail(err, LA_USAGE, "--max-length %lld: the model has %lld positions",
                       (long long)session->max_length, (long long)most);
    LA_TRY(make_plan(session, options, err));
    return la_workers_run(session->n_workers, place_model, session, err);
}

la_status la_session_open(const la_session_options *options, la_session *session, la_error *err) {
    *session = (la_session){.stop = options->run.stop};
    la_status status = open_parts(options, session, err);
    if (status != LA_OK)
        la_session_close(session);
    return status;
}

void la_session_release_runs(la_session *session) {
    for (int w = 0; w < session->n_workers; w++) {
        if (session->workers[w].run_is_open)
            la_run_close(&session->workers[w].run);
        session->workers[w].run_is_open = false;
    }
}

void la_session_close(la_session *session) {
    la_session_release_runs(session);
    for (int w = session->n_workers - 1; w >= 0; w--) {
        la_worker *worker = &session->workers[w];
        if (worker->model.be)
            la_model_close(&worker->model);
        la_profile_stop(&worker->backend);
        worker->backend.ops->close(&worker->backend);
    }
    la_tokenizer_close(session->tokenizer);
    la_labels_free(&session->labels);
    la_labels_free(&session->beside);
    free(session->choice_ids);
    la_pool_free(&session->pool);
    la_team_close(&session->team);
    *session = (la_session){0};
}

la_status la_session_reserve(la_session *session, la_worker *worker, int64_t tokens, bool *changed,
                             la_error *err) {
    *changed = false;
    if (worker->run_is_open && tokens <= worker->run.max_tokens)
        return LA_OK;
    if (worker->run_is_open)
        la_run_close(&worker->run);
    worker->run_is_open = false;
    la_run_shape shape = run_shape(session, tokens);
    la_status status = la_run_open(&worker->model, &shape, &worker->run, err);
    if (status == LA_RESOURCE && session->n_rhs && !shape.recompute) {
        /* a row longer than the plan's batches: with its layers computed again it may fit */
        shape.recompute = true;
        *err = (la_error){0};
        status = la_run_open(&worker->model, &shape, &worker->run, err);
    }
    LA_TRY(status);
    worker->run_is_open = *changed = true;
    return LA_OK;
}

void la_session_profile(const la_session *session, double seconds, const la_log *log) {
    for (int w = 0; w < session->n_workers; w++) {
        const la_worker *worker = &session->workers[w];
        if (!worker->backend.profile)
            continue;
        la_warn(log, "%s: forward %.3f s, backward %.3f s", worker->backend.device,
                worker->seconds_forward, worker->seconds_backward);
        la_profile_report(&worker->backend, seconds, log);
    }
}

la_status la_workers_run(int n, la_worker_job job, void *user, la_error *err) {
    la_error errors[LA_DEVICES_MAX];
    la_stop stop = la_stop_current();
    if (n == 1)
        return job(user, 0, err);
    memset(errors, 0, sizeof errors);
#pragma omp parallel for num_threads(n) schedule(static, 1)
    for (int w = 0; w < n; w++) {
        la_stop before = la_stop_set(stop);
        (void)job(user, w, &errors[w]);
        la_stop_set(before);
    }
    for (int w = 0; w < n; w++)
        if (errors[w].status != LA_OK) {
            *err = errors[w];
            return err->status;
        }
    return LA_OK;
}

bool la_session_cuts_left(const la_session *session) {
    /* a prompt's end holds the question */
    return session->workers[0].model.task == LA_TASK_CHOICE ||
           (session->tokenizer && la_tokenizer_cuts_left(session->tokenizer));
}

la_feed_options la_session_feed(const la_session *session, bool need_label, bool skip_bad) {
    return (la_feed_options){.batch_tokens = session->batch_tokens,
                             .batch_rows = session->batch_rows,
                             .max_length = session->max_length,
                             .truncate_left = la_session_cuts_left(session),
                             .need_label = need_label,
                             .skip_bad = skip_bad};
}

#include "pipeline/session.h"
#include "backend/profile.h"
#include "base/threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BATCH_TOKENS = 1024, /* enough rows for the products to run at full speed */
    BATCH_ROWS = 256,
    RHS_ROWS = 16384 /* tokens x right-hand sides at most: many classes take smaller batches */
};

la_status la_choice_ids_parse(const char *text, int32_t **ids, int64_t *n, la_error *err) {
    size_t most = 1;
    for (const char *c = text; *c; c++)
        most += *c == ',';
    *ids = la_alloc(most, sizeof **ids, err);
    *n = 0;
    if (!*ids)
        return err->status;
    for (const char *c = text;;) {
        char *end;
        long id = strtol(c, &end, 10);
        if (end == c || id < 0 || id > INT32_MAX || (*end && *end != ',')) {
            free(*ids);
            *ids = NULL;
            return la_fail(err, LA_USAGE, "--choice-ids \"%s\": expected token ids like 319,350",
                           text);
        }
        (*ids)[(*n)++] = (int32_t)id;
        if (!*end)
            return LA_OK;
        c = end + 1;
    }
}

/* Each choice must be one token of its own: its id is a class. */
static la_status choice_tokens(la_session *session, const char *choices, int64_t *n,
                               la_error *err) {
    if (!session->tokenizer)
        return la_fail(err, LA_UNSUPPORTED,
                       "--choices needs the base's tokenizer.json, which is missing; give "
                       "--choice-ids");
    la_encoding encoding = {0};
    la_encode_options options = {.no_special = true};
    la_labels names;
    LA_TRY(la_labels_parse("--choices", choices, &names, err));
    la_status status = LA_OK;
    session->choice_ids = la_alloc((size_t)names.count, sizeof *session->choice_ids, err);
    if (!session->choice_ids)
        status = err->status;
    for (int64_t i = 0; i < names.count && status == LA_OK; i++) {
        status = la_tokenizer_encode(session->tokenizer, names.names[i], strlen(names.names[i]),
                                     NULL, 0, &options, &encoding, err);
        if (status == LA_OK && encoding.n != 1) {
            char ids[128];
            size_t used = 0;
            *ids = 0;
            for (int64_t j = 0; j < encoding.n && used < sizeof ids; j++)
                used += (size_t)snprintf(ids + used, sizeof ids - used, "%s%d", j ? ", " : "",
                                         encoding.ids[j]);
            status =
                la_fail(err, LA_BAD_INPUT, "--choices: \"%s\" is %lld tokens (%s), expected one",
                        names.names[i], (long long)encoding.n, ids);
        }
        if (status == LA_OK)
            session->choice_ids[i] = encoding.ids[0];
    }
    *n = names.count;
    la_encoding_free(&encoding);
    if (status == LA_OK && !session->labels.names)
        session->labels = names;
    else
        la_labels_free(&names);
    return status;
}

static la_status open_tokenizer(la_session *session, const char *base, la_error *err) {
    char path[4096];
    snprintf(path, sizeof path, "%s/tokenizer.json", base);
    if (access(path, F_OK))
        return LA_OK;
    la_status status = la_tokenizer_open(base, &session->tokenizer, err);
    /* rows may still carry ids: the row that has text will say that there is no tokenizer for it */
    return status;
}

static la_status take_labels(la_session *session, const la_session_options *options,
                             la_error *err) {
    const la_config *config = &session->model.config;
    int64_t n = session->model.n_classes;
    if (session->labels.names && session->labels.count != n)
        return la_fail(err, LA_BAD_INPUT,
                       "--labels or --choices gives %lld names, the model has %lld classes",
                       (long long)session->labels.count, (long long)n);
    if (session->labels.names)
        return LA_OK;
    if (options->labels && options->labels->names && options->labels->count == n)
        return la_labels_copy(options->labels, &session->labels, err);
    /* the base may have been a classifier of something else */
    if (config->labels.names && config->labels.count == n)
        return la_labels_copy(&config->labels, &session->labels, err);
    return LA_OK;
}

static void take_sizes(la_session *session, const la_session_options *options) {
    const la_config *config = &session->model.config;
    int64_t limit = config->max_positions;
    if (config->model_max_length && config->model_max_length < limit)
        limit = config->model_max_length;
    if (options->max_length)
        limit = options->max_length;
    session->max_length = options->run.max_length ? options->run.max_length : limit;
    session->n_rhs = options->forward_only ? 0 : session->model.n_classes - 1;
    int64_t tokens = options->run.batch_tokens;
    if (!tokens) {
        tokens = RHS_ROWS / (session->n_rhs ? session->n_rhs : 1);
        tokens = tokens > BATCH_TOKENS ? BATCH_TOKENS : tokens < 256 ? 256 : tokens;
    }
    session->batch_tokens = tokens;
    session->batch_rows = tokens < BATCH_ROWS ? tokens : BATCH_ROWS;
    session->all_inputs = options->all_inputs;
}

static la_status open_parts(const la_session_options *options, la_session *session, la_error *err) {
    const la_run_options *run = &options->run;
    if (run->precision && strcmp(run->precision, "f32"))
        return la_fail(err, strcmp(run->precision, "bf16") ? LA_USAGE : LA_UNSUPPORTED,
                       "--precision %s: the CPU computes in f32 (weights stay as they are stored)",
                       run->precision);
    session->threads = la_threads_set(run->threads);
    LA_TRY(la_backend_open(run->device, &session->backend, &run->log, err));
    if (run->profile)
        LA_TRY(la_profile_start(&session->backend, err));
    LA_TRY(open_tokenizer(session, options->base, err));
    if (run->labels)
        LA_TRY(la_labels_parse("--labels", run->labels, &session->labels, err));
    la_model_options model = {.base = options->base,
                              .adapter = options->adapter,
                              .params = options->params,
                              .choice_ids = options->choice_ids,
                              .n_choices = options->n_choices,
                              .log = run->log};
    if (options->choices) {
        LA_TRY(choice_tokens(session, options->choices, &model.n_choices, err));
        model.choice_ids = session->choice_ids;
    } else if (options->choice_ids) {
        size_t bytes = (size_t)options->n_choices * sizeof *session->choice_ids;
        session->choice_ids = la_alloc(1, bytes, err);
        if (!session->choice_ids)
            return err->status;
        memcpy(session->choice_ids, options->choice_ids, bytes);
    }
    LA_TRY(la_model_open(&session->backend, &model, &session->model, err));
    LA_TRY(take_labels(session, options, err));
    take_sizes(session, options);
    bool too_long = !session->model.config.arch->rotary &&
                    session->max_length > session->model.config.max_positions;
    /* a length from a posterior is of its own base: if this is another one, its digest will tell */
    if (too_long && run->max_length)
        return la_fail(err, LA_USAGE, "--max-length %lld: the model has %lld positions",
                       (long long)session->max_length,
                       (long long)session->model.config.max_positions);
    return LA_OK;
}

la_status la_session_open(const la_session_options *options, la_session *session, la_error *err) {
    *session = (la_session){0};
    la_status status = open_parts(options, session, err);
    if (status != LA_OK)
        la_session_close(session);
    return status;
}

void la_session_close(la_session *session) {
    if (session->run_is_open)
        la_run_close(&session->run);
    if (session->model.be)
        la_model_close(&session->model);
    la_profile_stop(&session->backend);
    if (session->backend.ops)
        session->backend.ops->close(&session->backend);
    la_tokenizer_close(session->tokenizer);
    la_labels_free(&session->labels);
    free(session->choice_ids);
    *session = (la_session){0};
}

la_status la_session_reserve(la_session *session, int64_t tokens, bool *changed, la_error *err) {
    *changed = false;
    if (session->run_is_open && tokens <= session->run.max_tokens)
        return LA_OK;
    if (session->run_is_open)
        la_run_close(&session->run);
    session->run_is_open = false;
    int64_t room = tokens > session->batch_tokens ? tokens : session->batch_tokens;
    LA_TRY(la_run_open(&session->model, session->batch_rows, room, session->n_rhs,
                       session->all_inputs, &session->run, err));
    session->run_is_open = *changed = true;
    return LA_OK;
}

la_feed_options la_session_feed(const la_session *session, bool need_label, bool skip_bad) {
    return (la_feed_options){.batch_tokens = session->batch_tokens,
                             .batch_rows = session->batch_rows,
                             .max_length = session->max_length,
                             /* a prompt's end holds the question */
                             .truncate_left = session->model.task == LA_TASK_CHOICE,
                             .need_label = need_label,
                             .skip_bad = skip_bad};
}

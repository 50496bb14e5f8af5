#include "pipeline/ensemble.h"
#include "likelihood/scaling.h"
#include "base/machine.h"
#include "pipeline/passes.h"

#include <stdlib.h>
#include <string.h>

/* Adds a model's probabilities, over n_models, to those of the rows. */
static la_status add_model(la_session *session, const la_row_set *rows, int n_models,
                           const la_log *log, double *probs, la_error *err) {
    la_evaluation e;
    la_row_job job = la_row_job_all(rows, log);
    LA_TRY(la_structures_evaluate(session, NULL, 0, &job, 0, NULL, false, &e, err));
    int64_t classes = e.n_classes;
    double *own = la_alloc((size_t)classes, sizeof *own, err);
    for (int64_t i = 0; i < rows->n && own; i++) {
        la_temperature_scaling_apply(classes, 1, e.logits + i * classes, own);
        for (int64_t k = 0; k < classes; k++)
            probs[i * classes + k] += own[k] / n_models;
    }
    free(own);
    la_evaluation_free(&e);
    return err->status;
}

static la_status add_both(const la_ensemble *ensemble, la_session *session, const la_row_set *a,
                          double *a_probs, const la_row_set *b, double *b_probs, la_error *err) {
    const la_log *log = &ensemble->run->log;
    int64_t classes = ensemble->session->workers[0].model.n_classes;
    if (session->workers[0].model.n_classes != classes)
        return la_fail(err, LA_BAD_INPUT,
                       "an adapter of the ensemble has %lld classes, the first has %lld",
                       (long long)session->workers[0].model.n_classes, (long long)classes);
    LA_TRY(add_model(session, a, ensemble->n_adapters, log, a_probs, err));
    return b->n ? add_model(session, b, ensemble->n_adapters, log, b_probs, err) : LA_OK;
}

la_status la_ensemble_predict(const la_ensemble *ensemble, const la_row_set *a, double *a_probs,
                              const la_row_set *b, double *b_probs, double *seconds_predict,
                              la_error *err) {
    size_t classes = (size_t)ensemble->session->workers[0].model.n_classes;
    double start = la_seconds();
    memset(a_probs, 0, (size_t)a->n * classes * sizeof *a_probs);
    memset(b_probs, 0, (size_t)b->n * classes * sizeof *b_probs);
    LA_TRY(add_both(ensemble, ensemble->session, a, a_probs, b, b_probs, err));
    for (int i = 1; i < ensemble->n_adapters; i++) {
        la_session other;
        la_session_options options = {.run = *ensemble->run,
                                      .base = ensemble->base,
                                      .adapter = ensemble->adapters[i],
                                      .params = LA_PARAMS_LORA,
                                      .choice_ids = ensemble->choice_ids,
                                      .n_choices = ensemble->n_choices,
                                      .forward_only = true};
        LA_TRY(la_session_open(&options, &other, err));
        const la_tokenizer *first = ensemble->session->tokenizer;
        if (first && other.tokenizer &&
            strcmp(la_tokenizer_digest(first), la_tokenizer_digest(other.tokenizer)) != 0)
            la_warn(&options.run.log,
                    "%s: has another tokenizer than the first adapter, whose tokens it is given",
                    ensemble->adapters[i]);
        la_status status = add_both(ensemble, &other, a, a_probs, b, b_probs, err);
        la_session_close(&other);
        LA_TRY(status);
    }
    *seconds_predict = la_seconds() - start;
    return LA_OK;
}

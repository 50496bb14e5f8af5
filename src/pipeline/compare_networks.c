/* Other networks: training-free Bayesianisation, and an ensemble of adapters. */
#include "base/machine.h"
#include "pipeline/compare_method.h"
#include "pipeline/ensemble.h"
#include "pipeline/tfb_job.h"

#include <math.h>

LA_COMPARE_RUN(tfb) {
    const la_log *log = &c->options->run.log;
    la_row_job anchor = la_row_job_all(c->options->val ? &c->val : &c->calib, log);
    la_comparison_row *row = la_compare_row(c, kind->name, NAN);
    la_tfb_options options = la_tfb_defaults;
    la_tfb_choice choice;
    double start = la_seconds();
    options.seed = c->options->seed;
    LA_TRY(la_tfb_fit(&c->session, &anchor, &options, &choice, err));
    row->seconds_fit = la_seconds() - start;
    snprintf(row->note, sizeof row->note, "sigma %.3g, %lld networks", choice.sigma,
             (long long)options.networks);
    for (int s = 0; s < LA_SIDES; s++) {
        la_compare_side *side = &c->sides[s];
        la_row_job rows = la_row_job_all(&side->rows, log);
        start = la_seconds();
        if (rows.n)
            LA_TRY(la_tfb_predict(&c->session, &rows, choice.sigma, options.networks, options.seed,
                                  side->probs, err));
        if (s == LA_SIDE_TEST)
            row->seconds_predict = la_seconds() - start;
    }
    return la_compare_rate_probs(c, row, err);
}

LA_COMPARE_RUN(ensemble) {
    const la_compare_options *o = c->options;
    la_compare_side *test = &c->sides[LA_SIDE_TEST], *ood = &c->sides[LA_SIDE_OOD];
    la_ensemble ensemble = {.session = &c->session,
                            .run = &o->run,
                            .base = o->base,
                            .adapters = o->adapters,
                            .n_adapters = o->n_adapters,
                            .choice_ids = c->session.choice_ids,
                            .n_choices = c->session.choice_ids ? c->model->n_classes : 0};
    la_comparison_row *row = la_compare_row(c, kind->name, 0);
    LA_TRY(la_ensemble_predict(&ensemble, &test->rows, test->probs, &ood->rows, ood->probs,
                               &row->seconds_predict, err));
    snprintf(row->note, sizeof row->note, "%d adapters", o->n_adapters);
    return la_compare_rate_probs(c, row, err);
}

#include "output/export.h"

#include <math.h>

const la_export_format la_export_formats[LA_EXPORT_FORMATS] = {
    {"vllm", la_export_vllm},
    {"json", la_export_json},
};

bool la_export_temperature(const la_posterior *p, double *temperature) {
    const la_choice *choice = &p->choice;
    bool plain = choice->method == LA_METHOD_MAP;
    const la_candidate *scaling = &choice->candidates[LA_METHOD_TEMPERATURE];
    *temperature = plain ? 1 : scaling->temperature;
    return choice->guarded && p->likelihood->averages && (plain || isfinite(scaling->nll));
}

la_status la_export_resolve(la_export *e, la_error *err) {
    const la_posterior *p = e->posterior;
    const la_choice *choice = &p->choice;
    la_recipe *recipes = e->recipes;
    /* the best Laplace candidate's scale is in the precisions */
    double stored = choice->candidates[la_choice_laplace(choice)].prior_scale;
    recipes[0] = (la_recipe){.kind = la_predictive_find(p->likelihood->predictives, "mc"),
                             .prior_scale = 1,
                             .temperature = p->temperature,
                             .weight = 1};
    e->n_recipes = 1;
    if (choice->guarded)
        e->n_recipes = la_choice_recipes(p->likelihood, choice, choice->method, recipes);
    for (int64_t r = 0; r < e->n_recipes; r++) {
        if (!recipes[r].kind)
            return la_fail(err, LA_BAD_INPUT, "%s: its choice is none of %s", e->path,
                           p->likelihood->name);
        if (choice->guarded)
            recipes[r].prior_scale =
                recipes[r].kind->reads_covariance ? recipes[r].prior_scale / stored : 1;
    }
    bool several = choice->guarded && choice->method == LA_METHOD_AVERAGE;
    e->kind = several ? LA_AVERAGE_NAME : recipes[0].kind->label;
    return LA_OK;
}

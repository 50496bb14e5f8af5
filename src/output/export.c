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

int64_t la_export_recipes(const la_posterior *p, la_recipe *recipes) {
    const la_choice *choice = &p->choice;
    if (!choice->guarded) {
        recipes[0] =
            (la_recipe){la_predictive_find(p->likelihood->predictives, "mc"), 1, p->temperature, 1};
        return 1;
    }
    /* the best Laplace candidate's scale is in the precisions */
    double stored = choice->candidates[la_choice_laplace(choice)].prior_scale;
    int64_t n = la_choice_recipes(p->likelihood, choice, choice->method, recipes);
    for (int64_t r = 0; r < n; r++)
        recipes[r].prior_scale =
            recipes[r].kind->reads_covariance ? recipes[r].prior_scale / stored : 1;
    return n;
}

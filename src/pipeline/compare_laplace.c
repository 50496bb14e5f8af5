/* Posteriors: each structure's, as the marginal likelihood has it and as the held-out rows do, and
 * what the guard makes of one. */
#include "base/memory.h"
#include "pipeline/compare_method.h"

#include <stdlib.h>

/* Predictions of a side by n recipes of a structure; scores are their mutual information. */
static la_status answer(const la_comparing *c, int at, const la_recipe *recipes, int64_t n,
                        la_compare_side *side, la_error *err) {
    const la_evaluation *e = &side->e;
    la_prediction *predictions = la_alloc((size_t)e->n, sizeof *predictions, err);
    la_output_rows rows = {.n = e->n,
                           .n_outputs = e->n_classes,
                           .n_scales = e->n_scales,
                           .outputs = e->logits,
                           .scales = c->scales,
                           .cov = e->cov[at],
                           .streams = side->rows.streams};
    la_draw_options draws = {.samples = c->options->samples, .seed = c->options->seed};
    if (!predictions)
        return err->status;
    for (int64_t i = 0; i < e->n; i++)
        predictions[i].probs = side->probs + i * e->n_classes;
    la_status status = la_answer_rows(c->model->likelihood, recipes, n, &rows, &draws,
                                      c->session.team, predictions, err);
    for (int64_t i = 0; i < e->n; i++)
        side->scores[i] = predictions[i].mutual_information;
    free(predictions);
    return status;
}

static la_status add_recipes(la_comparing *c, const char *name, int at, const la_recipe *recipes,
                             int64_t n, bool information, la_error *err) {
    const la_structure *of = &c->structures[at];
    la_comparison_row *row = la_compare_row(c, name, of->seconds_passes + of->seconds_decompose);
    row->seconds_predict = c->sides[LA_SIDE_TEST].e.seconds[at];
    if (n == 1 && (recipes->prior_scale != 1 || recipes->temperature != 1))
        snprintf(row->note, sizeof row->note, "prior x %.3g, T %.3g%s", recipes->prior_scale,
                 recipes->temperature,
                 recipes->kind == &la_predictive_scalar ? ", scalar probit" : "");
    for (int s = 0; s < LA_SIDES; s++)
        if (c->sides[s].rows.n)
            LA_TRY(answer(c, at, recipes, n, &c->sides[s], err));
    return information ? la_compare_rate_scores(c, row, err) : la_compare_rate_probs(c, row, err);
}

static const la_recipe plain = {
    .kind = &la_predictive_mc, .prior_scale = 1, .temperature = 1, .weight = 1};

/* Recipe of a structure by the held-out rows. */
static la_recipe held_out_recipe(const la_comparing *c, int at) {
    la_recipe recipe;
    const la_choice *choice = &c->choices[at];
    la_choice_recipes(c->model->likelihood, choice, la_choice_laplace(choice), &recipe);
    return recipe;
}

LA_COMPARE_RUN(structure) {
    int at = la_compare_find(c, kind->structure);
    char name[40];
    if (at < 0)
        return LA_OK;
    LA_TRY(add_recipes(c, kind->name, at, &plain, 1, false, err));
    if (!c->options->val)
        return LA_OK;
    la_recipe chosen = held_out_recipe(c, at);
    snprintf(name, sizeof name, "%s, held-out", kind->name);
    return add_recipes(c, name, at, &chosen, 1, false, err);
}

LA_COMPARE_RUN(guard) {
    if (c->guarded < 0)
        return LA_OK;
    const la_choice *choice = &c->choices[c->guarded];
    la_comparison_row *row = &c->to->rows[c->to->n];
    la_recipe recipes[LA_SETTINGS_MOST];
    int64_t n = la_choice_recipes(c->model->likelihood, choice, choice->method, recipes);
    if (recipes->kind->reads_covariance || recipes->bias || n > 1)
        LA_TRY(add_recipes(c, kind->name, c->guarded, recipes, n, false, err));
    else if (choice->method == LA_METHOD_MAP)
        LA_TRY(la_compare_map(c, kind, err));
    else
        LA_TRY(la_compare_temperature(c, kind, err));
    const la_structure *structure = &c->structures[c->guarded];
    snprintf(row->note, sizeof row->note, "%s: %s", la_structure_name(structure->kind),
             la_method_names[choice->method]);
    if (choice->method == LA_METHOD_AVERAGE)
        snprintf(row->note, sizeof row->note, "%s: average of %lld settings",
                 la_structure_name(structure->kind), (long long)choice->n_settings);
    row->seconds_fit =
        structure->seconds_passes + structure->seconds_decompose + c->on_val.seconds[c->guarded];
    return LA_OK;
}

la_status la_compare_information(la_comparing *c, la_error *err) {
    int at = c->guarded >= 0 ? c->guarded : 0;
    la_recipe recipe = plain;
    char name[40];
    if (c->options->val) {
        recipe = held_out_recipe(c, at);
        recipe.kind = plain.kind;
    }
    snprintf(name, sizeof name, "%s, information", la_structure_name(c->structures[at].kind));
    return add_recipes(c, name, at, &recipe, 1, true, err);
}

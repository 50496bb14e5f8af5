#include "pipeline/compare.h"
#include "pipeline/compare_method.h"
#include "pipeline/tfb_job.h"

#include <stdlib.h>

enum {
    ROWS_MOST = 40,
    /* rows of the exact structure's Gram matrix above which it is made only when asked for */
    GRAM_CHEAP = 4000
};

/* ---- methods ---- */

static bool takes_long(const la_comparing *c, const la_structure_kind *structure) {
    return structure && structure->joint && !structure->only_params &&
           c->calib.n * c->session.n_rhs > GRAM_CHEAP;
}

const la_compare_kind la_compare_kinds[] = {
    {.name = "map", .run = la_compare_map},
    {.name = "temperature", .needs = LA_NEEDS_HELD_OUT, .run = la_compare_temperature},
    {.name = "bias", .needs = LA_NEEDS_HELD_OUT, .run = la_compare_bias},
    {.name = "vector", .needs = LA_NEEDS_HELD_OUT, .run = la_compare_vector},
    {.name = "stacking", .needs = LA_NEEDS_HELD_OUT, .run = la_compare_stacking},
#define LA_STRUCTURE(enumerator, id, text)                                                         \
    {.name = text, .structure = &la_structure_##id, .run = la_compare_structure},
#define LA_STRUCTURE_TRAINED(...)
#include "bayes/structures.def"
#undef LA_STRUCTURE
    {.name = "guard",
     .needs = LA_NEEDS_HELD_OUT,
     .reads = LA_READS_CURVATURE,
     .run = la_compare_guard},
    {.name = "tfb", .needs = LA_NEEDS_LORA, .run = la_compare_tfb},
    {.name = "ensemble",
     .needs = LA_NEEDS_ADAPTERS,
     .reads = LA_READS_ADAPTERS,
     .run = la_compare_ensemble},
    {.name = "entropy", .scores = true, .run = la_compare_entropy},
    {.name = "energy", .scores = true, .run = la_compare_energy},
    {.name = "mahalanobis",
     .scores = true,
     .needs = LA_NEEDS_STATES,
     .run = la_compare_mahalanobis},
    {.name = "adue", .scores = true, .needs = LA_NEEDS_STATES, .run = la_compare_adue},
};

#define EACH_KIND(kind)                                                                            \
    for (const la_compare_kind *kind = la_compare_kinds;                                           \
         kind < la_compare_kinds + LA_COMPARE_METHODS; kind++)

/* True for a method given by name. */
static bool listed(uint64_t methods, const la_compare_kind *kind) {
    return methods & (uint64_t)1 << (kind - la_compare_kinds);
}

bool la_compare_wanted(const la_comparing *c, const la_compare_kind *kind) {
    return !c->options->methods || listed(c->options->methods, kind);
}

unsigned la_compare_reads(uint64_t methods) {
    unsigned reads = 0;
    EACH_KIND(kind)
    if (!methods || listed(methods, kind))
        reads |= kind->reads | (kind->structure && kind->structure->has_inputs ? LA_READS_KRON : 0);
    return reads;
}

static unsigned needs_of(const la_compare_kind *kind) {
    bool last = kind->structure && kind->structure->only_params;
    return kind->needs | (last ? LA_NEEDS_TRAINED_HEAD : 0);
}

static unsigned needs_of_wanted(const la_comparing *c) {
    unsigned needs = 0;
    EACH_KIND(kind)
    if (la_compare_wanted(c, kind))
        needs |= needs_of(kind);
    return needs;
}

/* ---- what they need ---- */

/* Kind of the adapter, where TFB does not support it. */
static const char *title_of(const la_adapter *adapter) {
    bool of_peft = adapter->kind->library == &la_peft;
    return adapter->next ? "one of several adapters"
           : of_peft     ? adapter->kind->name
                         : "of the `adapters` library";
}

static bool has_trained_last_layer(const la_model *model) {
    return model->head[model->n_head - 1].block >= 0 &&
           model->blocks[model->head[model->n_head - 1].block].wanted;
}

/* Needs of a method that are missing. */
static unsigned lacks(const la_comparing *c, const la_compare_kind *kind) {
    unsigned has = LA_NEEDS_STATES;
    has |= c->options->val ? LA_NEEDS_HELD_OUT : 0;
    has |= c->options->n_adapters > 1 ? LA_NEEDS_ADAPTERS : 0;
    has |= has_trained_last_layer(c->model) ? LA_NEEDS_TRAINED_HEAD : 0;
    has |= la_tfb_possible(c->model) ? LA_NEEDS_LORA : 0;
    return needs_of(kind) & ~has;
}

static la_status fail_lacking(const la_comparing *c, const la_compare_kind *kind, la_error *err) {
    const char *name = kind->name;
    switch (lacks(c, kind)) {
    case LA_NEEDS_HELD_OUT:
        return la_fail(err, LA_USAGE, "--methods %s needs --val FILE with held-out rows", name);
    case LA_NEEDS_ADAPTERS:
        return la_fail(err, LA_USAGE, "--methods %s needs several --adapter DIR", name);
    case LA_NEEDS_TRAINED_HEAD:
        return la_fail(err, LA_BAD_INPUT,
                       "--methods %s: the adapter holds no trained head (modules_to_save)", name);
    case LA_NEEDS_LORA:
        return la_fail(err, LA_UNSUPPORTED, "--methods %s: is for LoRA, and %s is %s", name,
                       c->model->adapter.config_path, title_of(&c->model->adapter));
    default:
        return LA_OK;
    }
}

/* A method that was asked for by name and lacks a need is an error, not a missing row. */
static la_status check_possible(const la_comparing *c, la_error *err) {
    if (!c->model->likelihood->is_softmax)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: %s; compare is of classifiers, take fit, predict and report",
                       *c->options->adapters, c->model->likelihood->title);
    EACH_KIND(kind)
    if (listed(c->options->methods, kind))
        LA_TRY(fail_lacking(c, kind, err));
    return LA_OK;
}

/* A slow structure that the guard is of is there anyway. */
static bool is_included(const la_comparing *c, const la_compare_kind *kind) {
    bool slow = !c->options->methods && takes_long(c, kind->structure);
    return la_compare_wanted(c, kind) && !lacks(c, kind) &&
           !(slow && la_compare_find(c, kind->structure) < 0);
}

/* ---- opening ---- */

/* True when the guard is of that structure. */
static bool is_guarded(const la_comparing *c, const la_compare_kind *kind) {
    return la_compare_reads(c->options->methods) & LA_READS_CURVATURE &&
           kind->structure == la_structure_of(c->options->curvature);
}

/* The structures that may be open at once, at least one: which of them the adapter has, and whether
 * the rows are few enough for the exact one, is not known before the model and the rows are. */
static int list_kinds(const la_comparing *c, const la_structure_kind *kinds[LA_CURVATURES]) {
    int n = 0;
    EACH_KIND(kind)
    if (kind->structure && (la_compare_wanted(c, kind) || is_guarded(c, kind)))
        kinds[n++] = kind->structure;
    if (!n)
        kinds[n++] = &la_structure_kron;
    return n;
}

static la_status open_session(la_comparing *c, la_error *err) {
    const la_compare_options *options = c->options;
    int32_t *ids = NULL;
    int64_t n_ids = 0;
    if (options->choices && options->choice_ids)
        return la_fail(err, LA_USAGE, "give --choices or --choice-ids, not both");
    if (options->choice_ids)
        LA_TRY(la_choice_ids_parse(options->choice_ids, &ids, &n_ids, err));
    const la_structure_kind *kinds[LA_CURVATURES];
    int n_kinds = list_kinds(c, kinds);
    la_session_options session = {.run = options->run,
                                  .base = options->base,
                                  .adapter = options->adapters[0],
                                  .params = LA_PARAMS_LORA_HEAD,
                                  .head_optional = true,
                                  .choices = options->choices,
                                  .choice_ids = ids,
                                  .n_choices = n_ids,
                                  .all_inputs = true,
                                  .kind = kinds[0],
                                  .beside = kinds + 1,
                                  .n_beside = n_kinds - 1,
                                  .n_scales = LA_SELECTION_SCALES,
                                  .kron = options->kron};
    la_status status = la_session_open(&session, &c->session, err);
    c->model = &c->session.workers[0].model;
    free(ids);
    return status;
}

static la_status read_rows(la_comparing *c, la_error *err) {
    const la_compare_options *o = c->options;
    la_row_set *test = &c->sides[LA_SIDE_TEST].rows, *ood = &c->sides[LA_SIDE_OOD].rows;
    LA_TRY(
        la_row_set_read(&c->session, &o->run, o->calib, c->prompt, "calibration", &c->calib, err));
    LA_TRY(la_row_set_read(&c->session, &o->run, o->test, c->prompt, "test", test, err));
    if (o->val)
        LA_TRY(la_row_set_read(&c->session, &o->run, o->val, c->prompt, "held-out", &c->val, err));
    return o->ood ? la_row_set_read(&c->session, &o->run, o->ood, c->prompt, NULL, ood, err)
                  : LA_OK;
}

static void list_structures(la_comparing *c) {
    c->guarded = -1;
    EACH_KIND(kind) {
        bool guarded = is_guarded(c, kind) && !lacks(c, kind);
        if (!kind->structure || !(guarded || is_included(c, kind)))
            continue;
        if (guarded)
            c->guarded = c->n_structures;
        c->structures[c->n_structures++] = (la_structure){
            .kind = kind->structure,
            .kron = c->options->kron,
            .params = kind->structure->only_params ? kind->structure->params : LA_PARAMS_LORA};
    }
}

int la_compare_find(const la_comparing *c, const la_structure_kind *structure) {
    for (int i = 0; i < c->n_structures; i++)
        if (c->structures[i].kind == structure)
            return i;
    return -1;
}

/* ---- the passes ---- */

static la_status fit_structures(la_comparing *c, la_error *err) {
    la_row_job rows = la_row_job_all(&c->calib, &c->options->run.log);
    LA_TRY(la_structures_fit(&c->session, c->structures, c->n_structures, &rows, NULL, err));
    for (int i = 0; i < c->n_structures; i++) {
        la_posterior *p = &c->structures[i].posterior;
        p->provenance.adapter_path = c->options->adapters[0];
        LA_TRY(la_prior_choose(p, c->structures[i].kind->joint ? LA_PRIOR_GLOBAL : LA_PRIOR_MODULE,
                               0, err));
    }
    if (needs_of_wanted(c) & LA_NEEDS_STATES)
        LA_TRY(
            la_structures_evaluate(&c->session, NULL, 0, &rows, 0, NULL, true, &c->on_calib, err));
    return LA_OK;
}

static void add_scale(la_comparing *c, double scale) {
    for (int i = 0; i < c->n_scales; i++)
        if (c->scales[i] == scale)
            return;
    c->scales[c->n_scales++] = scale;
}

/* The held-out rows choose a scale and a temperature for every structure. */
static la_status choose(la_comparing *c, la_error *err) {
    double scales[LA_SELECTION_SCALES];
    const la_evaluation *e = &c->on_val;
    la_selection_scales(scales);
    add_scale(c, 1);
    if (!c->options->val)
        return LA_OK;
    la_row_job val = la_row_job_all(&c->val, &c->options->run.log);
    LA_TRY(la_structures_evaluate(&c->session, c->structures, c->n_structures, &val,
                                  LA_SELECTION_SCALES, scales, true, &c->on_val, err));
    for (int i = 0; i < c->n_structures; i++) {
        la_held_out rows = {.n = e->n,
                            .n_classes = e->n_classes,
                            .n_scales = LA_SELECTION_SCALES,
                            .logits = e->logits,
                            .labels = c->val.labels,
                            .streams = c->val.streams,
                            .scales = scales,
                            .cov = e->cov[i]};
        LA_TRY(c->model->likelihood->select(c->session.team, &rows, &c->choices[i], err));
        add_scale(c, c->choices[i].candidates[la_choice_laplace(&c->choices[i])].prior_scale);
        add_scale(c, c->choices[i].candidates[c->choices[i].method].prior_scale);
    }
    const la_choice *guard = c->guarded < 0 ? NULL : &c->choices[c->guarded];
    for (int64_t s = 0; guard && guard->method == LA_METHOD_AVERAGE && s < guard->n_settings; s++)
        add_scale(c, guard->settings[s].prior_scale);
    return LA_OK;
}

static la_status evaluate(la_comparing *c, la_error *err) {
    for (la_compare_side *side = c->sides; side < c->sides + LA_SIDES; side++) {
        la_row_job rows = la_row_job_all(&side->rows, &c->options->run.log);
        if (rows.n)
            LA_TRY(la_structures_evaluate(&c->session, c->structures, c->n_structures, &rows,
                                          c->n_scales, c->scales, true, &side->e, err));
    }
    return LA_OK;
}

static la_status allocate(la_comparing *c, la_error *err) {
    size_t classes = (size_t)c->model->n_classes;
    for (la_compare_side *side = c->sides; side < c->sides + LA_SIDES; side++) {
        side->probs = la_alloc((size_t)side->rows.n * classes, sizeof *side->probs, err);
        side->scores = la_alloc((size_t)side->rows.n, sizeof *side->scores, err);
    }
    c->to->rows = la_alloc(ROWS_MOST, sizeof *c->to->rows, err);
    return err->status;
}

/* True when the posterior of the information has a row itself. */
static bool has_information(const la_comparing *c) {
    const la_structure *structure = &c->structures[c->guarded >= 0 ? c->guarded : 0];
    bool wanted = false;
    EACH_KIND(kind)
    wanted |= c->n_structures && kind->structure == structure->kind && la_compare_wanted(c, kind);
    return wanted;
}

/* Methods with probabilities, then scores. */
static la_status run_methods(la_comparing *c, la_error *err) {
    for (int scores = 0; scores < 2; scores++) {
        if (scores && has_information(c))
            LA_TRY(la_compare_information(c, err));
        EACH_KIND(kind)
        if (kind->scores == scores && is_included(c, kind))
            LA_TRY(kind->run(c, kind, err));
    }
    return LA_OK;
}

static la_status run(la_comparing *c, la_error *err) {
    const la_compare_options *o = c->options;
    LA_TRY(open_session(c, err));
    LA_TRY(check_possible(c, err));
    if (o->template_path)
        LA_TRY(la_template_read(o->template_path, &c->prompt, err));
    LA_TRY(read_rows(c, err));
    *c->to = (la_comparison){.calib = o->calib,
                             .val = o->val,
                             .test = o->test,
                             .ood = o->ood,
                             .n_calib = c->calib.n,
                             .n_val = c->val.n,
                             .n_test = c->sides[LA_SIDE_TEST].rows.n,
                             .n_ood = c->sides[LA_SIDE_OOD].rows.n,
                             .n_classes = c->model->n_classes};
    list_structures(c);
    LA_TRY(allocate(c, err));
    LA_TRY(fit_structures(c, err));
    LA_TRY(choose(c, err));
    LA_TRY(evaluate(c, err));
    return run_methods(c, err);
}

static void close_comparing(la_comparing *c) {
    la_evaluation_free(&c->on_calib);
    la_evaluation_free(&c->on_val);
    la_row_set_free(&c->calib);
    la_row_set_free(&c->val);
    for (la_compare_side *side = c->sides; side < c->sides + LA_SIDES; side++) {
        la_evaluation_free(&side->e);
        la_row_set_free(&side->rows);
        free(side->probs);
        free(side->scores);
    }
    la_structures_free(c->structures, c->n_structures);
    la_template_free(c->prompt);
    la_session_close(&c->session);
}

la_status la_compare(const la_compare_options *options, la_comparison *comparison, la_error *err) {
    la_comparing c = {.options = options, .to = comparison};
    *err = (la_error){0};
    *comparison = (la_comparison){0};
    la_status status = run(&c, err);
    close_comparing(&c);
    if (status != LA_OK) {
        free(comparison->rows);
        *comparison = (la_comparison){0};
    }
    return status;
}

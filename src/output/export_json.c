/* All that a posterior says of confidence but its curvature: laplora.export/1. */
#include "output/escape.h"
#include "output/export.h"
#include "output/figures.h"

/* NULL (no memory) is passed on: setting it fails, and that is noticed. */
static json_t *finish(json_t *value, int bad) {
    if (!bad)
        return value;
    json_decref(value);
    return NULL;
}

/* Names, or numbers where a class has none; of a regression none. */
static json_t *classes_array(const la_posterior *p) {
    const la_labels *labels = &p->provenance.labels;
    json_t *array = json_array();
    int bad = 0;
    for (int64_t c = 0; c < (p->noise_variance > 0 ? 0 : p->n_classes); c++)
        bad |= json_array_append_new(array, c < labels->count ? json_string(labels->names[c])
                                                              : json_sprintf("%lld", (long long)c));
    return finish(array, bad);
}

static json_t *choices_array(const la_posterior *p) {
    json_t *array = json_array();
    int bad = 0;
    for (int64_t c = 0; c < p->n_classes; c++)
        bad |= json_array_append_new(array, json_integer(p->provenance.choice_ids[c]));
    return finish(array, bad);
}

/* null: the logits are as they are */
static json_t *terms_array(const double *terms, int64_t n_classes) {
    json_t *array = terms ? json_array() : json_null();
    int bad = 0;
    for (int64_t c = 0; terms && c < n_classes; c++)
        bad |= json_array_append_new(array, json_real(terms[c]));
    return finish(array, bad);
}

static json_t *settings_array(const la_export *e) {
    json_t *array = json_array();
    int bad = 0;
    for (const la_recipe *r = e->recipes; r < e->recipes + e->n_recipes; r++)
        bad |= json_array_append_new(
            array,
            json_pack("{s:s, s:f, s:f, s:f, s:o, s:o}", "predictive", r->kind->name, "prior_scale",
                      r->prior_scale, "temperature", r->temperature, "weight", r->weight,
                      "class_terms", terms_array(r->bias, e->posterior->n_classes), "class_weights",
                      terms_array(r->class_weight, e->posterior->n_classes)));
    return finish(array, bad);
}

static json_t *prior_object(const la_posterior *p) {
    json_t *blocks = json_object();
    int bad = 0;
    for (int64_t b = 0; b < p->n_blocks; b++)
        bad |=
            json_object_set_new(blocks, p->blocks[b].name, json_real(p->blocks[b].prior_precision));
    return json_pack("{s:s, s:o, s:o}", "kind", la_prior_names[p->prior], "value",
                     la_prior_is_one(p->prior) ? json_real(p->prior_precision) : json_null(),
                     "blocks", finish(blocks, bad));
}

static json_t *digests_object(const la_export *e) {
    const la_provenance *from = &e->posterior->provenance;
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "posterior", e->digest, "base", from->base_digest,
                     "adapter", from->adapter_digest, "tokenizer", from->tokenizer_digest, "data",
                     from->data_digest);
}

la_status la_export_json(const la_export *e, FILE *stream, la_error *err) {
    const la_posterior *p = e->posterior;
    const char *task = p->likelihood->task;
    double temperature;
    bool has_one = la_export_temperature(p, &temperature);
    char model[LA_MODEL_TEXT];
    LA_TRY(la_posterior_model(p, model, err));
    const double *terms = e->n_recipes == 1 ? e->recipes->bias : NULL;
    const double *weights = e->n_recipes == 1 ? e->recipes->class_weight : NULL;
    json_t *root = json_pack("{s:s, s:s, s:s, s:s, s:I, s:o, s:s, s:o, s:o, s:o, s:o}", "schema",
                             "laplora.export/1", "version", LAPLORA_VERSION, "model", model, "task",
                             task ? task : "classes", "n_classes", (json_int_t)p->n_classes,
                             "classes", classes_array(p), "confidence_kind", e->kind, "temperature",
                             has_one ? json_real(temperature) : json_null(), "class_terms",
                             terms_array(terms, p->n_classes), "class_weights",
                             terms_array(weights, p->n_classes), "settings", settings_array(e));
    int bad = !root;
    bad |= json_object_set_new(root, "guard", la_choice_json(&p->choice, p->n_classes));
    bad |= json_object_set_new(root, "prior", prior_object(p));
    if (p->noise_variance > 0)
        bad |= json_object_set_new(root, "noise_variance", json_real(p->noise_variance));
    bad |= json_object_set_new(
        root, "curvature",
        json_pack("{s:s, s:s, s:s}", "structure", la_curvature_names[p->curvature], "kron",
                  la_kron_names[p->kron], "params", la_params_names[p->params]));
    if (p->provenance.choice_ids)
        bad |= json_object_set_new(root, "choice_ids", choices_array(p));
    if (p->provenance.template_text)
        bad |= json_object_set_new(root, "template", json_string(p->provenance.template_text));
    bad |= json_object_set_new(root, "max_length", json_integer(p->provenance.max_length));
    bad |= json_object_set_new(root, "thresholds",
                               e->threshold ? json_pack("[O]", e->threshold) : json_array());
    bad |= json_object_set_new(root, "digests", digests_object(e));
    /* json_dumps would lose keys when memory runs out just then */
    bad |= !bad && la_json_write(root, JSON_INDENT(1), stream) && !ferror(stream);
    json_decref(root);
    if (bad)
        return la_fail(err, LA_RESOURCE, "out of memory for the export");
    fputc('\n', stream);
    return LA_OK;
}

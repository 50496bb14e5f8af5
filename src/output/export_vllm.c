/* The configuration of vLLM's pooler: it answers activation((f - logit_mean) / logit_sigma), one
 * number each for all classes and rows (vllm/config/pooler.py). Softmax does not see a common
 * shift, so logit_mean is 0. */
#include "output/escape.h"
#include "output/export.h"

/* Accuracy of one temperature in place of what predict does, by the rows that chose both. */
static void say_accuracy(const la_export *e) {
    const la_choice *choice = &e->posterior->choice;
    const la_candidate *of = choice->candidates;
    la_method method = choice->method;
    if (method == LA_METHOD_MAP || method == LA_METHOD_TEMPERATURE)
        return;
    la_warn(e->log,
            "vllm: one temperature in place of %s: mean NLL %.4f on the %lld held-out rows that "
            "chose it; %.4f with laplora predict%s, %.4f without a temperature",
            la_method_names[method], of[LA_METHOD_TEMPERATURE].nll, (long long)choice->n,
            of[method].nll, method == LA_METHOD_AVERAGE ? " (each row left out)" : "",
            of[LA_METHOD_MAP].nll);
}

static void say_answers(const la_export *e) {
    bool covariance = false, drawn = false, biased = false, weighed = false;
    for (int64_t r = 0; r < e->n_recipes; r++) {
        biased |= e->recipes[r].bias != NULL;
        weighed |= e->recipes[r].class_weight != NULL;
        covariance |= e->recipes[r].kind->reads_covariance;
        drawn |= e->recipes[r].kind->draws == LA_DRAWS_ANSWER;
    }
    if (e->n_recipes > 1)
        la_warn(e->log, "vllm: not expressed: the mean over %lld settings",
                (long long)e->n_recipes);
    if (biased)
        la_warn(e->log,
                "vllm: not expressed: class biases%s, which change the logits%s; answers are the "
                "MAP model's",
                weighed ? " and weights" : "", e->n_recipes > 1 ? " under some of them" : "");
    if (covariance)
        la_warn(e->log,
                "vllm: not expressed: the covariance of each row%s, and with it variance "
                "and mutual_information",
                drawn ? ", Monte Carlo draws from it" : "");
}

static void say_rest(const la_export *e) {
    const la_posterior *p = e->posterior;
    const la_provenance *from = &p->provenance;
    if (p->noise_variance > 0)
        la_warn(e->log,
                "vllm: not expressed: the noise variance %.4g, interval_90; the mean alone is "
                "served, as the logit",
                p->noise_variance);
    if (p->ood.means)
        la_warn(e->log, "vllm: not expressed: the distances to the calibration rows");
    if (p->adue.weight)
        la_warn(e->log, "vllm: not expressed: the error head's adue");
    if (e->threshold)
        la_warn(e->log, "vllm: not expressed: the threshold; it is of the confidence of laplora "
                        "predict, so choose one anew on rows that vLLM answered");
    if (from->choice_ids)
        la_warn(e->log,
                "vllm: not expressed: classes are %lld answer tokens of a causal LM (ids %d, %d, "
                "..); name them to vLLM by --hf-overrides classifier_from_token",
                (long long)p->n_classes, (int)from->choice_ids[0], (int)from->choice_ids[1]);
    if (from->template_text)
        la_warn(e->log, "vllm: not expressed: the prompt's template; fill it in before asking");
}

la_status la_export_vllm(const la_export *e, FILE *stream, la_error *err) {
    const la_posterior *p = e->posterior;
    bool regression = p->noise_variance > 0;
    double temperature = 1;
    if (!regression && !la_export_temperature(p, &temperature))
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: no held-out rows chose a temperature, and vLLM's pooler takes nothing "
                       "else of a posterior; fit with --val FILE or --heldout, or export --to json",
                       e->path);
    if (!regression)
        say_accuracy(e);
    say_answers(e);
    say_rest(e);
    json_t *root = json_pack("{s:f, s:f}", "logit_mean", 0.0, "logit_sigma", temperature);
    int bad = !root;
    if (regression) /* of one output vLLM takes the sigmoid else */
        bad |= json_object_set_new(root, "use_activation", json_false());
    bad |= !bad && la_json_write(root, JSON_COMPACT, stream) && !ferror(stream);
    json_decref(root);
    if (bad)
        return la_fail(err, LA_RESOURCE, "out of memory for the export");
    fputc('\n', stream);
    return LA_OK;
}

/* Threshold files, laplora.threshold/1: written for machines and people, read by predict. */
#include "base/memory.h"
#include "base/visible.h"
#include "input/json.h"
#include "monitor/threshold.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA "laplora.threshold/1"

enum { FILE_MOST = 64 << 20, CLASSES_MOST = 1 << 20 };

/* ---- writing ---- */

static void write_number(FILE *stream, const char *name, double number) {
    fprintf(stream, ",\"%s\":", name);
    if (isnan(number))
        fputs("null", stream);
    else
        fprintf(stream, "%.12g", number);
}

static void write_count(FILE *stream, const char *name, int64_t count) {
    fprintf(stream, ",\"%s\":", name);
    if (count < 0)
        fputs("null", stream);
    else
        fprintf(stream, "%lld", (long long)count);
}

static void write_text(FILE *stream, const char *text) {
    json_t *string = json_string(text);
    char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    if (quoted)
        la_visible_json(quoted, strlen(quoted), stream);
    else
        fputs("null", stream);
    free(quoted);
    json_decref(string);
}

static double share(int64_t part, int64_t all) {
    return all ? (double)part / (double)all : NAN;
}

static void write_counts(FILE *stream, const la_class_threshold *t) {
    write_count(stream, "n", t->n);
    write_count(stream, "n_accepted", t->n_accepted);
    write_count(stream, "errors_accepted", t->n_errors);
    write_number(stream, "coverage", share(t->n_accepted, t->n));
    write_number(stream, "error_rate", share(t->n_errors, t->n_accepted));
    write_number(stream, "error_upper", t->upper);
    write_count(stream, "rows_needed", t->n_needed);
}

static const char *class_name(const la_answers *answers, int64_t class) {
    return class < answers->n_names ? answers->names[class] : NULL;
}

static const char *sign_of(la_score score) {
    return la_scores[score].low ? "<=" : ">=";
}

void la_threshold_json(const la_threshold *t, const la_answers *answers, FILE *stream) {
    const la_threshold_options *o = &t->options;
    bool limited = o->limited != LA_SCORE_NONE;
    fprintf(stream, "{\"schema\":\"%s\",\"kind\":\"%s\",\"score\":\"%s%s%s\"", SCHEMA,
            o->by_cost ? "cost" : "risk", la_scores[o->score].name, limited ? "+" : "",
            limited ? la_scores[o->limited].name : "");
    write_number(stream, "threshold", t->all.value);
    fprintf(stream, ",\"accept\":\"%s\"", sign_of(o->score));
    if (limited)
        fprintf(stream, ",\"limit\":{\"score\":\"%s\",\"accept\":\"%s\",\"value\":%.12g}",
                la_scores[o->limited].name, sign_of(o->limited), o->limit);
    write_number(stream, "target_error", o->by_cost ? NAN : o->target_error);
    write_number(stream, "delta", o->by_cost ? NAN : o->delta);
    write_counts(stream, &t->all);
    if (o->by_cost) {
        const double *c = t->cost.cost_interval, *v = t->value_interval;
        write_number(stream, "cost_error", o->costs.error);
        write_number(stream, "cost_review", o->costs.review);
        write_number(stream, "cost", t->cost.cost);
        fprintf(stream, ",\"cost_ci\":[%.12g,%.12g],\"threshold_ci\":[", c[0], c[1]);
        for (int end = 0; end < 2; end++)
            fprintf(stream, isnan(v[end]) ? "%snull" : "%s%.12g", end ? "," : "", v[end]);
        fputs("]", stream);
    }
    fputs(",\"classes\":[", stream);
    for (int64_t c = 0; c < t->n_classes; c++) {
        fprintf(stream, "%s{\"class\":%lld", c ? "," : "", (long long)c);
        if (class_name(answers, c)) {
            fputs(",\"label\":", stream);
            write_text(stream, class_name(answers, c));
        }
        write_number(stream, "threshold", t->classes[c].value);
        write_number(stream, "delta", t->classes[c].delta);
        write_counts(stream, &t->classes[c]);
        fputs("}", stream);
    }
    fputs("],\"warnings\":[", stream);
    for (int w = 0; w < t->n_warnings; w++) {
        fputs(w ? "," : "", stream);
        write_text(stream, t->warnings[w]);
    }
    fprintf(stream, "],\"provenance\":{\"version\":\"%s\",\"predictions\":\"%s\",\"model\":",
            LAPLORA_VERSION, answers->digest);
    fprintf(stream, *answers->model ? "\"%s\"" : "null", answers->model);
    fprintf(stream, *answers->kind ? ",\"confidence_kind\":\"%s\"" : ",\"confidence_kind\":null",
            answers->kind);
    write_count(stream, "n_unlabelled", answers->n_unlabelled);
    write_count(stream, "n_errors", answers->n_errors);
    write_count(stream, "n_held_out", answers->seen.n_held_out);
    write_count(stream, "n_calibration", answers->seen.n_calibration);
    fputs("}}\n", stream);
}

static void write_class_rows(const la_threshold *t, const la_answers *answers, FILE *stream) {
    fprintf(stream, "  %-20s %10s %10s %10s %10s %10s\n", "class", "threshold", "rows", "accepted",
            "errors", "at most");
    for (int64_t c = 0; c < t->n_classes; c++) {
        const la_class_threshold *own = &t->classes[c];
        char number[24], name[64];
        snprintf(number, sizeof number, "%lld", (long long)c);
        la_visible(class_name(answers, c) ? class_name(answers, c) : number, name, sizeof name);
        fprintf(stream, "  %-20s", name);
        if (isnan(own->value) && own->n_needed >= 0)
            fprintf(stream, " %10s %10lld %10d  needs about %lld rows\n", "none", (long long)own->n,
                    0, (long long)own->n_needed);
        else if (isnan(own->value))
            fprintf(stream, " %10s %10lld %10d%s\n", "none", (long long)own->n, 0,
                    own->n ? "  too often wrong" : "");
        else
            fprintf(stream, " %10.6g %10lld %10lld %10.4f %10.4f\n", own->value, (long long)own->n,
                    (long long)own->n_accepted, share(own->n_errors, own->n_accepted), own->upper);
    }
}

void la_threshold_text(const la_threshold *t, const la_answers *answers, FILE *stream) {
    const la_threshold_options *o = &t->options;
    const la_class_threshold *all = &t->all;
    const char *than = la_scores[o->score].low ? "at most" : "at least";
    if (!all->n_accepted)
        fputs("accept nothing: every answer is reviewed\n", stream);
    else if (t->classes)
        fprintf(stream, "accept answers whose %s is %s their class's threshold\n",
                la_scores[o->score].name, than);
    else
        fprintf(stream, "accept answers whose %s is %s %.10g\n", la_scores[o->score].name, than,
                all->value);
    if (o->limited != LA_SCORE_NONE)
        fprintf(stream, "review answers whose %s is above %.10g\n", la_scores[o->limited].name,
                o->limit);
    fprintf(stream, "  coverage    %.4f   %lld of %lld labelled rows\n",
            share(all->n_accepted, all->n), (long long)all->n_accepted, (long long)all->n);
    if (all->n_accepted)
        fprintf(stream, "  error rate  %.4f   %lld of them are wrong\n",
                share(all->n_errors, all->n_accepted), (long long)all->n_errors);
    if (o->by_cost)
        fprintf(stream, "  cost        %.6g a row, 95 %% interval %.6g to %.6g\n", t->cost.cost,
                t->cost.cost_interval[0], t->cost.cost_interval[1]);
    else if (all->n_accepted)
        fprintf(stream, "  promise     at most %g on new rows%s, but for a chance of %g\n",
                o->target_error, t->classes ? ", of every class" : "", o->delta);
    if (t->classes)
        write_class_rows(t, answers, stream);
    for (int w = 0; w < t->n_warnings; w++)
        fprintf(stream, "  warning: %s\n", t->warnings[w]);
}

/* ---- reading ---- */

static la_status bad(const char *path, const char *field, const char *expected, la_error *err) {
    return la_fail(err, LA_BAD_INPUT, "%s: \"%s\": expected %s, as laplora threshold writes it",
                   path, field, expected);
}

static la_score find_score(const char *name, size_t length) {
    for (int s = 0; s < LA_SCORES; s++)
        if (strlen(la_scores[s].name) == length && !memcmp(la_scores[s].name, name, length))
            return (la_score)s;
    return LA_SCORE_NONE;
}

static la_status read_scores(const json_t *root, const char *path, la_threshold_rule *rule,
                             la_error *err) {
    const char *name, *accept;
    LA_TRY(la_json_text(root, path, "score", true, &name, err));
    LA_TRY(la_json_text(root, path, "accept", true, &accept, err));
    size_t length = strcspn(name, "+");
    rule->score = find_score(name, length);
    rule->limited = LA_SCORE_NONE;
    if (rule->score == LA_SCORE_NONE)
        return bad(path, "score", "the name of a score", err);
    if (strcmp(accept, sign_of(rule->score)))
        return bad(path, "accept", sign_of(rule->score), err);
    if (!name[length])
        return LA_OK;
    rule->limited = find_score(name + length + 1, strlen(name + length + 1));
    const json_t *limit = json_object_get(root, "limit");
    if (rule->limited == LA_SCORE_NONE || rule->limited == rule->score)
        return bad(path, "score", "the names of two scores", err);
    if (!json_is_object(limit))
        return bad(path, "limit", "an object", err);
    return la_json_number(limit, path, "value", true, &rule->limit, err);
}

static la_status read_classes(const json_t *root, const char *path, la_threshold_rule *rule,
                              la_error *err) {
    const json_t *list = json_object_get(root, "classes"), *entry;
    size_t i;
    if (!list || json_is_null(list))
        return LA_OK;
    if (!json_is_array(list) || json_array_size(list) > CLASSES_MOST)
        return bad(path, "classes", "a list", err);
    rule->by_class = json_array_size(list) > 0;
    rule->n_classes = (int64_t)json_array_size(list);
    rule->classes = la_alloc(json_array_size(list), sizeof *rule->classes, err);
    if (!rule->classes)
        return err->status;
    json_array_foreach((json_t *)(uintptr_t)list, i, entry) {
        int64_t class = -1;
        if (!json_is_object(entry))
            return bad(path, "classes", "objects", err);
        LA_TRY(la_json_int(entry, path, "class", true, 0, CLASSES_MOST, &class, err));
        if (class != (int64_t)i)
            return bad(path, "class", "all classes in their order", err);
        rule->classes[i] = NAN;
        LA_TRY(la_json_number(entry, path, "threshold", false, &rule->classes[i], err));
    }
    return LA_OK;
}

static la_status read_origin(const json_t *root, const char *path, la_threshold_rule *rule,
                             la_error *err) {
    const json_t *from = json_object_get(root, "provenance");
    const char *model = NULL, *kind = NULL;
    if (!json_is_object(from))
        return bad(path, "provenance", "an object", err);
    LA_TRY(la_json_text(from, path, "model", false, &model, err));
    LA_TRY(la_json_text(from, path, "confidence_kind", false, &kind, err));
    snprintf(rule->model, sizeof rule->model, "%s", model ? model : "");
    snprintf(rule->kind, sizeof rule->kind, "%s", kind ? kind : "");
    return LA_OK;
}

static la_status read_rule(const json_t *root, const char *path, la_threshold_rule *rule,
                           la_error *err) {
    const json_t *schema = json_object_get(root, "schema");
    const char *text = json_is_string(schema) ? json_string_value(schema) : "";
    rule->value = NAN;
    if (!strncmp(text, SCHEMA, strlen(SCHEMA) - 1) && strcmp(text, SCHEMA))
        return la_fail(err, LA_UNSUPPORTED, "%s: is of another schema than %s; update laplora",
                       path, SCHEMA);
    if (strcmp(text, SCHEMA)) {
        char shown[64];
        la_visible(text, shown, sizeof shown);
        return la_fail(err, LA_BAD_INPUT,
                       "%s: \"schema\" is %s, expected " SCHEMA ", which laplora threshold --out "
                       "writes",
                       path, *text ? shown : "missing");
    }
    LA_TRY(read_scores(root, path, rule, err));
    if (!json_object_get(root, "threshold"))
        return bad(path, "threshold", "a number or null", err);
    LA_TRY(la_json_number(root, path, "threshold", false, &rule->value, err));
    LA_TRY(read_classes(root, path, rule, err));
    return read_origin(root, path, rule, err);
}

la_status la_threshold_load(const char *path, la_threshold_rule *rule, la_error *err) {
    json_t *root;
    *rule = (la_threshold_rule){0};
    if (la_json_load(path, FILE_MOST, &root, err) == LA_BAD_INPUT ||
        err->status == LA_UNSUPPORTED) {
        la_error inner = *err;
        *err = (la_error){0};
        return la_fail(err, inner.status,
                       "%s; expected a threshold, which laplora threshold --out writes",
                       inner.message);
    }
    LA_TRY(err->status);
    la_status status = read_rule(root, path, rule, err);
    json_decref(root);
    if (status != LA_OK)
        la_threshold_rule_free(rule);
    return status;
}

void la_threshold_rule_free(la_threshold_rule *rule) {
    free(rule->classes);
    *rule = (la_threshold_rule){0};
}

la_status la_threshold_of_model(const la_threshold_rule *rule, const char *path, const char *what,
                                const char *name, const char *model, la_error *err) {
    if (!*rule->model || !*model || !strcmp(rule->model, model))
        return LA_OK;
    return la_fail(err, LA_MISMATCH,
                   "%s: was made from predictions of model %s, and %s %s is model %s; make a "
                   "threshold from its own predictions",
                   path, rule->model, what, name, model);
}

la_status la_threshold_of_kind(const la_threshold_rule *rule, const char *path, const char *kind,
                               la_error *err) {
    if (!*rule->kind || !*kind || !strcmp(rule->kind, "mixed") || !strcmp(rule->kind, kind))
        return LA_OK;
    return la_fail(err, LA_MISMATCH,
                   "%s: was made from confidences of kind \"%s\", and these are \"%s\"; predict as "
                   "for the threshold, or make one from such predictions",
                   path, rule->kind, kind);
}

/* A score is compared as rows show it, in ten digits: a threshold is one of those. */
static bool passes(la_score score, double value, double threshold) {
    char shown[32];
    snprintf(shown, sizeof shown, "%.10g", value);
    value = strtod(shown, NULL);
    return la_scores[score].low ? value <= threshold : value >= threshold;
}

const char *la_threshold_reason(const la_threshold_rule *rule, const double *scores,
                                int64_t class) {
    double threshold = rule->value;
    if (rule->by_class)
        threshold = class >= 0 && class < rule->n_classes ? rule->classes[class] : NAN;
    if (rule->limited != LA_SCORE_NONE &&
        !passes(rule->limited, scores[rule->limited], rule->limit))
        return la_scores[rule->limited].name;
    if (isnan(threshold))
        return "no-threshold";
    return passes(rule->score, scores[rule->score], threshold) ? NULL : la_scores[rule->score].name;
}

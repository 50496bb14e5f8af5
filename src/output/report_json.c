/* The report for programs: the contract's "report --format json". */
#include "output/report.h"
#include "output/escape.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

/* NULL (no memory) is passed on: setting it fails, and that is noticed. */
static json_t *number_or_null(double value) {
    return isnan(value) ? json_null() : json_real(value);
}

static json_t *metrics_object(const la_metric_set *set, const la_metrics *metrics) {
    json_t *object = json_object();
    int bad = 0;
    for (int m = 0; m < set->n; m++)
        bad |= json_object_set_new(object, set->list[m].name, number_or_null(metrics->value[m]));
    if (!bad)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *intervals_object(const la_metric_set *set, const la_interval *intervals) {
    json_t *object = json_object();
    int bad = 0;
    for (int m = 0; m < set->n; m++)
        bad |= json_object_set_new(object, set->list[m].name,
                                   isnan(intervals[m].lo)
                                       ? json_null()
                                       : json_pack("[f, f]", intervals[m].lo, intervals[m].hi));
    if (!bad)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *bins_array(const la_metric_bin *bins) {
    json_t *array = json_array();
    int bad = 0;
    for (int b = 0; b < LA_METRIC_BINS; b++)
        bad |=
            json_array_append_new(array, json_pack("{s:f, s:f, s:I, s:o, s:o}", "lo", bins[b].lo,
                                                   "hi", bins[b].hi, "n", (json_int_t)bins[b].n,
                                                   "confidence", number_or_null(bins[b].confidence),
                                                   "accuracy", number_or_null(bins[b].accuracy)));
    if (!bad)
        return array;
    json_decref(array);
    return NULL;
}

/* A number of rows is an integer, a metric a real number. */
static json_t *gate_number(const la_gate *gate, double value) {
    bool whole = gate->metric == LA_GATE_ROWS && value < 9e15;
    return whole ? json_integer((json_int_t)value) : number_or_null(value);
}

static json_t *gate_object(const la_gate *gate) {
    json_t *object = json_pack("{s:s, s:s, s:o, s:o, s:b}", "metric", gate->name, "kind",
                               la_gate_kind_name(gate), "bound", gate_number(gate, gate->bound),
                               "value", gate_number(gate, gate->value), "pass", (int)gate->pass);
    if (!object || gate->kind != LA_GATE_MAX_WORSE)
        return object;
    int bad = json_object_set_new(object, "baseline", number_or_null(gate->baseline));
    bad |= json_object_set_new(object, "worse", number_or_null(gate->worse));
    if (!bad)
        return object;
    json_decref(object);
    return NULL;
}

/* Metrics of each class alone. */
static json_t *classes_array(const la_report *report) {
    const la_metric_set *set = report->set;
    json_t *array = json_array();
    int bad = 0;
    for (int64_t c = 0; c < report->n_classes; c++) {
        json_t *object = json_pack("{s:I, s:s*, s:I}", "label", (json_int_t)c, "name",
                                   report->class_names[c], "n", (json_int_t)report->class_rows[c]);
        for (int m = 0; m < set->n_class; m++)
            bad |= json_object_set_new(object, set->class_list[m].name,
                                       number_or_null(report->class_values[c * set->n_class + m]));
        bad |= json_array_append_new(array, object);
    }
    if (!bad)
        return array;
    json_decref(array);
    return NULL;
}

static json_t *gates_array(const la_report *report) {
    json_t *array = json_array();
    int bad = 0;
    for (int i = 0; i < report->n_gates; i++)
        bad |= json_array_append_new(array, gate_object(&report->gates[i]));
    if (!bad)
        return array;
    json_decref(array);
    return NULL;
}

/* Another file of the same rows. */
static json_t *comparison_object(const la_report *report) {
    static const char *const sides[] = {"other", NULL, "this"};
    const la_metric_set *set = report->set;
    const la_against *against = report->against;
    la_metrics other = {0};
    json_t *differences = json_object();
    int bad = !differences;
    memcpy(other.value, against->value, sizeof other.value);
    for (int m = 0; m < set->n; m++) {
        bool defined = !isnan(against->intervals[m].lo);
        json_t *interval =
            defined ? json_pack("[f, f]", against->intervals[m].lo, against->intervals[m].hi)
                    : json_null();
        bad |= json_object_set_new(differences, set->list[m].name,
                                   json_pack("{s:o, s:o, s:o, s:s?}", "difference",
                                             number_or_null(against->difference[m]), "ci", interval,
                                             "p_value", number_or_null(against->p[m]), "better",
                                             sides[1 + la_against_better(against, set, m)]));
    }
    json_t *object =
        json_pack("{s:s, s:s, s:o, s:o}", "against", against->file, "xxh3", against->digest,
                  "metrics", metrics_object(set, &other), "differences", differences);
    if (!bad)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *slice_object(const la_report *report, const la_slice *slice) {
    const la_metric_set *set = report->set;
    json_t *flags = json_array(), *p = json_object();
    int bad = 0;
    for (int f = 0; f < LA_SLICE_FLAGS; f++) {
        bad |= json_object_set_new(p, la_slice_flag_names[f], number_or_null(slice->p[f]));
        if (slice->flagged[f])
            bad |= json_array_append_new(flags, json_string(la_slice_flag_names[f]));
    }
    json_t *object =
        json_pack("{s:s, s:s, s:I, s:o, s:o, s:o, s:o}", "field",
                  report->slices->fields[slice->field].shown, "value", slice->value, "n",
                  (json_int_t)slice->n, "metrics", metrics_object(set, &slice->metrics), "ci",
                  intervals_object(set, slice->intervals), "flags", flags, "p_values", p);
    if (!bad)
        return object;
    json_decref(object);
    return NULL;
}

/* Slices, and what their list leaves out. */
static int set_slices(json_t *root, const la_report *report) {
    const la_report_slices *slices = report->slices;
    if (!slices || !slices->n_fields)
        return 0;
    json_t *list = json_array(), *more = json_array();
    int bad = 0;
    for (int i = 0; i < slices->n; i++)
        bad |= json_array_append_new(list, slice_object(report, &slices->list[i]));
    for (int f = 0; f < slices->n_fields; f++)
        if (slices->fields[f].n_more)
            bad |= json_array_append_new(
                more, json_pack("{s:s, s:I, s:I}", "field", slices->fields[f].shown, "values",
                                (json_int_t)slices->fields[f].n_more, "n",
                                (json_int_t)slices->fields[f].n_more_rows));
    bad |= json_object_set_new(root, "slices", list);
    return bad | json_object_set_new(root, "slices_left_out", more);
}

static json_t *noise_object(const la_noise_floor *noise) {
    return json_pack("{s:f, s:f, s:o, s:f}", "ece", noise->ece, "ece_95", noise->ece_95, "ratio",
                     number_or_null(noise->ratio), "p_value", noise->p_value);
}

static json_t *provenance_object(const la_report *report) {
    const char *kind = *report->confidence_kind ? report->confidence_kind : NULL;
    char intervals[LA_REPORT_INTERVALS];
    la_report_intervals(report, intervals);
    return json_pack("{s:s, s:s, s:s, s:s?, s:I, s:I, s:I, s:I, s:s?, s:{s:I, s:i, s:i, s:s}}",
                     "version", LAPLORA_VERSION, "predictions", report->file, "xxh3",
                     report->digest, "confidence_kind", kind, "n_errors",
                     (json_int_t)report->n_errors, "n_unlabelled", (json_int_t)report->n_unlabelled,
                     "n_held_out", (json_int_t)report->seen.n_held_out, "n_calibration",
                     (json_int_t)report->seen.n_calibration, "baseline", report->baseline,
                     "bootstrap", "resamples", (json_int_t)report->resamples, "seed",
                     LA_REPORT_SEED, "percent", 95, "intervals", intervals);
}

la_status la_report_json(const la_report *report, const la_report_style *style, FILE *stream,
                         la_error *err) {
    (void)style;
    json_t *root = json_pack("{s:s, s:I, s:I}", "schema", "laplora.report/1", "n",
                             (json_int_t)report->n, "n_classes", (json_int_t)report->n_classes);
    const la_metric_set *set = report->set;
    int bad = !root;
    const char *task = report->kind->likelihood->task;
    char bias[LA_REPORT_BIAS];
    if (task)
        bad |= json_object_set_new(root, "task", json_string(task));
    bad |= json_object_set_new(root, "metrics", metrics_object(set, &report->metrics));
    bad |= json_object_set_new(root, "map_metrics",
                               report->has_map ? metrics_object(set, &report->map) : json_object());
    bad |= json_object_set_new(root, "ci", intervals_object(set, report->intervals));
    if (!isnan(report->noise.ece))
        bad |= json_object_set_new(root, "noise_floor", noise_object(&report->noise));
    if (set->bin_rows)
        bad |= json_object_set_new(root, "bins", bins_array(report->metrics.bins));
    if (report->class_values)
        bad |= json_object_set_new(root, "labels", classes_array(report));
    if (report->against)
        bad |= json_object_set_new(root, "comparison", comparison_object(report));
    bad |= set_slices(root, report);
    bad |= json_object_set_new(root, "gates", gates_array(report));
    la_report_bias(report, bias);
    if (*bias)
        bad |= json_object_set_new(root, "warnings", json_pack("[s]", bias));
    bad |= json_object_set_new(root, "provenance", provenance_object(report));
    /* json_dumps would lose keys when memory runs out just then */
    bad |= !bad && la_json_write(root, JSON_INDENT(1), stream) && !ferror(stream);
    json_decref(root);
    if (bad)
        return la_fail(err, LA_RESOURCE, "out of memory for the report");
    fputc('\n', stream);
    return LA_OK;
}

#include "output/gates.h"
#include "base/list.h"
#include "base/memory.h"
#include "base/numbers.h"
#include "input/json.h"
#include "output/row_kind.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BASELINE_BYTES_MAX = 64 << 20, NUMBER_TEXT = 32 };

static const char *const option_names[] = {"--max", "--min", "--max-regression"};

enum { NAMES_TEXT = 256 };

static void list_names(const la_metric_info *list, int n, char out[NAMES_TEXT]) {
    la_list_names(out, NAMES_TEXT, ", ", &list->name, sizeof *list, n);
}

/* Metrics that a gate of this form may be on: of all rows, or of a label. */
static const la_metric_info *list_of(const la_metric_set *set, bool of_label, int *n) {
    *n = of_label ? set->n_class : set->n;
    return of_label ? set->class_list : set->list;
}

static la_status unknown_metric(const char *option, const char *text, int length, bool of_label,
                                la_error *err) {
    char known[LA_ROW_KINDS * (NAMES_TEXT + 32)], names[NAMES_TEXT];
    size_t used = 0;
    int n;
    /* classes first */
    for (int k = LA_ROW_KINDS; k-- > 0;) {
        const la_row_kind *kind = la_row_kinds[k];
        const la_metric_info *list = list_of(kind->metrics, of_label, &n);
        if (!n)
            continue;
        list_names(list, n, names);
        used += (size_t)snprintf(known + used, sizeof known - used, used ? "; of %s, %s" : "%s%s",
                                 used ? kind->likelihood->name : "", names);
    }
    return la_fail(err, LA_USAGE, "%s %s: there is no metric \"%.*s\"%s; expected one of %s",
                   option, text, length, text, of_label ? " of one label" : "", known);
}

static la_status parse_limit(la_gate_kind kind, const char *text, la_gate *gate, la_error *err) {
    const char *equals = strchr(text, '='), *at = strchr(text, '@');
    char name[32];
    /* a label may hold either sign, a number neither */
    if (at && equals && at < equals)
        equals = strrchr(text, '=');
    else
        at = NULL;
    if (!equals || equals == text)
        return la_fail(err, LA_USAGE, "%s %s: expected METRIC=NUMBER", option_names[kind], text);
    int length = (int)((at ? at : equals) - text), n;
    snprintf(name, sizeof name, "%.*s", length, text);
    *gate = (la_gate){.metric = LA_GATE_ROWS, .kind = kind, .baseline = NAN};
    for (int k = 0; k < LA_ROW_KINDS && !gate->info; k++) {
        const la_metric_info *list = list_of(la_row_kinds[k]->metrics, at != NULL, &n);
        int metric = la_metric_index(list, n, name);
        gate->info = metric < 0 ? NULL : &list[metric];
    }
    if (!gate->info)
        return unknown_metric(option_names[kind], text, length, at != NULL, err);
    if (!la_number_parse(equals + 1, &gate->bound))
        return la_fail(err, LA_USAGE, "%s %s: \"%s\" is no finite number, expected METRIC=NUMBER",
                       option_names[kind], text, equals + 1);
    if (equals - text >= LA_GATE_NAME)
        return la_fail(err, LA_USAGE,
                       "%s %s: the label has more than %d bytes; give its number, from 0",
                       option_names[kind], text, LA_GATE_NAME - 1 - length - 1);
    snprintf(gate->name, sizeof gate->name, "%.*s", (int)(equals - text), text);
    gate->label = at ? length + 1 : 0;
    return LA_OK;
}

static la_status parse_limits(la_gate_kind kind, const char *const *texts, int n_texts,
                              la_gate *gates, int *n, la_error *err) {
    for (int i = 0; i < n_texts; i++, ++*n)
        LA_TRY(parse_limit(kind, texts[i], &gates[*n], err));
    return LA_OK;
}

la_status la_gates_parse(const la_gate_options *options, la_gate **gates, int *n, la_error *err) {
    la_status status = LA_OK;
    size_t most =
        (size_t)options->n_max + (size_t)options->n_min + (size_t)options->n_max_worse + 1;
    *n = 0;
    *gates = NULL;
    if (options->n_max_worse && !options->baseline)
        return la_fail(err, LA_USAGE,
                       "--max-regression %s: compared with what? give --baseline REPORT.json",
                       options->max_worse[0]);
    *gates = la_alloc(most, sizeof **gates, err);
    if (!*gates)
        return err->status;
    LA_TRY_DONE(parse_limits(LA_GATE_MAX, options->max, options->n_max, *gates, n, err));
    LA_TRY_DONE(parse_limits(LA_GATE_MIN, options->min, options->n_min, *gates, n, err));
    LA_TRY_DONE(
        parse_limits(LA_GATE_MAX_WORSE, options->max_worse, options->n_max_worse, *gates, n, err));
    if (options->min_samples > 0)
        (*gates)[(*n)++] = (la_gate){.name = "n",
                                     .metric = LA_GATE_ROWS,
                                     .kind = LA_GATE_MIN,
                                     .bound = (double)options->min_samples,
                                     .baseline = NAN};
done:
    if (status != LA_OK) {
        free(*gates);
        *gates = NULL;
    }
    return status;
}

/* Class that a gate's label names, or is the number of; -1: none. */
static int64_t class_of(const char *label, int64_t n_classes, char *const *names) {
    double number;
    for (int64_t c = 0; c < n_classes; c++)
        if (names[c] && !strcmp(names[c], label))
            return c;
    bool whole = *label && !label[strspn(label, "0123456789")] && la_number_parse(label, &number);
    return whole && number < (double)n_classes ? (int64_t)number : -1;
}

static la_status unknown_label(const la_gate *gate, int64_t n_classes, char *const *names,
                               la_error *err) {
    char known[NAMES_TEXT] = "";
    size_t used = 0;
    for (int64_t c = 0; c < n_classes; c++)
        if (names[c])
            used = la_list_add(known, sizeof known, used, ", ", names[c]);
    return la_fail(err, LA_USAGE,
                   "%s %s: there is no label \"%s\"; expected a number from 0 to %lld%s%s%s",
                   option_names[gate->kind], gate->name, gate->name + gate->label,
                   (long long)n_classes - 1, *known ? " or one of the names " : "", known,
                   *known ? "; --labels names all of them" : "; --labels names them");
}

la_status la_gates_bind(la_gate *gates, int n, const la_metric_set *set, int64_t n_classes,
                        char *const *names, la_error *err) {
    char known[NAMES_TEXT];
    int n_list;
    for (la_gate *gate = gates; gate < gates + n; gate++) {
        if (!gate->info)
            continue;
        const la_metric_info *list = list_of(set, gate->label > 0, &n_list);
        int metric = la_metric_index(list, n_list, gate->info->name);
        list_names(set->list, set->n, known);
        if (metric < 0)
            return la_fail(err, LA_USAGE,
                           "%s %s: the predictions are of %s, which have no such metric; expected "
                           "one of %s",
                           option_names[gate->kind], gate->name, set->rows, known);
        gate->info = &list[metric];
        gate->metric = metric;
        if (!gate->label)
            continue;
        int64_t class = class_of(gate->name + gate->label, n_classes, names);
        if (class < 0)
            return unknown_label(gate, n_classes, names, err);
        gate->metric += set->n + class * set->n_class;
    }
    return LA_OK;
}

static la_status read_number(const json_t *from, const char *path, const la_metric_info *info,
                             double *value, la_error *err) {
    *value = NAN;
    return la_json_number(from, path, info->name, false, value, err);
}

static la_status read_metrics(const json_t *root, const char *path, const la_metric_set *set,
                              int64_t n_classes, double *value, la_error *err) {
    const char *schema = NULL;
    int64_t classes = n_classes;
    LA_TRY(la_json_text(root, path, "schema", true, &schema, err));
    if (strcmp(schema, "laplora.report/1"))
        return la_fail(err, LA_BAD_INPUT,
                       "%s: key \"schema\" is \"%s\", expected \"laplora.report/1\"; write the "
                       "baseline with laplora report --format json",
                       path, schema);
    LA_TRY(la_json_int(root, path, "n_classes", false, 0, INT64_MAX, &classes, err));
    if (classes != n_classes)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: the baseline has %lld classes, expected the %lld of the predictions",
                       path, (long long)classes, (long long)n_classes);
    const json_t *metrics = json_object_get(root, "metrics");
    if (!json_is_object(metrics))
        return la_fail(err, LA_BAD_INPUT, "%s: key \"metrics\" is %s, expected an object", path,
                       la_json_kind(metrics));
    for (int m = 0; m < set->n; m++)
        LA_TRY(read_number(metrics, path, &set->list[m], &value[m], err));
    const json_t *labels = json_object_get(root, "labels");
    for (int64_t i = 0; i < n_classes * set->n_class; i++)
        LA_TRY(read_number(json_array_get(labels, (size_t)(i / set->n_class)), path,
                           &set->class_list[i % set->n_class], &value[set->n + i], err));
    return LA_OK;
}

/* True of a file whose first line is a row of predictions. A stream has been read, and cannot be
 * again. */
static bool is_predictions(const char *path) {
    char *line = NULL;
    size_t capacity = 0;
    struct stat info;
    FILE *file = stat(path, &info) || !S_ISREG(info.st_mode) ? NULL : fopen(path, "r");
    ssize_t length = file ? getline(&line, &capacity, file) : -1;
    json_error_t where;
    json_t *row = length > 0 ? la_json_loadb(line, (size_t)length, 0, &where) : NULL;
    bool found = json_object_get(row, "probs") || json_object_get(row, "confidence_kind") ||
                 json_is_integer(json_object_get(row, "index"));
    json_decref(row);
    free(line);
    if (file)
        fclose(file);
    return found;
}

la_status la_baseline_read(const char *path, const la_metric_set *set, int64_t n_classes,
                           double *value, la_error *err) {
    json_t *root = NULL;
    la_status status = la_json_load(path, BASELINE_BYTES_MAX, &root, err);
    if (status == LA_OK)
        status = read_metrics(root, path, set, n_classes, value, err);
    json_decref(root);
    if (status == LA_OK || status == LA_INTERRUPTED || !is_predictions(path))
        return status;
    *err = (la_error){0};
    return la_fail(err, LA_BAD_INPUT,
                   "%s: is predictions, expected a report of them: laplora report '%s' --format "
                   "json --out baseline.json",
                   path, path);
}

static double worse_by(const la_metric_info *info, double value, double baseline) {
    int direction = info->direction;
    /* adding zero makes -0 a plain 0 */
    return direction ? direction * (baseline - value) + 0.0 : fabs(value - baseline);
}

static bool judge(const la_gate *gate) {
    /* every comparison with NaN is false: an undefined metric never passes */
    if (gate->kind == LA_GATE_MAX)
        return gate->value <= gate->bound;
    if (gate->kind == LA_GATE_MIN)
        return gate->value >= gate->bound;
    /* 0.8 - 0.7 is a little more than 0.1: the rounding of the difference is not worse */
    return gate->worse <= gate->bound + DBL_EPSILON * (fabs(gate->value) + fabs(gate->baseline));
}

int la_gates_judge(la_gate *gates, int n, int64_t n_rows, const double *value,
                   const double *baseline) {
    int failed = 0;
    for (la_gate *gate = gates; gate < gates + n; gate++) {
        bool counts_rows = gate->metric == LA_GATE_ROWS;
        gate->value = counts_rows ? (double)n_rows : value[gate->metric];
        if (gate->kind == LA_GATE_MAX_WORSE) {
            gate->baseline = baseline ? baseline[gate->metric] : NAN;
            gate->worse = worse_by(gate->info, gate->value, gate->baseline);
        }
        gate->pass = judge(gate);
        failed += !gate->pass;
    }
    return failed;
}

const char *la_gate_kind_name(const la_gate *gate) {
    return option_names[gate->kind] + 2;
}

/* Short where the two then still look different, in full where they would not. */
static void show_pair(double a, double b, char left[NUMBER_TEXT], char right[NUMBER_TEXT]) {
    snprintf(left, NUMBER_TEXT, "%.6g", a);
    snprintf(right, NUMBER_TEXT, "%.6g", b);
    if (strcmp(left, right) || a == b)
        return;
    snprintf(left, NUMBER_TEXT, "%.17g", a);
    snprintf(right, NUMBER_TEXT, "%.17g", b);
}

void la_gate_condition(const la_gate *gate, char out[LA_GATE_TEXT]) {
    if (gate->kind != LA_GATE_MAX_WORSE)
        snprintf(out, LA_GATE_TEXT, "%s %s %.15g", gate->name,
                 gate->kind == LA_GATE_MAX ? "<=" : ">=", gate->bound);
    else if (gate->info->direction)
        snprintf(out, LA_GATE_TEXT, "%s worse than the baseline by at most %.15g", gate->name,
                 gate->bound);
    else
        snprintf(out, LA_GATE_TEXT, "%s away from the baseline by at most %.15g", gate->name,
                 gate->bound);
}

static void worse_outcome(const la_gate *gate, char out[LA_GATE_TEXT]) {
    char value[NUMBER_TEXT], baseline[NUMBER_TEXT], worse[NUMBER_TEXT], bound[NUMBER_TEXT];
    bool directed = gate->info->direction != 0;
    show_pair(gate->value, gate->baseline, value, baseline);
    show_pair(gate->worse, gate->bound, worse, bound);
    if (isnan(gate->baseline))
        snprintf(out, LA_GATE_TEXT, "the baseline has no %s", gate->name);
    else if (gate->worse == 0)
        snprintf(out, LA_GATE_TEXT, "%s %s as in the baseline", gate->name, value);
    else if (gate->worse < 0)
        snprintf(out, LA_GATE_TEXT, "%s %s, baseline %s: %s better", gate->name, value, baseline,
                 worse + 1);
    else
        snprintf(out, LA_GATE_TEXT, "%s %s, baseline %s: %s %s, allowed %s", gate->name, value,
                 baseline, worse, directed ? "worse" : "away", bound);
}

void la_gate_outcome(const la_gate *gate, char out[LA_GATE_TEXT]) {
    static const char *const signs[][2] = {
        [LA_GATE_MAX] = {">", "<="}, [LA_GATE_MIN] = {"<", ">="}};
    char value[NUMBER_TEXT], bound[NUMBER_TEXT];
    show_pair(gate->value, gate->bound, value, bound);
    if (isnan(gate->value))
        snprintf(out, LA_GATE_TEXT, "%s is undefined for these rows", gate->name);
    else if (gate->kind == LA_GATE_MAX_WORSE)
        worse_outcome(gate, out);
    else
        snprintf(out, LA_GATE_TEXT, "%s %s %s %s", gate->name, value, signs[gate->kind][gate->pass],
                 bound);
}

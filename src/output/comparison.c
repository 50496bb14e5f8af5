#include "output/comparison.h"
#include "base/visible.h"
#include "output/escape.h"

#include <jansson.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef struct column {
    const char *title;
    size_t offset; /* place of a double in la_comparison_row */
    int digits;
} column;

#define METRIC(number) offsetof(la_comparison_row, value[number])
static const column columns[] = {
    {"accuracy", METRIC(LA_METRIC_ACCURACY), 4},
    {"nll", METRIC(LA_METRIC_NLL), 4},
    {"ece", METRIC(LA_METRIC_ECE), 4},
    {"noise", offsetof(la_comparison_row, ece_noise), 4},
    {"brier", METRIC(LA_METRIC_BRIER), 4},
    {"auroc", METRIC(LA_METRIC_AUROC), 4},
    {"aurc", METRIC(LA_METRIC_AURC), 4},
    {"ood", offsetof(la_comparison_row, ood_auroc), 4},
    {"fit s", offsetof(la_comparison_row, seconds_fit), 1},
    {"predict s", offsetof(la_comparison_row, seconds_predict), 1},
};
enum { N_COLUMNS = sizeof columns / sizeof *columns, CELL = 32 };

static double value_of(const la_comparison_row *row, const column *c) {
    double value;
    memcpy(&value, (const char *)row + c->offset, sizeof value);
    return value;
}

static void show(const la_comparison_row *row, const column *c, char out[CELL]) {
    double value = value_of(row, c);
    if (isfinite(value))
        snprintf(out, CELL, "%.*f", c->digits, value);
    else
        strcpy(out, "-");
}

/* A column that no row fills is left out. */
static bool is_empty(const la_comparison *c, const column *of) {
    for (int i = 0; i < c->n; i++)
        if (isfinite(value_of(&c->rows[i], of)))
            return false;
    return true;
}

static void write_text(const la_comparison *c, FILE *stream) {
    fprintf(stream, "%lld test rows, %lld classes; %lld calibration rows", (long long)c->n_test,
            (long long)c->n_classes, (long long)c->n_calib);
    if (c->val)
        fprintf(stream, ", %lld held-out rows", (long long)c->n_val);
    if (c->ood)
        fprintf(stream, ", %lld rows of other data", (long long)c->n_ood);
    fprintf(stream, "\n\n%-24s", "method");
    for (int k = 0; k < N_COLUMNS; k++)
        if (!is_empty(c, &columns[k]))
            fprintf(stream, " %9s", columns[k].title);
    fputc('\n', stream);
    for (int i = 0; i < c->n; i++) {
        fprintf(stream, "%-24s", c->rows[i].name);
        for (int k = 0; k < N_COLUMNS; k++) {
            char cell[CELL];
            if (is_empty(c, &columns[k]))
                continue;
            show(&c->rows[i], &columns[k], cell);
            fprintf(stream, " %9s", cell);
        }
        fprintf(stream, "%s%s\n", *c->rows[i].note ? "  " : "", c->rows[i].note);
    }
    fputs("\nnoise: 95 % of perfectly calibrated models with these confidences have an ece below "
          "it\n",
          stream);
}

static void write_markdown(const la_comparison *c, FILE *stream) {
    fputs("| method |", stream);
    for (int k = 0; k < N_COLUMNS; k++)
        if (!is_empty(c, &columns[k]))
            fprintf(stream, " %s |", columns[k].title);
    fputs(" |\n|---|", stream);
    for (int k = 0; k < N_COLUMNS; k++)
        if (!is_empty(c, &columns[k]))
            fputs("---:|", stream);
    fputs("---|\n", stream);
    for (int i = 0; i < c->n; i++) {
        fprintf(stream, "| %s |", c->rows[i].name);
        for (int k = 0; k < N_COLUMNS; k++) {
            char cell[CELL];
            if (is_empty(c, &columns[k]))
                continue;
            show(&c->rows[i], &columns[k], cell);
            fprintf(stream, " %s |", cell);
        }
        fprintf(stream, " %s |\n", c->rows[i].note);
    }
}

static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *row_json(const la_comparison_row *row) {
    json_t *out = json_object(), *metrics = json_object();
    json_object_set_new(out, "method", json_string(row->name));
    if (*row->note)
        json_object_set_new(out, "note", json_string(row->note));
    for (int m = 0; m < la_softmax_metrics.n; m++)
        json_object_set_new(metrics, la_softmax_metrics.list[m].name, number(row->value[m]));
    json_object_set_new(metrics, "ece_noise", number(row->ece_noise));
    json_object_set_new(metrics, "ood_auroc", number(row->ood_auroc));
    json_object_set_new(out, "metrics", metrics);
    json_object_set_new(out, "seconds",
                        json_pack("{s:o,s:o}", "fit", number(row->seconds_fit), "predict",
                                  number(row->seconds_predict)));
    return out;
}

/* JSON has no place for a path that is no UTF-8: its bytes are shown. */
static json_t *path_json(const char *path) {
    json_t *value = path ? json_string(path) : NULL;
    la_error ignored = {0};
    char *shown = path && !value ? la_visible_copy(path, &ignored) : NULL;
    if (shown)
        value = json_string(shown);
    free(shown);
    return value;
}

static la_status write_json(const la_comparison *c, FILE *stream, la_error *err) {
    json_t *rows = json_array();
    for (int i = 0; i < c->n; i++)
        json_array_append_new(rows, row_json(&c->rows[i]));
    json_t *root =
        json_pack("{s:s,s:o,s:o*,s:o,s:o*,s:I,s:I,s:I,s:I,s:I,s:o}", "schema", "laplora.compare/1",
                  "calib", path_json(c->calib), "val", path_json(c->val), "test",
                  path_json(c->test), "ood", path_json(c->ood), "n_calib", (json_int_t)c->n_calib,
                  "n_val", (json_int_t)c->n_val, "n_test", (json_int_t)c->n_test, "n_ood",
                  (json_int_t)c->n_ood, "n_classes", (json_int_t)c->n_classes, "methods", rows);
    if (!root)
        return la_fail(err, LA_RESOURCE, "out of memory for the table");
    int failed = la_json_write(root, JSON_COMPACT, stream);
    fputc('\n', stream);
    json_decref(root);
    return failed && !ferror(stream) ? la_fail(err, LA_RESOURCE, "out of memory for the table")
                                     : LA_OK;
}

la_status la_comparison_write(const la_comparison *comparison, la_table_format format, FILE *stream,
                              la_error *err) {
    switch (format) {
    case LA_TABLE_TEXT:
        write_text(comparison, stream);
        break;
    case LA_TABLE_MARKDOWN:
        write_markdown(comparison, stream);
        break;
    case LA_TABLE_JSON:
        return write_json(comparison, stream, err);
    }
    return LA_OK;
}

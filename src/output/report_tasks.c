/* Predictions as tasks of Label Studio, in the order in which a person should look at them: the
 * least certain first. Data holds the fields that predict kept, and what names the row. */
#include "base/memory.h"
#include "base/visible.h"
#include "input/json.h"
#include "output/report.h"

#include <stdlib.h>
#include <string.h>

/* A field of the prediction, or of the line that it is in. */
static json_t *field_of(const json_t *line, const json_t *row, const char *name) {
    json_t *own = json_object_get(row, name);
    return own ? own : json_object_get(line, name);
}

static json_t *data_of(const json_t *line, const json_t *row) {
    static const char *const names[] = {"index", "id", "row", "word", "token"};
    json_t *data = json_object(), *fields = json_object_get(line, "fields");
    int bad = !data;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *value = field_of(line, row, names[i]);
        bad |= value && json_object_set(data, names[i], value);
    }
    bad |= json_is_object(fields) && json_object_update(data, fields);
    if (!bad)
        return data;
    json_decref(data);
    return NULL;
}

/* Names of the classes, or their numbers as text. */
static json_t *choices_of(const json_t *row) {
    json_t *named = json_object_get(row, "prediction_label"), *choices = json_array(), *entry;
    const json_t *found = named ? named : json_object_get(row, "prediction");
    size_t n = json_is_array(found) ? json_array_size(found) : found != NULL;
    int bad = !choices;
    for (size_t i = 0; i < n; i++) {
        entry = json_is_array(found) ? json_array_get(found, i) : (json_t *)(uintptr_t)found;
        if (json_is_string(entry)) {
            bad |= json_array_append(choices, entry);
            continue;
        }
        char *text = json_dumps(entry, JSON_ENCODE_ANY | JSON_COMPACT);
        bad |= !text || json_array_append_new(choices, json_string(text));
        free(text);
    }
    if (!bad)
        return choices;
    json_decref(choices);
    return NULL;
}

static json_t *task_of(const json_t *line, const json_t *row, const json_t *confidence) {
    json_t *number = json_object_get(row, "prediction"), *result;
    if (confidence)
        result = json_pack("{s:s, s:s, s:s, s:{s:o}}", "from_name", "label", "to_name", "text",
                           "type", "choices", "value", "choices", choices_of(row));
    else
        result = json_pack("{s:s, s:s, s:s, s:{s:O}}", "from_name", "label", "to_name", "text",
                           "type", "number", "value", "number", number);
    const char *model = json_string_value(field_of(line, row, "model"));
    json_t *prediction = json_pack("{s:s, s:[o]}", "model_version",
                                   model ? model : "laplora " LAPLORA_VERSION, "result", result);
    if (prediction && confidence &&
        json_object_set(prediction, "score", (json_t *)(uintptr_t)confidence)) {
        json_decref(prediction);
        prediction = NULL;
    }
    return json_pack("{s:o, s:[o]}", "data", data_of(line, row), "predictions", prediction);
}

la_status la_tasks_see(la_tasks *tasks, const la_prediction_entry *entry, la_error *err) {
    const json_t *line = la_entry_row_json(entry, err), *row = la_entry_json(entry, err);
    char place[LA_ENTRY_PLACE];
    if (!line || !row)
        return err->status;
    const json_t *confidence = json_object_get(row, "confidence");
    const json_t *deviation = json_object_get(row, "std");
    (void)la_entry_place(entry, place);
    if (!json_is_number(confidence) && !json_is_number(deviation))
        return la_fail(err, LA_BAD_INPUT,
                       "%s: no number \"confidence\"; expected one, by which tasks are ordered",
                       place);
    confidence = json_is_number(confidence) ? confidence : NULL;
    if (!json_object_get(row, "prediction"))
        return la_fail(err, LA_BAD_INPUT,
                       "%s: no \"prediction\"; expected one, which a task is about", place);
    LA_TRY(la_grow(&tasks->list, &tasks->capacity, tasks->n + 1, sizeof *tasks->list, err));
    json_t *task = task_of(line, row, confidence);
    char *text = task ? json_dumps(task, JSON_COMPACT) : NULL;
    json_decref(task);
    if (!text)
        return la_fail(err, LA_RESOURCE, "out of memory for a task");
    tasks->list[tasks->n] = (la_task){.certainty = confidence ? json_number_value(confidence)
                                                              : -json_number_value(deviation),
                                      .number = (int64_t)tasks->n,
                                      .text = text};
    tasks->n++;
    return LA_OK;
}

static int compare_tasks(const void *a, const void *b) {
    const la_task *x = a, *y = b;
    int order = (x->certainty > y->certainty) - (x->certainty < y->certainty);
    return order ? order : (x->number > y->number) - (x->number < y->number);
}

void la_tasks_sort(la_tasks *tasks) {
    if (tasks->n)
        qsort(tasks->list, tasks->n, sizeof *tasks->list, compare_tasks);
}

void la_tasks_free(la_tasks *tasks) {
    for (size_t i = 0; i < tasks->n; i++)
        free(tasks->list[i].text);
    free(tasks->list);
    *tasks = (la_tasks){0};
}

la_status la_report_label_studio(const la_report *report, const la_report_style *style,
                                 FILE *stream, la_error *err) {
    (void)style;
    (void)err;
    fputc('[', stream);
    for (size_t i = 0; i < report->tasks->n; i++) {
        const char *text = report->tasks->list[i].text;
        fputs(i ? ",\n" : "\n", stream);
        la_visible_json(text, strlen(text), stream);
    }
    fputs("\n]\n", stream);
    return LA_OK;
}

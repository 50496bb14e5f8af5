#include "output/difference.h"
#include "base/visible.h"
#include "output/escape.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const la_difference_formats[LA_DIFFERENCE_FORMATS] = {"text", "json", "markdown"};

static const char *const change_names[] = {"same", "changed", "added", "removed"};

enum { NUMBER = 24, ROWS_SHOWN = 20 };

/* ---- JSON ---- */

static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *count(int64_t value) {
    return value < 0 ? json_null() : json_integer(value);
}

static json_t *blocks_json(const la_difference *d) {
    json_t *list = json_array();
    for (int64_t i = 0; i < d->n_blocks; i++) {
        const la_block_change *b = &d->blocks[i];
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "name", b->name, "change",
                            change_names[b->change], "norm_a", number(b->norm_a), "norm_b",
                            number(b->norm_b), "distance", number(b->distance), "relative",
                            number(b->relative), "distance_in_sd", number(b->distance_in_sd)));
    }
    return list;
}

static json_t *answers_json(const la_answer_changes *a) {
    return json_pack("{s:I, s:I, s:o, s:o, s:o, s:O}", "n", (json_int_t)a->n, "flips",
                     (json_int_t)a->flips, "right_to_wrong", count(a->right_to_wrong),
                     "wrong_to_right", count(a->wrong_to_right), "mean_confidence_change",
                     number(a->mean_confidence_change), "rows", a->rows);
}

static la_status write_json(const la_difference *d, FILE *stream, la_error *err) {
    json_t *root =
        json_pack("{s:s, s:s, s:b, s:O, s:o, s:o}", "schema", "laplora.diff/1", "kind", d->kind,
                  "same", (int)d->same, "options", d->options, "blocks", blocks_json(d),
                  "predictions", d->has_answers ? answers_json(&d->answers) : json_null());
    int failed = !root || la_json_write(root, JSON_COMPACT, stream);
    fputc('\n', stream);
    json_decref(root);
    return failed && !ferror(stream) ? la_fail(err, LA_RESOURCE, "out of memory for the difference")
                                     : LA_OK;
}

/* ---- tables ---- */

static const char *show(double value, char text[NUMBER]) {
    if (isfinite(value))
        snprintf(text, NUMBER, "%.4g", value);
    else
        strcpy(text, "-");
    return text;
}

/* A value of an option: text as it is, anything else as JSON, made fit for a terminal or, with
 * '|' as an entity, for a table. */
static void write_value(const json_t *value, bool markdown, FILE *stream) {
    char *text = json_is_string(value)
                     ? strdup(json_string_value(value))
                     : json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    la_error ignored = {0};
    char *shown = text ? la_visible_copy(json_is_null(value) ? "-" : text, &ignored) : NULL;
    for (const char *c = shown ? shown : ""; *c; c++) {
        if (markdown && strchr("|`*_<>&\\[]", *c))
            fprintf(stream, "&#%d;", *c);
        else
            fputc(*c, stream);
    }
    free(shown);
    free(text);
}

static void write_name(const char *name, bool markdown, FILE *stream) {
    json_t *value = json_string(name);
    write_value(value, markdown, stream);
    json_decref(value);
}

static void write_head(const la_difference *d, const char *end, FILE *stream) {
    int64_t counts[4] = {0};
    for (int64_t i = 0; i < d->n_blocks; i++)
        counts[d->blocks[i].change]++;
    fprintf(stream, "%s: %lld blocks the same", d->same ? "the same" : "different",
            (long long)counts[0]);
    for (int c = 1; c < 4; c++)
        if (counts[c])
            fprintf(stream, ", %lld %s", (long long)counts[c], change_names[c]);
    fprintf(stream, "; %zu options differ%s", json_array_size(d->options), end);
}

typedef struct style {
    bool markdown;
    const char *begin, *between, *end;
} style;

static void write_options(const la_difference *d, const style *s, FILE *stream) {
    size_t i;
    json_t *option;
    if (!json_array_size(d->options))
        return;
    fputs(s->markdown ? "\n| option | A | B |\n|---|---|---|\n" : "\noptions that differ: A, B\n",
          stream);
    json_array_foreach(d->options, i, option) {
        fputs(s->begin, stream);
        write_name(json_string_value(json_object_get(option, "name")), s->markdown, stream);
        if (json_object_get(option, "meaning")) {
            fputs(" (", stream);
            write_value(json_object_get(option, "meaning"), s->markdown, stream);
            fputs(")", stream);
        }
        fputs(s->between, stream);
        write_value(json_object_get(option, "a"), s->markdown, stream);
        fputs(s->between, stream);
        write_value(json_object_get(option, "b"), s->markdown, stream);
        fputs(s->end, stream);
    }
}

static void write_blocks(const la_difference *d, const style *s, FILE *stream) {
    bool head = false;
    for (int64_t i = 0; i < d->n_blocks; i++) {
        const la_block_change *b = &d->blocks[i];
        const double numbers[] = {b->norm_a, b->norm_b, b->distance, b->relative,
                                  b->distance_in_sd};
        char text[NUMBER];
        if (b->change == LA_CHANGE_NONE)
            continue;
        if (!head && s->markdown)
            fputs("\n| block | change | norm A | norm B | distance | relative | in sd |\n"
                  "|---|---|---:|---:|---:|---:|---:|\n",
                  stream);
        else if (!head)
            fprintf(stream, "\n%-8s %9s %9s %9s %9s %9s  %s\n", "change", "norm A", "norm B",
                    "distance", "relative", "in sd", "block");
        head = true;
        if (s->markdown) {
            fputs(s->begin, stream);
            write_name(b->name, true, stream);
            fprintf(stream, "%s%s", s->between, change_names[b->change]);
        } else
            fprintf(stream, "%-8s", change_names[b->change]);
        for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
            fprintf(stream, s->markdown ? " | %s" : " %9s", show(numbers[k], text));
        if (!s->markdown) {
            fputs("  ", stream);
            write_name(b->name, false, stream);
        }
        fputs(s->end, stream);
    }
}

static void write_answers(const la_difference *d, const style *s, FILE *stream) {
    const la_answer_changes *a = &d->answers;
    char text[NUMBER];
    size_t i;
    json_t *row;
    static const char *const keys[] = {"index",    "from",  "from_label",   "to",
                                       "to_label", "label", "confidence_a", "confidence_b"};
    enum { KEYS = sizeof keys / sizeof *keys };
    if (!d->has_answers)
        return;
    fprintf(stream, "\n%lld rows, %lld answers flip", (long long)a->n, (long long)a->flips);
    if (a->right_to_wrong >= 0)
        fprintf(stream, " (%lld right to wrong, %lld wrong to right)", (long long)a->right_to_wrong,
                (long long)a->wrong_to_right);
    fprintf(stream, "; mean confidence changes by %s\n", show(a->mean_confidence_change, text));
    if (!a->flips)
        return;
    fputs(s->markdown ? "\n" : "", stream);
    fputs(s->begin, stream);
    for (int k = 0; k < KEYS; k++)
        fprintf(stream, "%s%s", k ? s->between : "", keys[k]);
    fputs(s->end, stream);
    fputs(s->markdown ? "|---:|---|---|---|---|---|---:|---:|\n" : "", stream);
    json_array_foreach(a->rows, i, row) {
        if (i == ROWS_SHOWN)
            break;
        fputs(s->begin, stream);
        for (int k = 0; k < KEYS; k++) {
            fputs(k ? s->between : "", stream);
            write_value(json_object_get(row, keys[k]), s->markdown, stream);
        }
        fputs(s->end, stream);
    }
    if (json_array_size(a->rows) > ROWS_SHOWN)
        fprintf(stream, "%sand %zu more; --format json has them all\n", s->markdown ? "\n" : "",
                json_array_size(a->rows) - ROWS_SHOWN);
}

la_status la_difference_write(const la_difference *d, int format, FILE *stream, la_error *err) {
    static const style styles[] = {{false, "  ", "  ", "\n"}, {true, "| ", " | ", " |\n"}};
    const style *s = &styles[format == 2];
    if (format == 1)
        return write_json(d, stream, err);
    if (!s->markdown) {
        fputs("A ", stream);
        write_name(d->a, false, stream);
        fputs("\nB ", stream);
        write_name(d->b, false, stream);
        fputs("\n", stream);
    }
    write_head(d, "\n", stream);
    write_blocks(d, s, stream);
    write_options(d, s, stream);
    write_answers(d, s, stream);
    return LA_OK;
}

void la_difference_free(la_difference *d) {
    la_pool_free(&d->pool);
    json_decref(d->options);
    json_decref(d->answers.rows);
    *d = (la_difference){0};
}

#include "output/prediction_rows.h"
#include "base/memory.h"
#include "base/stop.h"
#include "base/visible.h"
#include "input/json.h"
#include "input/json_text.h"
#include "input/text_source.h"
#include "output/escape.h"
#include "output/gaussian_rows.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double SUM_TOLERANCE = 1e-6;

/* ---- writing ---- */

static la_status check_finite(const la_prediction_row *row, const char *name, const double *values,
                              int64_t n, la_error *err) {
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(values[i]))
            return la_fail(err, LA_NUMERICAL,
                           "row %lld: %s[%lld] is %g, expected a finite number; the weights or "
                           "the posterior are out of range",
                           (long long)row->index, name, (long long)i, values[i]);
    return LA_OK;
}

static la_status check_distribution(const la_prediction_row *row, const char *name,
                                    const double *probs, la_error *err) {
    double sum = 0;
    LA_TRY(check_finite(row, name, probs, row->n_classes, err));
    for (int64_t c = 0; c < row->n_classes; c++) {
        /* what rounds to 1 in ten digits is 1 */
        if (probs[c] < 0 || probs[c] > 1 + 1e-10)
            return la_fail(err, LA_NUMERICAL, "row %lld: %s[%lld] is %.10g, expected 0 to 1",
                           (long long)row->index, name, (long long)c, probs[c]);
        sum += probs[c];
    }
    if (fabs(sum - 1) > SUM_TOLERANCE)
        return la_fail(err, LA_NUMERICAL, "row %lld: %s adds up to %.10g, expected 1",
                       (long long)row->index, name, sum);
    return LA_OK;
}

/* A NaN throughout says that the predictive has none. */
static bool has_variance(const la_prediction_row *row) {
    const double *variance = row->prediction->variance;
    for (int64_t c = 0; variance && c < row->n_classes; c++)
        if (!isnan(variance[c]))
            return true;
    return false;
}

static la_status check_variance(const la_prediction_row *row, la_error *err) {
    const double *variance = row->prediction->variance;
    LA_TRY(check_finite(row, "variance", variance, row->n_classes, err));
    for (int64_t c = 0; c < row->n_classes; c++)
        if (variance[c] < 0)
            return la_fail(err, LA_NUMERICAL,
                           "row %lld: variance[%lld] is %.10g, expected 0 or more",
                           (long long)row->index, (long long)c, variance[c]);
    return LA_OK;
}

static la_status check_row(const la_prediction_row *row, la_error *err) {
    const la_prediction *p = row->prediction;
    int64_t n = row->n_classes;
    if (row->label.kind == LA_LABEL_NUMBER)
        return la_gaussian_row_check(row, err);
    LA_TRY(check_distribution(row, "probs", p->probs, err));
    if (p->map_probs)
        LA_TRY(check_distribution(row, "map_probs", p->map_probs, err));
    LA_TRY(check_finite(row, "confidence", &p->confidence, 1, err));
    LA_TRY(check_finite(row, "entropy", &p->entropy, 1, err));
    if (!isnan(p->mutual_information))
        LA_TRY(check_finite(row, "mutual_information", &p->mutual_information, 1, err));
    if (has_variance(row))
        LA_TRY(check_variance(row, err));
    if (!isnan(p->adue) && !(p->adue >= 0 && p->adue <= 1))
        return la_fail(err, LA_NUMERICAL, "row %lld: adue is %g, expected 0 to 1",
                       (long long)row->index, p->adue);
    if (row->emit_logits)
        LA_TRY(check_finite(row, "logits", p->logits, n, err));
    if (row->emit_cov)
        LA_TRY(check_finite(row, "logit_cov", p->logit_cov, n * n, err));
    return LA_OK;
}

static void write_number(FILE *stream, double value) {
    /* adding zero makes -0 a plain 0 */
    fprintf(stream, "%.10g", value + 0.0);
}

static void write_list(FILE *stream, const double *values, int64_t n) {
    fputc('[', stream);
    for (int64_t i = 0; i < n; i++) {
        if (i)
            fputc(',', stream);
        write_number(stream, values[i]);
    }
    fputc(']', stream);
}

static void write_field(FILE *stream, const char *name, double value) {
    fprintf(stream, ",\"%s\":", name);
    if (isnan(value))
        fputs("null", stream);
    else
        write_number(stream, value);
}

/* A JSON string, whatever bytes the text holds. */
static la_status write_string(FILE *stream, const char *text, la_error *err) {
    char *clean = la_text_clean(text, err);
    if (!clean)
        return err->status;
    json_t *string = json_string_nocheck(clean);
    char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    if (quoted)
        la_visible_json(quoted, strlen(quoted), stream);
    else
        la_fail(err, LA_RESOURCE, "out of memory for a string");
    free(clean);
    free(quoted);
    json_decref(string);
    return err->status;
}

/* JSON text of one value; line ends between its tokens would break the row. */
static void write_json_text(FILE *stream, const char *json) {
    while (*json) {
        size_t length = strcspn(json, "\r\n");
        la_visible_json(json, length, stream);
        json += length;
        if (*json) {
            fputc(' ', stream);
            json++;
        }
    }
}

static la_status write_classes(FILE *stream, const la_prediction_row *row, la_error *err) {
    const la_prediction *p = row->prediction;
    int64_t n = row->n_classes;
    fprintf(stream, ",\"prediction\":%d,\"prediction_label\":", p->prediction);
    if (row->labels)
        LA_TRY(write_string(stream, row->labels[p->prediction], err));
    else
        fprintf(stream, "\"%d\"", p->prediction);
    write_field(stream, "confidence", p->confidence);
    fputs(",\"probs\":", stream);
    write_list(stream, p->probs, n);
    if (p->map_probs) {
        fputs(",\"map_probs\":", stream);
        write_list(stream, p->map_probs, n);
    }
    write_field(stream, "entropy", p->entropy);
    write_field(stream, "mutual_information", p->mutual_information);
    fputs(",\"variance\":", stream);
    if (has_variance(row))
        write_list(stream, p->variance, n);
    else
        fputs("null", stream);
    if (!isnan(p->adue))
        write_field(stream, "adue", p->adue);
    return LA_OK;
}

static la_status write_prediction(FILE *stream, const la_prediction_row *row, la_error *err) {
    const la_prediction *p = row->prediction;
    int64_t n = row->n_classes;
    if (row->label.kind == LA_LABEL_NUMBER)
        la_gaussian_row_write(stream, p);
    else
        LA_TRY(write_classes(stream, row, err));
    fputs(",\"confidence_kind\":", stream);
    LA_TRY(write_string(stream, row->confidence_kind, err));
    if (row->emit_logits) {
        fputs(",\"logits\":", stream);
        write_list(stream, p->logits, n);
    }
    if (row->emit_cov) {
        for (int64_t c = 0; c < n; c++) {
            fputs(c ? "," : ",\"logit_cov\":[", stream);
            write_list(stream, p->logit_cov + c * n, n);
        }
        fputc(']', stream);
    }
    return LA_OK;
}

static void write_id(FILE *stream, const la_prediction_row *row) {
    if (!row->id_json)
        return;
    fputs(",\"id\":", stream);
    write_json_text(stream, row->id_json);
}

static void write_label(FILE *stream, const la_prediction_row *row) {
    if (la_label_is_none(row->label))
        return;
    if (row->label.kind == LA_LABEL_NUMBER)
        la_gaussian_label_write(stream, row->label.number);
    else
        fprintf(stream, ",\"label\":%lld", (long long)row->label.class);
}

static void write_word(FILE *stream, const la_token_place *place) {
    if (place->word >= 0)
        fprintf(stream, "\"word\":%lld,", (long long)place->word);
    fprintf(stream, "\"token\":%lld", (long long)place->token);
}

static la_status write_nested(FILE *stream, const la_prediction_row *row, la_error *err) {
    const la_token_place *place = row->place;
    if (place->first) {
        fprintf(stream, "{\"index\":%lld", (long long)row->index);
        write_id(stream, row);
        fputs(",\"tokens\":[", stream);
    }
    if (place->token >= 0) {
        fputs(place->first ? "{" : ",{", stream);
        write_word(stream, place);
        write_label(stream, row);
        LA_TRY(write_prediction(stream, row, err));
        fputc('}', stream);
    }
    if (place->last)
        fputs("]}\n", stream);
    return LA_OK;
}

static la_status write_line(FILE *stream, const la_prediction_row *row, la_error *err) {
    const la_token_place *place = row->place;
    fprintf(stream, "{\"index\":%lld", (long long)row->index);
    if (place && !place->nested)
        fprintf(stream, ",\"row\":%lld", (long long)place->row);
    if (row->error) {
        fputs(",\"error\":", stream);
        LA_TRY(write_string(stream, row->error, err));
    } else {
        if (place) {
            fputc(',', stream);
            write_word(stream, place);
        }
        write_id(stream, row);
        write_label(stream, row);
        LA_TRY(write_prediction(stream, row, err));
    }
    fputs("}\n", stream);
    return LA_OK;
}

la_status la_prediction_write(FILE *stream, const la_prediction_row *row, la_error *err) {
    const la_token_place *place = row->place;
    bool empty = place && place->token < 0;
    if (!row->error && !empty)
        LA_TRY(check_row(row, err));
    if (place && place->nested && !row->error)
        LA_TRY(write_nested(stream, row, err));
    else if (row->error || !empty)
        LA_TRY(write_line(stream, row, err));
    if (ferror(stream))
        return la_fail(err, LA_RESOURCE, "predictions: cannot write: %s", la_errno_text(errno));
    return LA_OK;
}

/* ---- reading ---- */

typedef struct row_reader {
    la_text_source *source;
    const char *name;
    int64_t line;
    char *bytes; /* of the line */
    size_t length, capacity;
    la_predictions *out;
    size_t probs_capacity, map_capacity, labels_capacity;
    int64_t n_rows, n_kinds; /* rows that are predictions; those that say their kind */
    int64_t n_lists;         /* lines that are lists of them */
} row_reader;

/* "FILE:LINE: field" as every message about a row begins. */
static la_status bad_field(const row_reader *reader, const char *key, const char *what,
                           const json_t *found, const char *expected, la_error *err) {
    return la_fail(err, LA_BAD_INPUT, "%s:%lld: \"%s\"%s is %s, expected %s", reader->name,
                   (long long)reader->line, key, what, la_json_kind(found), expected);
}

/* Copies a distribution over n_classes classes into out. */
static la_status take_probs(const row_reader *reader, const char *key, const json_t *list,
                            int64_t n_classes, double *out, la_error *err) {
    double sum = 0;
    if (!json_is_array(list))
        return bad_field(reader, key, "", list, "a list of probabilities", err);
    if (json_array_size(list) != (size_t)n_classes)
        return la_fail(err, LA_BAD_INPUT,
                       "%s:%lld: \"%s\" has %zu entries, expected %lld, one for each class",
                       reader->name, (long long)reader->line, key, json_array_size(list),
                       (long long)n_classes);
    for (int64_t c = 0; c < n_classes; c++) {
        const json_t *entry = json_array_get(list, (size_t)c);
        char place[32];
        snprintf(place, sizeof place, "[%lld]", (long long)c);
        if (!json_is_number(entry))
            return bad_field(reader, key, place, entry, "a number from 0 to 1", err);
        out[c] = json_number_value(entry);
        if (!(out[c] >= 0 && out[c] <= 1))
            return la_fail(err, LA_BAD_INPUT,
                           "%s:%lld: \"%s\"%s is %.10g, expected a number from 0 to 1",
                           reader->name, (long long)reader->line, key, place, out[c]);
        sum += out[c];
    }
    if (fabs(sum - 1) > SUM_TOLERANCE)
        return la_fail(err, LA_BAD_INPUT,
                       "%s:%lld: \"%s\" adds up to %.10g, expected 1 within 1e-6", reader->name,
                       (long long)reader->line, key, sum);
    return LA_OK;
}

/* -1 when the row has none. */
static la_status take_label(const row_reader *reader, const json_t *row, int64_t *label,
                            la_error *err) {
    const json_t *value = json_object_get(row, "label");
    *label = -1;
    if (!value || json_is_null(value))
        return LA_OK;
    if (!json_is_integer(value))
        return bad_field(reader, "label", "", value, "a class index", err);
    *label = json_integer_value(value);
    if (*label < 0 || *label >= reader->out->n_classes)
        return la_fail(err, LA_BAD_INPUT,
                       "%s:%lld: \"label\" is %lld, expected 0 to %lld (no \"label\" where there "
                       "is none)",
                       reader->name, (long long)reader->line, (long long)*label,
                       (long long)reader->out->n_classes - 1);
    return LA_OK;
}

static const char kind_characters[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-";

static la_status take_kind(row_reader *reader, const json_t *row, la_error *err) {
    const char *text = NULL;
    char place[512], kind[LA_CONFIDENCE_KIND_MAX];
    snprintf(place, sizeof place, "%.*s:%lld", (int)la_visible_cut(reader->name, 400), reader->name,
             (long long)reader->line);
    LA_TRY(la_json_text(row, place, "confidence_kind", false, &text, err));
    if (!text)
        return LA_OK;
    snprintf(kind, sizeof kind, "%s", text);
    /* it is shown in terminals and markup */
    for (char *c = kind; *c; c++)
        if (!strchr(kind_characters, *c))
            *c = '?';
    if (reader->n_kinds++ && strcmp(kind, reader->out->confidence_kind))
        strcpy(kind, "mixed");
    memcpy(reader->out->confidence_kind, kind, sizeof kind);
    return LA_OK;
}

static la_status take_gaussian(row_reader *reader, const json_t *row, la_error *err) {
    la_predictions *out = reader->out;
    char place[512];
    la_gaussian own, map;
    size_t n = (size_t)out->n;
    reader->n_rows++;
    out->regression = true;
    out->n_classes = 1;
    snprintf(place, sizeof place, "%.*s:%lld", (int)la_visible_cut(reader->name, 400), reader->name,
             (long long)reader->line);
    LA_TRY(la_gaussian_row_read(row, place, &own, &map, err));
    LA_TRY(take_kind(reader, row, err));
    LA_TRY(la_grow(&out->gaussians, &reader->probs_capacity, n + 1, sizeof own, err));
    LA_TRY(la_grow(&out->map_gaussians, &reader->map_capacity, n + 1, sizeof map, err));
    out->n_without_map += isnan(map.variance);
    out->gaussians[n] = own;
    out->map_gaussians[n] = map;
    if (isnan(own.label))
        out->n_unlabelled++;
    else
        out->n++;
    return LA_OK;
}

/* A prediction: a line, or an entry of a line's tokens. */
static la_status take_prediction(row_reader *reader, const json_t *row, la_error *err) {
    la_predictions *out = reader->out;
    const json_t *probs = json_object_get(row, "probs");
    const json_t *map = json_object_get(row, "map_probs");
    int64_t label;
    if (!probs)
        return la_fail(err, LA_BAD_INPUT,
                       "%s:%lld: no field \"probs\"; expected rows as laplora predict writes them",
                       reader->name, (long long)reader->line);
    if (!reader->n_rows++) {
        out->n_classes = (int64_t)json_array_size(probs);
        if (json_is_array(probs) && out->n_classes < 2)
            return la_fail(err, LA_BAD_INPUT,
                           "%s:%lld: \"probs\" has %lld entries, expected one for each of at "
                           "least 2 classes",
                           reader->name, (long long)reader->line, (long long)out->n_classes);
    }
    size_t n = (size_t)out->n, classes = (size_t)out->n_classes;
    LA_TRY(
        la_grow(&out->probs, &reader->probs_capacity, (n + 1) * classes, sizeof *out->probs, err));
    LA_TRY(la_grow(&out->map_probs, &reader->map_capacity, (n + 1) * classes,
                   sizeof *out->map_probs, err));
    LA_TRY(la_grow(&out->labels, &reader->labels_capacity, n + 1, sizeof *out->labels, err));
    LA_TRY(take_probs(reader, "probs", probs, out->n_classes, out->probs + n * classes, err));
    if (map && !json_is_null(map))
        LA_TRY(take_probs(reader, "map_probs", map, out->n_classes, out->map_probs + n * classes,
                          err));
    else
        out->n_without_map++;
    LA_TRY(take_label(reader, row, &label, err));
    LA_TRY(take_kind(reader, row, err));
    /* a row without a label is checked like any other, then overwritten by the next one */
    out->labels[n] = label;
    if (label < 0)
        out->n_unlabelled++;
    else
        out->n++;
    return LA_OK;
}

static la_status take_row(row_reader *reader, const json_t *row, la_error *err) {
    const json_t *tokens = json_object_get(row, "tokens"), *error = json_object_get(row, "error");
    bool probs = json_object_get(row, "probs") != NULL, first = !reader->n_rows && !reader->n_lists;
    size_t i;
    json_t *entry;
    if (error && !json_is_null(error)) {
        reader->out->n_errors++;
        return LA_OK;
    }
    if (!probs && la_gaussian_row_is(row) && (reader->out->regression || first))
        return take_gaussian(reader, row, err);
    if (reader->out->regression)
        return la_fail(err, LA_BAD_INPUT,
                       "%s:%lld: is no row of a regression, as those before it are; expected "
                       "\"prediction\" and \"variance\", numbers, and no \"probs\"",
                       reader->name, (long long)reader->line);
    if (!tokens || probs)
        return take_prediction(reader, row, err);
    if (!json_is_array(tokens))
        return bad_field(reader, "tokens", "", tokens, "a list of predictions", err);
    reader->n_lists++;
    json_array_foreach(tokens, i, entry) {
        char place[32];
        snprintf(place, sizeof place, "[%zu]", i);
        if (!json_is_object(entry))
            return bad_field(reader, "tokens", place, entry, "a prediction", err);
        LA_TRY(take_prediction(reader, entry, err));
    }
    return LA_OK;
}

static bool is_blank(const char *text, size_t length) {
    size_t blank = 0;
    while (blank < length && strchr(" \t\r\n", text[blank]) && text[blank])
        blank++;
    return blank == length;
}

static la_status parse_row(row_reader *reader, const char *text, size_t length, la_error *err) {
    json_error_t where;
    /* an id may be a number of any size */
    json_t *row = la_json_parse(text, length, JSON_REJECT_DUPLICATES, &where, err);
    la_status status = LA_OK;
    if (err->status != LA_OK)
        status = err->status;
    else if (!row)
        status = la_fail(err, LA_BAD_INPUT, "%s:%lld: not valid JSON: %s (column %d)", reader->name,
                         (long long)reader->line, where.text, where.column);
    else if (!json_is_object(row))
        status = la_fail(err, LA_BAD_INPUT, "%s:%lld: the row is %s, expected a JSON object",
                         reader->name, (long long)reader->line, la_json_kind(row));
    else
        status = take_row(reader, row, err);
    json_decref(row);
    return status;
}

static la_status read_line(row_reader *reader, bool *more, la_error *err) {
    LA_TRY(la_text_source_line(reader->source, &reader->bytes, &reader->length, &reader->capacity,
                               more, err));
    if (la_text_source_at(reader->source) % 1024 == 0)
        LA_TRY(la_check_interrupt(err));
    return LA_OK;
}

/* A list of rows, or rows over several lines, whose first line is there. */
static la_status read_document(row_reader *reader, la_error *err) {
    bool more = true, closed;
    while (more)
        LA_TRY(read_line(reader, &more, err));
    const char *text = reader->bytes;
    size_t at = strspn(text, " \t\r\n"), counted = 0, length = reader->length;
    at += text[at] == '[';
    for (;;) {
        while (at < length && text[at] && strchr(" \t\r\n,]", text[at]))
            at++;
        for (; counted < at; counted++)
            reader->line += text[counted] == '\n';
        if (at >= length)
            return LA_OK;
        size_t n = la_json_extent(text + at, length - at, &closed);
        if (!closed)
            return la_fail(err, LA_BAD_INPUT,
                           "%s:%lld: not valid JSON: what begins here has no end", reader->name,
                           (long long)reader->line);
        n = n ? n : 1;
        LA_TRY(parse_row(reader, text + at, n, err));
        at += n;
    }
}

static la_status read_rows(row_reader *reader, la_error *err) {
    bool more = true, first = true;
    while (more) {
        reader->length = 0;
        LA_TRY(read_line(reader, &more, err));
        reader->line = la_text_source_at(reader->source);
        if (!more || is_blank(reader->bytes, reader->length))
            continue;
        if (first && la_json_is_document(reader->bytes, reader->length)) {
            LA_TRY(read_document(reader, err));
            break;
        }
        first = false;
        LA_TRY(parse_row(reader, reader->bytes, reader->length, err));
    }
    if (!reader->n_rows && !reader->out->n_errors && !reader->n_lists)
        return la_fail(err, LA_BAD_INPUT, "%s: is empty, expected prediction rows", reader->name);
    if (reader->out->n_without_map || !reader->out->n) {
        free(reader->out->map_probs);
        free(reader->out->map_gaussians);
        reader->out->map_probs = NULL;
        reader->out->map_gaussians = NULL;
    }
    return LA_OK;
}

la_status la_predictions_read(const char *path, la_predictions *predictions, la_error *err) {
    row_reader reader = {.out = predictions};
    *predictions = (la_predictions){0};
    la_digest *digest = la_digest_new(err);
    if (!digest)
        return err->status;
    la_status status =
        la_text_source_open(path, "a prediction file", false, digest, &reader.source, err);
    if (status == LA_OK) {
        reader.name = la_text_source_name(reader.source);
        status = read_rows(&reader, err);
    }
    la_text_source_close(reader.source);
    free(reader.bytes);
    la_digest_finish(digest, predictions->digest);
    if (status != LA_OK)
        la_predictions_free(predictions);
    return status;
}

void la_predictions_free(la_predictions *predictions) {
    free(predictions->probs);
    free(predictions->map_probs);
    free(predictions->labels);
    free(predictions->gaussians);
    free(predictions->map_gaussians);
    *predictions = (la_predictions){0};
}

#include "output/measurement.h"
#include "base/memory.h"
#include "base/visible.h"
#include "input/json.h"
#include "output/escape.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA "laplora.bench/1"
enum { FILE_MOST = 1 << 24 };
#define SHOWN 0.01 /* least share of the time of an operation that is shown unasked */

/* ---- figures that are compared ---- */

enum { ROW_RATE, TOKEN_RATE, SECONDS, PROCESSOR, LOAD, SHARE, PEAK, WAY_FIGURES };
static const char *const way_figures[WAY_FIGURES] = {
    "rows_per_second", "tokens_per_second", "seconds",   "processor_seconds",
    "seconds_load",    "share_of_peak",     "peak_bytes"};

static double over(double a, double b) {
    return b > 0 ? a / b : NAN;
}

static void way_values(const la_measurement *m, const la_measured_way *way,
                       double values[WAY_FIGURES]) {
    values[ROW_RATE] = over((double)m->n_rows, way->seconds);
    values[TOKEN_RATE] = over((double)m->n_tokens, way->seconds);
    values[SECONDS] = way->seconds;
    values[PROCESSOR] = way->processor;
    values[LOAD] = way->seconds_load;
    values[SHARE] = over(way->flops, way->seconds * m->peak_rate);
    values[PEAK] = way->peak ? (double)way->peak : NAN;
}

struct la_measured_before {
    char *path;
    json_t *root;
    double peak_rate;
    int n_ways;
    struct {
        const char *name; /* the root's */
        double values[WAY_FIGURES];
    } ways[LA_WAYS];
};

void la_measured_before_free(la_measured_before *before) {
    if (!before)
        return;
    json_decref(before->root);
    free(before->path);
    free(before);
}

static la_status read_way(la_measured_before *b, const json_t *way, la_error *err) {
    double *values = b->ways[b->n_ways].values;
    LA_TRY(la_json_text(way, b->path, "name", true, &b->ways[b->n_ways].name, err));
    for (int f = 0; f < WAY_FIGURES; f++) {
        values[f] = NAN;
        LA_TRY(la_json_number(way, b->path, way_figures[f], false, &values[f], err));
        if (values[f] < 0)
            return la_fail(err, LA_BAD_INPUT, "%s: way %s: %s is %g, expected at least 0", b->path,
                           b->ways[b->n_ways].name, way_figures[f], values[f]);
    }
    b->n_ways++;
    return LA_OK;
}

static la_status read_before(la_measured_before *b, la_error *err) {
    const char *schema = NULL;
    const json_t *ways, *way;
    size_t i;
    LA_TRY(la_json_load(b->path, FILE_MOST, &b->root, err));
    LA_TRY(la_json_text(b->root, b->path, "schema", false, &schema, err));
    if (!schema || strcmp(schema, SCHEMA))
        return la_fail(err, LA_BAD_INPUT,
                       "%s: schema is %s%.60s%s, expected \"" SCHEMA "\", as bench --json writes",
                       b->path, schema ? "\"" : "", schema ? schema : "missing",
                       schema ? "\"" : "");
    const json_t *peak = json_object_get(b->root, "product_peak");
    b->peak_rate = NAN;
    if (json_is_object(peak))
        LA_TRY(la_json_number(peak, b->path, "flops_per_second", false, &b->peak_rate, err));
    ways = json_object_get(b->root, "ways");
    if (!json_is_array(ways) || json_array_size(ways) > LA_WAYS)
        return la_fail(err, LA_BAD_INPUT, "%s: ways is %s, expected a list of at most %d", b->path,
                       la_json_kind(ways), LA_WAYS);
    json_array_foreach(ways, i, way) {
        if (!json_is_object(way))
            return la_fail(err, LA_BAD_INPUT, "%s: ways[%zu] is %s, expected an object", b->path, i,
                           la_json_kind(way));
        LA_TRY(read_way(b, way, err));
    }
    return LA_OK;
}

la_status la_measured_before_load(const char *path, la_measured_before **before, la_error *err) {
    la_measured_before *b = *before = la_alloc(1, sizeof *b, err);
    if (!b)
        return err->status;
    b->path = la_alloc(strlen(path) + 1, 1, err);
    la_status status = err->status;
    if (status == LA_OK) {
        strcpy(b->path, path);
        status = read_before(b, err);
    }
    if (status != LA_OK) {
        la_measured_before_free(b);
        *before = NULL;
    }
    return status;
}

/* Values of the way of that name in the earlier measurement; NULL: it has none. */
static const double *values_before(const la_measured_before *before, const char *name) {
    for (int w = 0; w < before->n_ways; w++)
        if (!strcmp(before->ways[w].name, name))
            return before->ways[w].values;
    return NULL;
}

/* ---- what differs between the two, beside their figures ---- */

enum { FACTS = 12 };
typedef struct fact {
    const char *name;
    const char *text; /* NULL: a number */
    int64_t number;
} fact;

static void facts_of(const la_measurement *m, fact facts[FACTS]) {
    const fact list[FACTS] = {
        {"model", m->model, 0},         {"rows_digest", m->rows, 0},
        {"n_rows", NULL, m->n_rows},    {"n_tokens", NULL, m->n_tokens},
        {"processor", m->processor, 0}, {"instructions", m->instructions, 0},
        {"kernels", m->kernels, 0},     {"device", m->device, 0},
        {"precision", m->precision, 0}, {"samples", NULL, m->samples},
        {"threads", NULL, m->threads},  {"batch_tokens", NULL, m->batch_tokens}};
    memcpy(facts, list, sizeof list);
}

static bool differs(const la_measured_before *before, const fact *one) {
    const json_t *value = json_object_get(before->root, one->name);
    return one->text ? !json_is_string(value) || strcmp(json_string_value(value), one->text)
                     : !json_is_integer(value) || json_integer_value(value) != one->number;
}

/* ---- JSON ---- */

static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static void put(json_t *object, const char *name, double value) {
    json_object_set_new(object, name, number(value));
}

static void put_count(json_t *object, const char *name, int64_t value) {
    json_object_set_new(object, name, json_integer(value));
}

/* Text of a path may be of any bytes. */
static void put_text(json_t *object, const char *name, const char *text, la_error *err) {
    char *clean = la_text_clean(text, err);
    json_object_set_new(object, name, clean ? json_string(clean) : NULL);
    free(clean);
}

static json_t *ops_json(const la_measured_way *way) {
    json_t *list = json_array();
    for (int i = 0; i < way->n_ops; i++) {
        const la_profile_op *op = &way->ops[i];
        json_t *one = json_pack("{s:s,s:s,s:I}", "name", op->name, "kind",
                                op->product ? "product" : "other", "calls", (json_int_t)op->calls);
        put(one, "seconds", op->seconds);
        put(one, "share", over(op->seconds, way->seconds_profiled));
        put(one, "flops", op->flops);
        json_array_append_new(list, one);
    }
    return list;
}

static double seconds_in(const la_measured_way *way, bool products) {
    double sum = 0;
    for (int i = 0; i < way->n_ops; i++)
        sum += !products || way->ops[i].product ? way->ops[i].seconds : 0;
    return sum;
}

/* Share of the peak that the products reach while they run. */
static double share_within(const la_measurement *m, const la_measured_way *way) {
    return over(way->flops, seconds_in(way, true) * m->peak_rate);
}

static json_t *way_json(const la_measurement *m, const la_measured_way *way) {
    double values[WAY_FIGURES];
    json_t *passes = json_array(), *object = json_object();
    way_values(m, way, values);
    json_object_set_new(object, "name", json_string(way->name));
    json_object_set_new(object, "predictive", json_string(way->predictive));
    json_object_set_new(object, "cost", json_string(way->forward ? "forward" : "any"));
    put_count(object, "n_settings", way->n_settings);
    put_count(object, "samples", way->samples);
    for (int f = 0; f < WAY_FIGURES; f++)
        if (f == PEAK)
            json_object_set_new(object, way_figures[f],
                                way->peak ? json_integer((json_int_t)way->peak) : json_null());
        else
            put(object, way_figures[f], values[f]);
    for (int i = 0; i < m->repeats; i++)
        json_array_append_new(passes, json_real(way->passes[i]));
    json_object_set_new(object, "passes", passes);
    put(object, "product_flops", way->flops);
    put(object, "share_of_peak_within_products", share_within(m, way));
    put(object, "seconds_profiled", way->seconds_profiled);
    put(object, "seconds_outside", fmax(way->seconds_profiled - seconds_in(way, false), 0));
    json_object_set_new(object, "operations", ops_json(way));
    return object;
}

static json_t *against_json(const la_measurement *m, const la_measured_before *before,
                            la_error *err) {
    json_t *object = json_object(), *ways = json_array(), *differ = json_array();
    fact facts[FACTS];
    put_text(object, "file", before->path, err);
    put(object, "product_peak", over(m->peak_rate, before->peak_rate));
    for (int w = 0; w < m->n_ways; w++) {
        const double *old = values_before(before, m->ways[w].name);
        double values[WAY_FIGURES];
        if (!old)
            continue;
        way_values(m, &m->ways[w], values);
        json_t *one = json_pack("{s:s}", "name", m->ways[w].name);
        for (int f = 0; f < WAY_FIGURES; f++)
            put(one, way_figures[f], over(values[f], old[f]));
        json_array_append_new(ways, one);
    }
    json_object_set_new(object, "ways", ways);
    facts_of(m, facts);
    for (int i = 0; i < FACTS; i++)
        if (differs(before, &facts[i]))
            json_array_append_new(differ, json_string(facts[i].name));
    json_object_set_new(object, "differs", differ);
    return object;
}

static la_status write_json(const la_measurement *m, const la_measured_before *before, FILE *stream,
                            la_error *err) {
    json_t *root = json_object(), *ways = json_array(), *part;
    fact facts[FACTS];
    json_object_set_new(root, "schema", json_string(SCHEMA));
    json_object_set_new(root, "version", json_string(LAPLORA_VERSION));
    put_text(root, "posterior", m->posterior, err);
    put_text(root, "data", m->data, err);
    facts_of(m, facts);
    for (int i = 0; i < FACTS; i++)
        if (facts[i].text)
            put_text(root, facts[i].name, facts[i].text, err);
        else
            put_count(root, facts[i].name, facts[i].number);
    put_text(root, "products", m->products, err);
    put_count(root, "n_rows_in_file", m->n_rows_all);
    put_count(root, "longest", m->longest);
    put_count(root, "n_classes", m->n_classes);
    put_count(root, "repeats", m->repeats);
    put(root, "seconds_read", m->seconds_read);
    part = json_pack("{s:I}", "side", (json_int_t)m->peak_side);
    put(part, "flops_per_second", m->peak_rate);
    json_object_set_new(root, "product_peak", part);
    put_count(root, "weight_bytes", (int64_t)m->weights);
    put_count(root, "weight_bytes_copied", (int64_t)m->copied);
    for (int w = 0; w < m->n_ways; w++)
        json_array_append_new(ways, way_json(m, &m->ways[w]));
    json_object_set_new(root, "ways", ways);
    if (before)
        json_object_set_new(root, "against", against_json(m, before, err));
    if (err->status == LA_OK &&
        (la_json_write(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9), stream) ||
         fputc('\n', stream) == EOF) &&
        !ferror(stream))
        (void)la_fail(err, LA_RESOURCE, "out of memory for the measurement");
    json_decref(root);
    return err->status;
}

/* ---- text ---- */

static void write_way(const la_measurement *m, const la_measured_way *way, FILE *stream) {
    double values[WAY_FIGURES];
    char peak[24] = "-", share[24] = "-";
    way_values(m, way, values);
    if (way->peak)
        snprintf(peak, sizeof peak, "%.0f", la_mib(values[PEAK]));
    if (isfinite(values[SHARE]))
        snprintf(share, sizeof share, "%.1f%%", 100 * values[SHARE]);
    fprintf(stream, "%-8s %9.1f %9.0f %9.4f %9.4f %8s %8.3f %9s   %s", way->name, values[ROW_RATE],
            values[TOKEN_RATE], way->seconds, way->processor, share, way->seconds_load, peak,
            way->predictive);
    if (way->n_settings > 1)
        fprintf(stream, " of %lld settings", (long long)way->n_settings);
    if (way->samples)
        fprintf(stream, ", %lld draws", (long long)way->samples);
    fprintf(stream, ", %s\n", way->forward ? "forward alone" : "forward and backward");
}

static void write_ops(const la_measurement *m, const la_measured_way *way, bool all, FILE *stream) {
    fprintf(stream, "%s: products at %.0f%% of the peak while they run; operations of a pass:\n",
            way->name, 100 * share_within(m, way));
    for (int i = 0; i < way->n_ops; i++) {
        const la_profile_op *op = &way->ops[i];
        double share = over(op->seconds, way->seconds_profiled);
        if (all || share >= SHOWN)
            fprintf(stream, "  %-20s %9.4f s %5.1f%% %8lld calls%s\n", op->name, op->seconds,
                    100 * share, (long long)op->calls, op->product ? "   product" : "");
    }
    double rest = fmax(way->seconds_profiled - seconds_in(way, false), 0);
    fprintf(stream, "  %-20s %9.4f s %5.1f%%\n", "outside of them", rest,
            100 * over(rest, way->seconds_profiled));
}

static void write_against(const la_measurement *m, const la_measured_before *before, FILE *stream) {
    fact facts[FACTS];
    fputs("against ", stream);
    la_visible_write(before->path, stream);
    fputs(", new over old:\n         rows/s    processor  of peak  load      peak memory\n",
          stream);
    for (int w = 0; w < m->n_ways; w++) {
        static const int shown[] = {ROW_RATE, PROCESSOR, SHARE, LOAD, PEAK};
        const double *old = values_before(before, m->ways[w].name);
        double values[WAY_FIGURES];
        if (!old)
            continue;
        way_values(m, &m->ways[w], values);
        fprintf(stream, "%-8s", m->ways[w].name);
        for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
            fprintf(stream, " %-9.3f", over(values[shown[i]], old[shown[i]]));
        fputc('\n', stream);
    }
    fprintf(stream, "peak of products %.3f\n", over(m->peak_rate, before->peak_rate));
    facts_of(m, facts);
    for (int i = 0; i < FACTS; i++)
        if (differs(before, &facts[i]))
            fprintf(stream, "note: another %s than the old one's\n", facts[i].name);
}

static void write_text(const la_measurement *m, const la_measured_before *before, bool all,
                       FILE *stream) {
    fprintf(stream, "%lld rows, %lld tokens (longest %lld), %lld outputs; read in %.3f s\n",
            (long long)m->n_rows, (long long)m->n_tokens, (long long)m->longest,
            (long long)m->n_classes, m->seconds_read);
    fprintf(stream, "%s%s%d threads, %s, %s; instructions of other operations: %s\n", m->processor,
            *m->processor ? "; " : "", m->threads, m->device, m->precision, m->instructions);
    fprintf(stream, "%s\n", m->kernels);
    if (*m->products)
        fprintf(stream, "%s\n", m->products);
    fprintf(stream, "peak of products here: %.1f GFLOP/s (side %lld)\n", 1e-9 * m->peak_rate,
            (long long)m->peak_side);
    fprintf(stream, "weights: %.1f MiB, of which %.1f MiB are copies\n", la_mib((double)m->weights),
            la_mib((double)m->copied));
    fprintf(stream, "medians of %d passes\n%-8s %9s %9s %9s %9s %8s %8s %9s\n", m->repeats, "",
            "rows/s", "tokens/s", "seconds", "processor", "of peak", "load s", "peak MiB");
    for (int w = 0; w < m->n_ways; w++)
        write_way(m, &m->ways[w], stream);
    for (int w = 0; w < m->n_ways; w++)
        write_ops(m, &m->ways[w], all, stream);
    if (before)
        write_against(m, before, stream);
}

la_status la_measurement_write(const la_measurement *m, const la_measured_before *before, bool json,
                               bool all, FILE *stream, la_error *err) {
    if (json)
        return write_json(m, before, stream, err);
    write_text(m, before, all, stream);
    return LA_OK;
}

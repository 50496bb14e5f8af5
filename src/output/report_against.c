#include "output/report_against.h"
#include "base/memory.h"
#include "base/stop.h"
#include "base/visible.h"
#include "output/bootstrap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- ids ---- */

la_status la_row_ids_open(la_row_ids *ids, la_error *err) {
    ids->rows = json_object();
    return ids->rows ? LA_OK : la_fail(err, LA_RESOURCE, "out of memory for ids");
}

void la_row_ids_free(la_row_ids *ids) {
    json_decref(ids->rows);
    *ids = (la_row_ids){0};
}

static const la_json_value *field_of(const la_prediction_entry *entry, const char *name) {
    const la_json_value *own = la_entry_field(entry, name);
    return own && own->type != 'n' ? own : NULL;
}

/* What a string says; another value in compact form, its keys sorted. */
static char *text_of(const la_json_value *value, la_error *err) {
    int64_t integer;
    if (value->type == '"' || la_json_value_integer(value, &integer))
        return la_json_value_text(value, err);
    json_t *parsed = la_json_value_parse(value);
    char *text =
        parsed ? json_dumps(parsed, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(parsed);
    if (!text)
        (void)la_fail(err, LA_RESOURCE, "out of memory for ids");
    return text;
}

/* "ID" or "ID, token N"; a number is its digits, so that tables have the same ids. The caller frees
 * it. */
static char *id_of(const la_prediction_entry *entry, la_error *err) {
    const la_json_value *id = field_of(entry, "id"), *token = field_of(entry, "token");
    char place[LA_ENTRY_PLACE], *full = NULL;
    int64_t number;
    id = id ? id : field_of(entry, "index");
    if (!id) {
        (void)la_fail(err, LA_BAD_INPUT,
                      "%s: no \"id\" and no \"index\"; expected one, by which rows are paired",
                      la_entry_place(entry, place));
        return NULL;
    }
    char *text = text_of(id, err);
    if (!text || !token || !la_json_value_integer(token, &number))
        return text;
    size_t size = strlen(text) + 40;
    full = la_alloc(size, 1, err);
    if (full)
        snprintf(full, size, "%s, token %lld", text, (long long)number);
    free(text);
    return full;
}

static la_status bad_id(const char *place, const char *id, const char *what, la_error *err) {
    char shown[128];
    la_visible(id, shown, sizeof shown);
    return la_fail(err, LA_BAD_INPUT, "%s: id \"%s\" %s", place, shown, what);
}

la_status la_row_ids_see(la_row_ids *ids, const la_prediction_entry *entry, int64_t number,
                         la_error *err) {
    char place[LA_ENTRY_PLACE];
    if (number < 0)
        return LA_OK;
    char *id = id_of(entry, err);
    if (!id)
        return err->status;
    if (json_object_get(ids->rows, id))
        (void)bad_id(la_entry_place(entry, place), id,
                     "is there twice; expected each once, so that rows can be paired", err);
    else if (json_object_set_new(ids->rows, id, json_integer(number)))
        (void)la_fail(err, LA_RESOURCE, "out of memory for ids");
    free(id);
    return err->status;
}

/* Rows of the other file by the number of the own row of the same id; -1: none yet. */
typedef struct pairing {
    const la_row_ids *ids;
    const char *file;
    int64_t *partner; /* [n] */
} pairing;

static la_status see_partner(void *user, const la_prediction_entry *entry, int64_t number,
                             la_error *err) {
    const pairing *pairs = user;
    char what[256], place[LA_ENTRY_PLACE];
    if (number < 0)
        return LA_OK;
    char *id = id_of(entry, err);
    if (!id)
        return err->status;
    const json_t *own = json_object_get(pairs->ids->rows, id);
    (void)la_entry_place(entry, place);
    snprintf(what, sizeof what, "has no row with a label in %.*s; expected the same rows",
             (int)la_visible_cut(pairs->file, 180), pairs->file);
    if (!own)
        (void)bad_id(place, id, what, err);
    else if (pairs->partner[json_integer_value(own)] >= 0)
        (void)bad_id(place, id, "is there twice; expected each once, so that rows can be paired",
                     err);
    else
        pairs->partner[json_integer_value(own)] = number;
    free(id);
    return err->status;
}

/* LA_BAD_INPUT where a row has no partner, or one of another label. */
static la_status check_pairs(const pairing *pairs, const char *path, const la_predictions *own,
                             const la_predictions *other, la_error *err) {
    const char *id;
    json_t *number;
    if (own->kind != other->kind || own->n_classes != other->n_classes)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: predictions of %s, %lld classes; those of %s are of %s, %lld classes",
                       path, other->kind->metrics->rows, (long long)other->n_classes, pairs->file,
                       own->kind->metrics->rows, (long long)own->n_classes);
    json_object_foreach(pairs->ids->rows, id, number) {
        int64_t i = json_integer_value(number);
        if (pairs->partner[i] < 0)
            return bad_id(path, id, "has no row with a label; expected the same rows in both", err);
        if (!la_label_equal(la_label_list_at(&own->labels, i),
                            la_label_list_at(&other->labels, pairs->partner[i]), own->n_classes))
            return bad_id(path, id, "has another label; expected the same in both", err);
    }
    return LA_OK;
}

/* ---- bootstrap ---- */

/* Rows of a file as they are measured. */
typedef struct side {
    void *prepared;
    uint32_t *order; /* [n] row at each place */
    la_slices counts, work;
} side;

static la_status open_side(la_team team, const la_metric_set *set, const la_predictions *p, side *s,
                           la_error *err) {
    la_metric_rows rows = {p->n, p->n_classes, p->values, p->labels};
    s->order = la_alloc((size_t)p->n, sizeof *s->order, err);
    if (!s->order)
        return err->status;
    LA_TRY(set->prepare(&rows, s->order, &s->prepared, err));
    size_t n_counts = (size_t)p->n * (size_t)set->at_once;
    LA_TRY(la_slices_open(team, n_counts * sizeof(uint32_t), &s->counts, err));
    return la_slices_open(team, set->workspace ? set->workspace(s->prepared) : 0, &s->work, err);
}

static void close_side(side *s) {
    free(s->prepared);
    free(s->order);
    free(s->counts.memory);
    free(s->work.memory);
}

/* The place of the other file that holds the partner of each place's row. */
static uint32_t *map_places(int64_t n, const side *own, const side *other, const int64_t *partner,
                            la_error *err) {
    uint32_t *map = la_alloc((size_t)n, sizeof *map, err);
    uint32_t *place = la_alloc((size_t)n, sizeof *place, err);
    for (int64_t k = 0; map && place && k < n; k++)
        place[other->order[k]] = (uint32_t)k;
    for (int64_t k = 0; map && place && k < n; k++)
        map[k] = place[partner[own->order[k]]];
    free(place);
    return map;
}

static la_status resample(la_team team, int64_t n, const la_metric_set *set, const side *own,
                          const side *other, const uint32_t *map, int64_t rounds, uint64_t seed,
                          double *values, double *others, la_error *err) {
    const int64_t each = set->at_once;
#pragma omp parallel num_threads(team.threads)
    {
        uint32_t *count = la_slices_own(&own->counts), *paired = la_slices_own(&other->counts);
        void *work = la_slices_own(&own->work), *other_work = la_slices_own(&other->work);
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rounds; r++) {
            int64_t first = r * each * set->n;
            if (la_interrupted())
                continue;
            la_bootstrap_draw(count, set->at_once, n, seed, (uint64_t)(r * each));
            for (int64_t i = 0; i < n; i++)
                memcpy(paired + map[i] * each, count + i * each, (size_t)each * sizeof *count);
            set->measure(own->prepared, work, count, values + first, NULL);
            set->measure(other->prepared, other_work, paired, others + first, NULL);
        }
    }
    return la_check_interrupt(err);
}

/* A metric in the resamples of both files; column: that of a file, or of the difference. */
typedef struct resampled {
    const double *values, *others; /* [resamples, n] */
    int64_t n, resamples;
    double *column; /* [resamples], overwritten */
} resampled;

static la_interval interval_of(const resampled *from, const la_metric_info *info, int metric,
                               const double *values, double value) {
    for (int64_t r = 0; r < from->resamples; r++)
        from->column[r] = values[r * from->n + metric];
    return la_bootstrap_interval(info, value, from->column, from->resamples);
}

/* The interval of a difference from those of its parts, end against end: holds it where both hold
 * theirs. */
static la_interval from_parts(la_interval own, la_interval other) {
    return (la_interval){own.lo - other.hi, own.hi - other.lo};
}

/* Interval and test of a metric. Distances are pushed up by chance, the more the smaller they are,
 * and so a difference of two towards 0: percentiles of the resamples' differences do not hold it
 * (bench/interval_coverage.c). */
static void summarise(la_against *against, const la_metric_set *set, int metric, double value,
                      const resampled *from) {
    static const la_metric_info difference = {.name = "difference"};
    const la_metric_info *info = &set->list[metric];
    int64_t below = 0, above = 0, n = 0;
    double other = against->value[metric];
    against->difference[metric] = value - other;
    for (int64_t r = 0; r < from->resamples; r++) {
        double gap = from->values[r * from->n + metric] - from->others[r * from->n + metric];
        from->column[r] = gap;
        n += !isnan(gap);
        below += gap <= 0;
        above += gap >= 0;
    }
    against->intervals[metric] = la_bootstrap_interval(&difference, against->difference[metric],
                                                       from->column, from->resamples);
    /* files that are the same in every resample are the same */
    if (info->gap && against->intervals[metric].lo < against->intervals[metric].hi)
        against->intervals[metric] =
            from_parts(interval_of(from, info, metric, from->values, value),
                       interval_of(from, info, metric, from->others, other));
    double rarer = (double)(below < above ? below : above);
    against->p[metric] =
        isnan(against->intervals[metric].lo) ? NAN : fmin(1, 2 * (rarer + 1) / ((double)n + 1));
}

la_status la_against_compare(la_team team, const la_predictions *own, const la_predictions *other,
                             const int64_t *partner, int64_t resamples, uint64_t seed,
                             la_against *against, la_error *err) {
    const la_metric_set *set = own->kind->metrics;
    la_metric_rows rows = {own->n, own->n_classes, own->values, own->labels};
    side a = {0}, b = {0};
    double value[LA_METRICS_MAX], *values = NULL, *others = NULL, *column = NULL;
    uint32_t *map = NULL;
    la_status status = LA_OK;
    resamples = la_metrics_resamples(&rows, resamples);
    int64_t rounds = (resamples + set->at_once - 1) / set->at_once;
    if (team.threads > rounds)
        team.threads = (int)rounds;
    LA_TRY_DONE(open_side(team, set, own, &a, err));
    LA_TRY_DONE(open_side(team, set, other, &b, err));
    map = map_places(own->n, &a, &b, partner, err);
    values = la_alloc((size_t)(rounds * set->at_once), (size_t)set->n * sizeof *values, err);
    others = la_alloc((size_t)(rounds * set->at_once), (size_t)set->n * sizeof *others, err);
    column = la_alloc((size_t)resamples, sizeof *column, err);
    LA_TRY_DONE(err->status);
    set->measure(a.prepared, a.work.memory, NULL, value, NULL);
    set->measure(b.prepared, b.work.memory, NULL, against->value, NULL);
    LA_TRY_DONE(resample(team, own->n, set, &a, &b, map, rounds, seed, values, others, err));
    resampled drawn = {values, others, set->n, resamples, column};
    for (int m = 0; m < set->n; m++)
        summarise(against, set, m, value[m], &drawn);
done:
    close_side(&a);
    close_side(&b);
    free(map);
    free(values);
    free(others);
    free(column);
    return status;
}

la_status la_against_read(la_team team, const char *path, const char *file,
                          const la_predictions *own, const la_row_ids *ids, int64_t resamples,
                          uint64_t seed, la_against *against, la_error *err) {
    la_predictions other = {0};
    pairing pairs = {.ids = ids, .file = file};
    la_prediction_watch watch = {.see = see_partner, .user = &pairs};
    la_status status = LA_OK;
    *against = (la_against){0};
    pairs.partner = la_alloc((size_t)own->n, sizeof *pairs.partner, err);
    against->file = la_visible_copy(path, err);
    LA_TRY_DONE(err->status);
    for (int64_t i = 0; i < own->n; i++)
        pairs.partner[i] = -1;
    LA_TRY_DONE(la_predictions_watch(path, &watch, &other, err));
    memcpy(against->digest, other.digest, sizeof against->digest);
    LA_TRY_DONE(check_pairs(&pairs, path, own, &other, err));
    status = la_against_compare(team, own, &other, pairs.partner, resamples, seed, against, err);
done:
    free(pairs.partner);
    la_predictions_free(&other);
    if (status != LA_OK)
        la_against_free(against);
    return status;
}

void la_against_free(la_against *against) {
    free(against->file);
    *against = (la_against){0};
}

int la_against_better(const la_against *against, const la_metric_set *set, int metric) {
    int direction = set->list[metric].direction;
    if (!(against->p[metric] <= 0.05))
        return 0;
    return against->difference[metric] > 0 ? direction : -direction;
}

/* The guard on random splits of labelled rows into those that choose and those that judge, and what
 * any choice by as many rows can reach. One fit; every row's logits and covariance at all scales of
 * the prior; then the program's own selection on each split and number of rows that choose: the
 * first of those for the largest number, so that the same rows judge. Of fewer than twice as many
 * rows half choose. Prints, for each number, split and method, tab-separated:
 *   number split method nll accuracy ece noise auroc right wrong aurc kept kept_map
 * right, wrong: answers of rows that judge changed from the MAP model's to right, and to wrong.
 * aurc: mean error rate of the most confident rows, over all numbers of them. kept, kept_map: AUROC
 * of errors over the rows whose answer is the MAP model's, by the method's confidence and by its.
 * Methods: map, temperature, vector (scaling), biases (T + bias), stacking (of all these), average
 * (whatever MAP does), guard; and bounds:
 * "temperature of the test" is chosen by the rows that judge; "world, chosen" and "world, known"
 * predict rows whose labels are drawn from a temperature of the model, so that temperature scaling
 * is exactly right there: with the temperature chosen by as many rows, and with the true one.
 * usage: guard_splits SPLITS NUMBER[,NUMBER...] BASE ADAPTER CALIB ROWS...
 *   LABELS: NAME,NAME,...   PRIOR: global, layer, kind (module)
 *   LEAN: neither bounds nor guards without corrections, which cost nearly half
 *   POOL: file of the rows' logits and covariance, read where it is there, else written */
#include "laplora.h"

#include "base/random.h"
#include "likelihood/scaling.h"
#include "likelihood/selection.h"
#include "likelihood/stacking.h"
#include "output/ece_noise.h"
#include "output/softmax_metrics.h"
#include "pipeline/passes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SCALES = LA_SELECTION_SCALES, SAMPLES = 256, NOISE_DRAWS = 200, NUMBERS = 8, PARTS = 5 };

/* All rows: a row's covariances lie together. */
typedef struct pool {
    int64_t n, c, m;
    float *logits;   /* [n, C] */
    int64_t *labels; /* [n] */
    int64_t *drawn;  /* [n], drawn where a temperature is right */
    uint64_t *streams;
    double *cov; /* [n, SCALES, m, m] */
    double scales[SCALES];
    double temperature; /* held-out optimum over all rows */
} pool;

/* The list, grown to n elements; unchanged where memory is missing. */
static void *grow(void *list, int64_t n, size_t each, la_error *err) {
    void *more = realloc(list, (size_t)n * each);
    if (!more)
        (void)la_fail(err, LA_RESOURCE, "out of memory for %lld rows", (long long)n);
    return more ? more : list;
}

/* Memory for n rows of c classes. */
static la_status grow_pool(pool *p, int64_t n, int64_t c, la_error *err) {
    p->c = c;
    p->m = c - 1;
    p->logits = grow(p->logits, n * c, sizeof *p->logits, err);
    p->labels = grow(p->labels, n, sizeof *p->labels, err);
    p->drawn = grow(p->drawn, n, sizeof *p->drawn, err);
    p->streams = grow(p->streams, n, sizeof *p->streams, err);
    p->cov = grow(p->cov, n * SCALES * p->m * p->m, sizeof *p->cov, err);
    return err->status;
}

/* Reads or writes n elements; true where all were. */
typedef bool (*mover)(FILE *f, void *data, size_t each, size_t n);

static bool take(FILE *f, void *data, size_t each, size_t n) {
    return fread(data, each, n, f) == n;
}

static bool put(FILE *f, void *data, size_t each, size_t n) {
    return fwrite(data, each, n, f) == n;
}

static bool move_rows(FILE *f, mover move, pool *p) {
    size_t n = (size_t)p->n;
    return move(f, p->logits, sizeof *p->logits, n * (size_t)p->c) &&
           move(f, p->labels, sizeof *p->labels, n) && move(f, p->streams, sizeof *p->streams, n) &&
           move(f, p->cov, sizeof *p->cov, n * (size_t)(SCALES * p->m * p->m));
}

/* Reads the pool from the file, if it is there: *read. */
static la_status read_pool(const char *path, pool *p, bool *read, la_error *err) {
    int64_t head[2] = {0};
    FILE *f = path ? fopen(path, "rb") : NULL;
    *read = f != NULL;
    if (!f)
        return LA_OK;
    bool good = take(f, head, sizeof *head, 2) && head[0] > 0 && head[1] > 1 && head[1] < 100;
    la_status status = LA_OK;
    if (good)
        status = grow_pool(p, head[0], head[1], err);
    p->n = head[0];
    if (status == LA_OK && !(good && move_rows(f, take, p)))
        status = la_fail(err, LA_BAD_INPUT, "%s: is not a pool of rows", path);
    fclose(f);
    return status;
}

static la_status write_pool(const char *path, pool *p, la_error *err) {
    int64_t head[2] = {p->n, p->c};
    FILE *f = fopen(path, "wb");
    bool good = f && put(f, head, sizeof *head, 2) && move_rows(f, put, p);
    if (f)
        good &= !fclose(f);
    return good ? LA_OK : la_fail(err, LA_RESOURCE, "%s: cannot be written", path);
}

static la_status add_rows(pool *p, const la_row_set *rows, const la_evaluation *e, la_error *err) {
    int64_t from = p->n, n = p->n + rows->n, square;
    LA_TRY(grow_pool(p, n, e->n_classes, err));
    square = p->m * p->m;
    memcpy(p->logits + from * p->c, e->logits, (size_t)(rows->n * p->c) * sizeof *p->logits);
    memcpy(p->labels + from, rows->labels.classes, (size_t)rows->n * sizeof *p->labels);
    memcpy(p->streams + from, rows->streams, (size_t)rows->n * sizeof *p->streams);
    for (int64_t i = 0; i < rows->n; i++)
        for (int64_t g = 0; g < SCALES; g++)
            memcpy(p->cov + ((from + i) * SCALES + g) * square,
                   e->cov[0] + (g * rows->n + i) * square, (size_t)square * sizeof *p->cov);
    p->n = n;
    return LA_OK;
}

/* The world: labels drawn from softmax(f / T), T that of all rows. */
static la_status draw_labels(pool *p, double *probs, la_error *err) {
    const uint64_t most = 1ULL << 53;
    LA_TRY(la_temperature_scaling_fit(p->n, p->c, p->logits, p->labels, &p->temperature, err));
    for (int64_t i = 0; i < p->n; i++) {
        double left = (double)la_random_below(5, 1, (uint64_t)i, most) / (double)most;
        la_temperature_scaling_apply(p->c, p->temperature, p->logits + i * p->c, probs);
        p->drawn[i] = 0;
        while (p->drawn[i] < p->m && (left -= probs[p->drawn[i]]) >= 0)
            p->drawn[i]++;
    }
    return LA_OK;
}

static la_prior_kind prior_kind(void) {
    const char *asked = getenv("PRIOR");
    for (int k = 0; asked && k < LA_PRIORS; k++)
        if (k != LA_PRIOR_FIXED && !strcmp(asked, la_prior_names[k]))
            return (la_prior_kind)k;
    return LA_PRIOR_MODULE;
}

static la_status fit_and_evaluate(char **argv, int n_files, pool *p, la_error *err) {
    la_session session = {0};
    la_session_options options = {.base = argv[0],
                                  .adapter = argv[1],
                                  .params = LA_PARAMS_LORA,
                                  .kind = &la_structure_kron,
                                  .n_scales = SCALES,
                                  .run = {.device = "cpu", .labels = getenv("LABELS")}};
    la_row_set calib = {0};
    la_structure structure = {.kind = &la_structure_kron, .params = LA_PARAMS_LORA};
    la_log log = {0};
    la_status status = la_session_open(&options, &session, err);
    if (status == LA_OK)
        status = la_row_set_read(&session, &options.run, argv[2], NULL, "calibration", &calib, err);
    if (status == LA_OK && calib.labels.kind == LA_LABEL_NUMBER)
        status = la_fail(err, LA_UNSUPPORTED, "%s: is of a regression", argv[1]);
    la_row_job job = la_row_job_all(&calib, &log);
    if (status == LA_OK)
        status = la_structures_fit(&session, &structure, 1, &job, NULL, err);
    if (status == LA_OK)
        status = la_prior_choose(&structure.posterior, prior_kind(), 0, err);
    for (int i = 0; i < n_files && status == LA_OK; i++) {
        la_row_set rows = {0};
        la_evaluation e = {0};
        status = la_row_set_read(&session, &options.run, argv[3 + i], NULL, "held-out", &rows, err);
        job = la_row_job_all(&rows, &log);
        if (status == LA_OK)
            status = la_structures_evaluate(&session, &structure, 1, &job, SCALES, p->scales, false,
                                            &e, err);
        if (status == LA_OK)
            status = add_rows(p, &rows, &e, err);
        la_evaluation_free(&e);
        la_row_set_free(&rows);
    }
    la_row_set_free(&calib);
    la_structures_free(&structure, 1);
    la_session_close(&session);
    return status;
}

/* ---- a split ---- */

/* order[n]: the first rows choose, the others judge. */
static void shuffle(int64_t n, uint64_t split, int64_t *order) {
    for (int64_t i = 0; i < n; i++)
        order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)la_random_below(77, split, (uint64_t)i, (uint64_t)(i + 1));
        int64_t kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

typedef struct splitting {
    const pool *p;
    const int64_t *order, *judges; /* [choose at most], [judge] */
    int64_t asked, choose, judge,
        split;                         /* asked: number of rows that choose, if there are enough */
    float *logits;                     /* [choose, C], of the rows that choose */
    int64_t *labels, *drawn;           /* [choose] */
    uint64_t *streams;                 /* [choose] */
    double *cov;                       /* [SCALES, choose, m, m] */
    float *test_logits;                /* [judge, C] */
    int64_t *test_labels, *test_drawn; /* [judge] */
    int64_t *answers;                  /* [judge] of the MAP model */
    double *probs, *confidence;        /* [judge, C], [judge] */
    double *map_probs;                 /* [judge, C] */
    double *kept, *kept_map;           /* [judge, C] of rows whose answers are kept */
    int64_t *kept_labels;              /* [judge] */
    int64_t *list;                     /* [choose] 0, 1, .. */
    double *memory;                    /* [2 C] */
    float *moved;                      /* [C] */
    la_choice choice;
} splitting;

static la_status splitting_open(const pool *p, int64_t choose, const int64_t *order, splitting *s,
                                la_error *err) {
    size_t c = (size_t)p->c, square = (size_t)(p->m * p->m);
    size_t k = (size_t)choose, j = (size_t)(p->n - choose);
    *s = (splitting){.p = p, .order = order, .judges = order + choose, .judge = p->n - choose};
    s->logits = la_alloc(k * c, sizeof *s->logits, err);
    s->labels = la_alloc(k, sizeof *s->labels, err);
    s->drawn = la_alloc(k, sizeof *s->drawn, err);
    s->streams = la_alloc(k, sizeof *s->streams, err);
    s->cov = la_alloc(SCALES * k * square, sizeof *s->cov, err);
    s->test_logits = la_alloc(j * c, sizeof *s->test_logits, err);
    s->test_labels = la_alloc(j, sizeof *s->test_labels, err);
    s->test_drawn = la_alloc(j, sizeof *s->test_drawn, err);
    s->answers = la_alloc(j, sizeof *s->answers, err);
    s->probs = la_alloc(j * c, sizeof *s->probs, err);
    s->confidence = la_alloc(j, sizeof *s->confidence, err);
    s->map_probs = la_alloc(j * c, sizeof *s->map_probs, err);
    s->kept = la_alloc(j * c, sizeof *s->kept, err);
    s->kept_map = la_alloc(j * c, sizeof *s->kept_map, err);
    s->kept_labels = la_alloc(j, sizeof *s->kept_labels, err);
    s->list = la_alloc(k, sizeof *s->list, err);
    for (int64_t i = 0; i < choose && s->list; i++)
        s->list[i] = i;
    s->memory = la_alloc(2 * c, sizeof *s->memory, err);
    s->moved = la_alloc(c, sizeof *s->moved, err);
    return err->status;
}

static void splitting_close(splitting *s) {
    free(s->logits);
    free(s->labels);
    free(s->drawn);
    free(s->streams);
    free(s->cov);
    free(s->test_logits);
    free(s->test_labels);
    free(s->test_drawn);
    free(s->answers);
    free(s->probs);
    free(s->confidence);
    free(s->map_probs);
    free(s->kept);
    free(s->kept_map);
    free(s->kept_labels);
    free(s->list);
    free(s->memory);
    free(s->moved);
}

static void take_rows(splitting *s) {
    const pool *p = s->p;
    int64_t square = p->m * p->m;
    size_t row = (size_t)p->c * sizeof(float);
    for (int64_t i = 0; i < s->choose; i++) {
        int64_t at = s->order[i];
        memcpy(s->logits + i * p->c, p->logits + at * p->c, row);
        s->labels[i] = p->labels[at];
        s->drawn[i] = p->drawn[at];
        s->streams[i] = p->streams[at];
        for (int64_t g = 0; g < SCALES; g++)
            memcpy(s->cov + (g * s->choose + i) * square, p->cov + (at * SCALES + g) * square,
                   (size_t)square * sizeof *s->cov);
    }
    for (int64_t i = 0; i < s->judge; i++) {
        int64_t at = s->judges[i];
        memcpy(s->test_logits + i * p->c, p->logits + at * p->c, row);
        s->test_labels[i] = p->labels[at];
        s->test_drawn[i] = p->drawn[at];
    }
}

/* probs of the rows that judge. */
static la_status answer(splitting *s, const la_recipe *recipes, int64_t n, la_error *err) {
    const pool *p = s->p;
    la_draw_options draws = {.samples = SAMPLES};
    for (int64_t i = 0; i < s->judge; i++) {
        int64_t at = s->judges[i];
        la_output_rows row = {.n = 1,
                              .n_outputs = p->c,
                              .n_scales = SCALES,
                              .outputs = p->logits + at * p->c,
                              .scales = p->scales,
                              .cov = p->cov + at * SCALES * p->m * p->m,
                              .streams = p->streams + at};
        la_prediction out = {.probs = s->probs + i * p->c};
        LA_TRY(la_answer_rows(&la_softmax_likelihood, recipes, n, &row, &draws, la_team_of(1), &out,
                              err));
    }
    return LA_OK;
}

static la_status answer_method(splitting *s, la_method method, la_error *err) {
    la_recipe recipes[LA_SETTINGS_MOST];
    int64_t n = la_choice_recipes(&la_softmax_likelihood, &s->choice, method, recipes);
    return answer(s, recipes, n, err);
}

/* probs: the weighted mean of n corrections from the first; weights NULL: of one. */
static void answer_corrected(splitting *s, int first, int n, const la_correction_fit *fits,
                             const double *weights) {
    int64_t c = s->p->c;
    float *moved = s->moved;
    double *part = s->memory;
    for (int64_t i = 0; i < s->judge; i++) {
        double *probs = s->probs + i * c;
        memset(probs, 0, (size_t)c * sizeof *probs);
        for (int k = first; k < first + n; k++) {
            const la_correction *by = &fits[k].correction;
            if (weights && !(weights[k] > 0))
                continue;
            for (int64_t l = 0; l < c; l++)
                moved[l] = s->test_logits[i * c + l] + (float)by->bias[l];
            la_temperature_scaling_apply(c, by->temperature, moved, part);
            for (int64_t l = 0; l < c; l++)
                probs[l] += (weights ? weights[k] : 1) * part[l];
        }
    }
}

static void answer_temperature(splitting *s, double temperature) {
    int64_t c = s->p->c;
    for (int64_t i = 0; i < s->judge; i++)
        la_temperature_scaling_apply(c, temperature, s->test_logits + i * c, s->probs + i * c);
}

static int64_t top_of(int64_t n, const double *values) {
    int64_t best = 0;
    for (int64_t k = 1; k < n; k++)
        best = values[k] > values[best] ? k : best;
    return best;
}

static la_status auroc_of(int64_t n, int64_t c, double *probs, int64_t *labels, double *auroc,
                          la_error *err) {
    la_metrics m;
    la_metric_rows rows = {n, c, probs, {.kind = LA_LABEL_CLASS, .classes = labels}};
    *auroc = NAN;
    if (!n)
        return LA_OK;
    LA_TRY(la_metrics_compute(&la_softmax_metrics, &rows, &m, err));
    *auroc = m.value[LA_METRIC_AUROC];
    return LA_OK;
}

static la_status report(splitting *s, const char *method, int64_t *labels, la_error *err) {
    la_metrics m;
    int64_t c = s->p->c, right = 0, wrong = 0, n_kept = 0;
    double kept, kept_map;
    la_metric_rows rows = {s->judge, c, s->probs, {.kind = LA_LABEL_CLASS, .classes = labels}};
    LA_TRY(la_metrics_compute(&la_softmax_metrics, &rows, &m, err));
    for (int64_t i = 0; i < s->judge; i++) {
        const double *p = s->probs + i * c;
        int64_t answer = top_of(c, p), was = s->answers[i];
        s->confidence[i] = p[answer];
        right += answer != was && answer == labels[i];
        wrong += answer != was && was == labels[i];
        if (answer != was)
            continue;
        memcpy(s->kept + n_kept * c, p, (size_t)c * sizeof *p);
        memcpy(s->kept_map + n_kept * c, s->map_probs + i * c, (size_t)c * sizeof *p);
        s->kept_labels[n_kept++] = labels[i];
    }
    LA_TRY(auroc_of(n_kept, c, s->kept, s->kept_labels, &kept, err));
    LA_TRY(auroc_of(n_kept, c, s->kept_map, s->kept_labels, &kept_map, err));
    printf("%lld\t%lld\t%s\t%.6f\t%.6f\t%.6f\t%.6f\t%.6f\t%lld\t%lld\t%.6f\t%.6f\t%.6f\n",
           (long long)s->asked, (long long)s->split, method, m.value[LA_METRIC_NLL],
           m.value[LA_METRIC_ACCURACY], m.value[LA_METRIC_ECE],
           la_ece_noise(s->judge, s->confidence, NAN, NOISE_DRAWS, 1).ece_95,
           m.value[LA_METRIC_AUROC], (long long)right, (long long)wrong, m.value[LA_METRIC_AURC],
           kept, kept_map);
    return LA_OK;
}

/* Biases by correction.h: with the weakest prior alone, and the mean over all of them, weighted by
 * their evidence. */
static la_status corrections(splitting *s, double temperature, la_error *err) {
    const pool *p = s->p;
    la_correction_fit fits[LA_CORRECTION_SCALES];
    double weights[LA_CORRECTION_SCALES], best = -INFINITY, sum = 0;
    LA_TRY(la_corrections_fit(s->choose, p->c, s->logits, s->labels, temperature, fits, err));
    for (int k = 0; k < LA_CORRECTION_SCALES; k++)
        best = fmax(best, fits[k].log_likelihood + fits[k].log_occam);
    for (int k = 0; k < LA_CORRECTION_SCALES; k++)
        sum += weights[k] = exp(fits[k].log_likelihood + fits[k].log_occam - best);
    answer_corrected(s, LA_CORRECTION_SCALES - 1, 1, fits, NULL);
    LA_TRY(report(s, "T + bias", s->test_labels, err));
    for (int k = 0; k < LA_CORRECTION_SCALES; k++)
        weights[k] /= sum;
    answer_corrected(s, 0, LA_CORRECTION_SCALES, fits, weights);
    return report(s, "T + bias, shrunk", s->test_labels, err);
}

static la_status stacked(splitting *s, la_error *err) {
    const pool *p = s->p;
    int64_t starts[PARTS + 1];
    la_stacking stacking = {0};
    for (int k = 0; k <= PARTS; k++)
        starts[k] = s->choose * k / PARTS;
    la_status status =
        la_stacking_fit(p->c, s->logits, s->labels, s->list, starts, PARTS, &stacking, err);
    for (int64_t i = 0; i < s->judge && status == LA_OK; i++)
        la_stacking_apply(&stacking, p->c, s->test_logits + i * p->c, s->memory,
                          s->probs + i * p->c);
    la_stacking_free(&stacking);
    LA_TRY(status);
    return report(s, "stacking", s->test_labels, err);
}

static la_status scalings(splitting *s, la_error *err) {
    const pool *p = s->p;
    double temperature, *scale = s->memory, *bias = scale + p->c;
    LA_TRY(la_temperature_scaling_fit(s->choose, p->c, s->logits, s->labels, &temperature, err));
    answer_temperature(s, temperature);
    LA_TRY(report(s, "temperature", s->test_labels, err));
    LA_TRY(la_vector_scaling_fit(s->choose, p->c, s->logits, s->labels, scale, bias, err));
    for (int64_t i = 0; i < s->judge; i++)
        la_vector_scaling_apply(p->c, scale, bias, s->test_logits + i * p->c, s->probs + i * p->c);
    LA_TRY(report(s, "vector", s->test_labels, err));
    LA_TRY(corrections(s, temperature, err));
    return stacked(s, err);
}

static la_status bounds(splitting *s, la_error *err) {
    const pool *p = s->p;
    double temperature;
    LA_TRY(la_temperature_scaling_fit(s->judge, p->c, s->test_logits, s->test_labels, &temperature,
                                      err));
    answer_temperature(s, temperature);
    LA_TRY(report(s, "temperature of the test", s->test_labels, err));
    LA_TRY(la_temperature_scaling_fit(s->choose, p->c, s->logits, s->drawn, &temperature, err));
    answer_temperature(s, temperature);
    LA_TRY(report(s, "world, chosen", s->test_drawn, err));
    answer_temperature(s, p->temperature);
    return report(s, "world, known", s->test_drawn, err);
}

/* What a guard takes: on the average, its own rule, and that of MAP's standard error at any
 * number of rows. */
typedef struct guard_names {
    bool uncorrected;
    const char *average, *guard, *doubting;
} guard_names;

static la_status guards(splitting *s, la_held_out *rows, const guard_names *names, la_error *err) {
    la_choice *choice = &s->choice;
    const la_candidate *map = &choice->candidates[LA_METHOD_MAP];
    rows->uncorrected = names->uncorrected;
    LA_TRY(la_softmax_likelihood.select(la_team_of(1), rows, choice, err));
    bool averages = choice->method == LA_METHOD_AVERAGE;
    bool doubts = choice->n_settings && map->gap <= map->gap_error + 1e-6;
    LA_TRY(answer_method(s, choice->n_settings ? LA_METHOD_AVERAGE : choice->method, err));
    LA_TRY(report(s, names->average, s->test_labels, err));
    if (averages || !choice->n_settings)
        LA_TRY(report(s, names->guard, s->test_labels, err));
    if (!doubts)
        LA_TRY(report(s, names->doubting, s->test_labels, err));
    if (choice->n_settings && (!averages || doubts))
        LA_TRY(answer_method(s, LA_METHOD_MAP, err));
    if (choice->n_settings && !averages)
        LA_TRY(report(s, names->guard, s->test_labels, err));
    return doubts ? report(s, names->doubting, s->test_labels, err) : LA_OK;
}

static la_status run_split(splitting *s, la_error *err) {
    static const guard_names plain = {true, "average, no biases", "guard, no biases",
                                      "guard, no biases, MAP by its error"};
    static const guard_names own = {false, "average", "guard", "guard, MAP by its error"};
    const pool *p = s->p;
    take_rows(s);
    la_held_out rows = {.n = s->choose,
                        .n_classes = p->c,
                        .n_scales = SCALES,
                        .logits = s->logits,
                        .labels = {.kind = LA_LABEL_CLASS, .classes = s->labels},
                        .streams = s->streams,
                        .scales = p->scales,
                        .cov = s->cov};
    s->choice.method = LA_METHOD_MAP;
    s->choice.candidates[LA_METHOD_MAP] = (la_candidate){.prior_scale = 1, .temperature = 1};
    LA_TRY(answer_method(s, LA_METHOD_MAP, err));
    for (int64_t i = 0; i < s->judge; i++)
        s->answers[i] = top_of(p->c, s->probs + i * p->c);
    memcpy(s->map_probs, s->probs, (size_t)(s->judge * p->c) * sizeof *s->probs);
    LA_TRY(report(s, "map", s->test_labels, err));
    LA_TRY(scalings(s, err));
    if (!getenv("LEAN"))
        LA_TRY(guards(s, &rows, &plain, err));
    LA_TRY(guards(s, &rows, &own, err));
    return getenv("LEAN") ? LA_OK : bounds(s, err);
}

/* numbers[NUMBERS] from "NUMBER,NUMBER,..."; returns how many they are, 0: not a list. */
static int64_t read_numbers(const char *text, int64_t *numbers) {
    int64_t count = 0;
    for (char *end; count < NUMBERS; text = end + 1) {
        numbers[count] = strtoll(text, &end, 10);
        if (numbers[count++] < 1 || (*end && *end != ','))
            return 0;
        if (!*end)
            return count;
    }
    return 0;
}

static int64_t choosing(const pool *p, int64_t asked) {
    return asked < p->n / 2 ? asked : p->n / 2;
}

/* Every split for each of the numbers. */
static la_status run_splits(splitting *s, int64_t splits, const int64_t *numbers, int64_t count,
                            int64_t *order, la_error *err) {
    for (s->split = 0; s->split < splits; s->split++) {
        shuffle(s->p->n, (uint64_t)s->split, order);
        for (int64_t k = 0; k < count; k++) {
            s->asked = numbers[k];
            s->choose = choosing(s->p, s->asked);
            LA_TRY(run_split(s, err));
        }
        fflush(stdout);
    }
    return LA_OK;
}

static la_status fill_pool(char **argv, int n_files, pool *p, la_error *err) {
    const char *path = getenv("POOL");
    bool read = false;
    la_selection_scales(p->scales);
    LA_TRY(read_pool(path, p, &read, err));
    if (read)
        return LA_OK;
    LA_TRY(fit_and_evaluate(argv, n_files, p, err));
    return path ? write_pool(path, p, err) : LA_OK;
}

static la_status run(int argc, char **argv, pool *p, la_error *err) {
    int64_t splits = atoll(argv[1]), numbers[NUMBERS], most = 1;
    splitting s = {0};
    LA_TRY(fill_pool(argv + 3, argc - 6, p, err));
    int64_t count = read_numbers(argv[2], numbers);
    if (splits < 1 || !count || p->n < 2)
        return la_fail(err, LA_USAGE, "%lld splits of %lld rows, %s of which choose",
                       (long long)splits, (long long)p->n, argv[2]);
    for (int64_t k = 0; k < count; k++)
        most = numbers[k] > most ? numbers[k] : most;
    most = choosing(p, most);
    int64_t *order = la_alloc((size_t)p->n, sizeof *order, err);
    la_status status = err->status;
    if (status == LA_OK)
        status = splitting_open(p, most, order, &s, err);
    if (status == LA_OK)
        status = draw_labels(p, s.memory, err);
    if (status == LA_OK)
        status = run_splits(&s, splits, numbers, count, order, err);
    splitting_close(&s);
    free(order);
    return status;
}

int main(int argc, char **argv) {
    la_kernels_choose();
    pool p = {0};
    la_error err = {0};
    if (argc < 7) {
        fprintf(stderr,
                "usage: guard_splits SPLITS NUMBER[,NUMBER...] BASE ADAPTER CALIB ROWS...\n");
        return 2;
    }
    la_status status = run(argc, argv, &p, &err);
    if (status != LA_OK)
        fprintf(stderr, "guard_splits: %s\n", err.message);
    free(p.logits);
    free(p.labels);
    free(p.drawn);
    free(p.streams);
    free(p.cov);
    return status == LA_OK ? 0 : 1;
}

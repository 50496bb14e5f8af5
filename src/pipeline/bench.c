#include "pipeline/bench.h"
#include "backend/product_choice.h"
#include "base/kernels.h"
#include "base/statistics.h"
#include "base/stop.h"
#include "pipeline/predictor.h"
#include "pipeline/row_set.h"

#include <stdlib.h>
#include <string.h>

/* Sides of the matrices that the rate of products is taken from, on the host and on a device: large
 * enough for the rate to grow no more. */
enum { HOST_SIDE = 768, DEVICE_SIDE = 8192, PEAK_ROUNDS = 4 };

static const char *const way_names[LA_WAYS] = {"map", "predict", "full"};
enum { MAP, PREDICT, FULL };

/* Square product on the first device: y = x w^T, by the operation that weights are multiplied by.
 */
typedef struct peak {
    la_backend *be;
    void *memory[3]; /* x, w as floats, y */
    const void *placed;
    bool copied;
    int64_t side;
    la_dtype type;
} peak;

static void peak_close(peak *p) {
    if (p->placed && p->copied)
        p->be->ops->release(p->be, (void *)(uintptr_t)p->placed);
    for (int i = 0; i < 3; i++)
        if (p->be && p->memory[i])
            p->be->ops->release(p->be, p->memory[i]);
    *p = (peak){0};
}

/* Numbers near one, half of them negative: some devices are faster on zeros. */
static float *noise(int64_t n, la_error *err) {
    float *values = la_alloc((size_t)n, sizeof *values, err);
    uint32_t state = 1;
    for (int64_t i = 0; values && i < n; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (float)(int32_t)state * 0x1p-31f;
    }
    return values;
}

static la_status peak_open(la_backend *be, peak *p, la_error *err) {
    int64_t side = be->ops->in_place ? HOST_SIDE : DEVICE_SIDE, n = side * side;
    *p = (peak){.be = be, .side = side, .type = la_product_type(be, LA_F32)};
    size_t bytes = (size_t)n * la_dtype_size(be->activation);
    float *values = noise(n, err);
    LA_TRY(err->status);
    p->memory[0] = be->ops->alloc(be, bytes);
    p->memory[1] = be->ops->alloc(be, (size_t)n * sizeof *values);
    p->memory[2] = be->ops->alloc(be, bytes);
    bool all = p->memory[0] && p->memory[1] && p->memory[2];
    if (all) {
        /* as bytes of another type these are numbers, too: of bf16 every second one */
        be->ops->upload(be, p->memory[0], values, bytes);
        p->placed = be->ops->place(be, values, LA_F32, n, p->type, &p->copied);
        if (p->placed == values) {
            be->ops->upload(be, p->memory[1], values, (size_t)n * sizeof *values);
            p->placed = p->memory[1];
        }
    }
    all = all && p->placed && be->ops->sync(be, err) == LA_OK;
    free(values);
    if (err->status == LA_OK && !all)
        (void)la_fail(err, LA_RESOURCE, "%s: out of memory for a product of side %lld", be->device,
                      (long long)side);
    return err->status;
}

/* Flops a second, best of some. */
static la_status peak_run(peak *p, double *rate, la_error *err) {
    la_mat x = la_mat_of(p->be->activation, p->memory[0], p->side, p->side), y = x;
    la_mat w = la_mat_of(p->type, (void *)(uintptr_t)p->placed, p->side, p->side);
    double flops = 2 * (double)p->side * (double)p->side * (double)p->side;
    y.data = p->memory[2];
    for (int i = 0; i < PEAK_ROUNDS; i++) {
        double start = la_seconds();
        p->be->ops->linear(p->be, &x, &w, NULL, NULL, &y);
        LA_TRY(p->be->ops->sync(p->be, err));
        double now = flops / (la_seconds() - start);
        *rate = now > *rate ? now : *rate;
    }
    return LA_OK;
}

/* State of a way. */
typedef struct benching {
    const la_bench_job *job;
    la_measurement *m;
    la_predictor *predictor;
    const la_row_set *set;
    la_batch batches[LA_DEVICES_MAX];
    const uint64_t *hashes[LA_DEVICES_MAX]; /* of their rows, in the set */
    la_prediction *answers;
    peak peak;
} benching;

static la_status run_part(void *user, int w, la_error *err) {
    benching *b = user;
    la_run *run = &b->predictor->session.workers[w].run;
    return la_predictor_batch(b->predictor, w, &b->batches[w], err) == LA_OK || run->bad_row < 0
               ? err->status
               : la_error_prefix(err, "%s: ", b->set->name);
}

/* All rows once. */
static la_status pass(benching *b, double *seconds, double *processor, la_error *err) {
    la_predictor *p = b->predictor;
    la_row_job rows = la_row_job_all(b->set, NULL);
    double start = la_seconds(), spent = la_processor_seconds();
    for (int64_t at = 0; at < b->m->n_rows;) {
        int filled = 0;
        LA_TRY(la_check_interrupt(err));
        for (; filled < p->session.n_workers && at < b->m->n_rows; filled++) {
            b->hashes[filled] = b->set->streams + at;
            at = la_row_job_fill(&p->session, &rows, at, b->m->n_rows, &b->batches[filled]);
        }
        LA_TRY(la_workers_run(filled, run_part, b, err));
        for (int w = 0; w < filled; w++)
            LA_TRY(la_predictor_answer(p, w, &b->batches[w], b->hashes[w], b->answers, err));
    }
    *seconds = la_seconds() - start;
    *processor = la_processor_seconds() - spent;
    return LA_OK;
}

static double median_of(double *values, int n) {
    la_doubles_sort(values, n);
    return la_quantile(values, n, 0.5);
}

static la_status time_passes(benching *b, la_measured_way *way, la_error *err) {
    int n = b->job->repeats;
    const la_log *log = &b->job->options.run.log;
    double unused[2];
    double *sorted = la_alloc((size_t)(2 * n), sizeof *sorted, err);
    way->passes = la_alloc((size_t)n, sizeof *way->passes, err);
    la_status status = err->status;
    if (status == LA_OK) /* memory is made, pages are touched */
        status = pass(b, &unused[0], &unused[1], err);
    for (int i = 0; i < n && status == LA_OK; i++) {
        status = pass(b, &way->passes[i], &sorted[n + i], err);
        if (status == LA_OK)
            status = peak_run(&b->peak, &b->m->peak_rate, err);
        if (log->progress)
            log->progress(log->user, way->name, (i + 1) * b->m->n_rows, (double)(i + 1) / n);
    }
    if (status == LA_OK) {
        memcpy(sorted, way->passes, (size_t)n * sizeof *sorted);
        way->seconds = median_of(sorted, n);
        way->processor = median_of(sorted + n, n);
    }
    free(sorted);
    return status;
}

/* One more pass, of which the first device's operations are timed; they wait for each other. */
static la_status time_operations(benching *b, la_measured_way *way, la_error *err) {
    la_session *session = &b->predictor->session;
    la_backend *be = &session->workers[0].backend;
    double processor;
    LA_TRY(la_profile_start(be, err));
    la_status status = pass(b, &way->seconds_profiled, &processor, err);
    way->n_ops = la_profile_ops(be, way->ops);
    for (int i = 0; i < way->n_ops; i++)
        way->flops += way->ops[i].flops * session->n_workers;
    la_profile_stop(be);
    return status;
}

static la_status open_batches(benching *b, la_error *err) {
    const la_session *session = &b->predictor->session;
    int64_t tokens = b->m->longest > session->batch_tokens ? b->m->longest : session->batch_tokens;
    for (int w = 0; w < session->n_workers; w++)
        LA_TRY(la_batch_open(session->batch_rows, tokens, &b->batches[w], err));
    LA_TRY(la_prediction_list_new(b->predictor, session->batch_rows, &b->answers, err));
    return peak_open(&b->predictor->session.workers[0].backend, &b->peak, err);
}

static void close_way(benching *b) {
    peak_close(&b->peak);
    for (int w = 0; w < LA_DEVICES_MAX; w++)
        la_batch_free(&b->batches[w]);
    la_prediction_list_free(b->answers);
    la_predictor_close(b->predictor);
}

static void describe(const la_predictor *p, la_measurement *m) {
    const la_session *session = &p->session;
    const la_backend *be = &session->workers[0].backend;
    la_processor_name(m->processor);
    la_kernels_describe(m->kernels, sizeof m->kernels);
    if (be->ops->in_place)
        la_products_describe(m->products);
    snprintf(m->device, sizeof m->device, "%s", be->device);
    m->instructions = la_cpu_instructions();
    m->precision = la_precision_name(be->precision);
    m->threads = session->team.threads;
    m->n_classes = p->n_classes;
    m->batch_tokens = session->batch_tokens;
    m->peak_side = be->ops->in_place ? HOST_SIDE : DEVICE_SIDE;
    m->weights = session->workers[0].model.weight_bytes;
    m->copied = be->ops->in_place ? session->workers[0].model.converted_bytes : m->weights;
}

static la_status read_rows(const la_bench_job *job, la_predictor *p, la_row_set *set,
                           la_measurement *m, la_error *err) {
    double start = la_seconds();
    LA_TRY(la_row_set_read(&p->session, &job->options.run, job->data, p->prompt, NULL, set, err));
    m->seconds_read = la_seconds() - start;
    m->n_rows_all = set->n;
    m->n_rows = set->n < job->rows ? set->n : job->rows;
    la_digest *digest = la_digest_new(err);
    LA_TRY(err->status);
    for (int64_t i = 0; i < m->n_rows; i++) {
        m->n_tokens += set->length[i];
        m->longest = set->length[i] > m->longest ? set->length[i] : m->longest;
    }
    la_digest_add(digest, set->streams, (size_t)m->n_rows * sizeof *set->streams);
    la_digest_finish(digest, m->rows);
    return la_posterior_model(&p->posterior, m->model, err);
}

static la_status run_way(benching *b, int number, la_row_set *set, la_error *err) {
    const la_bench_job *job = b->job;
    la_measurement *m = b->m;
    la_measured_way *way = &m->ways[number];
    la_predict_options options = job->options;
    bool forgotten = la_memory_peak_forget();
    double start = la_seconds();
    *way = (la_measured_way){.name = way_names[number]};
    m->n_ways = number + 1;
    if (number == MAP)
        options.predictive = "map";
    else /* what was noted of the model has been said */
        options.run.log.warn = NULL;
    LA_TRY((number == FULL ? la_predictor_open_full : la_predictor_open)(&options, &b->predictor,
                                                                         err));
    way->seconds_load = la_seconds() - start;
    la_predictor *p = b->predictor;
    for (int w = 0; w < p->session.n_workers; w++) /* of --verbose */
        la_profile_stop(&p->session.workers[w].backend);
    if (number == MAP) {
        describe(p, m);
        LA_TRY(read_rows(job, p, set, m, err));
    }
    b->set = set;
    way->predictive = p->kind ? p->label : "";
    way->n_settings = p->n_recipes;
    way->samples = la_predictor_draws(p) ? p->draws.samples : 0;
    way->forward = la_predictor_is_forward(p);
    LA_TRY(open_batches(b, err));
    LA_TRY(time_passes(b, way, err));
    LA_TRY(time_operations(b, way, err));
    if (forgotten || number == MAP)
        way->peak = la_memory_peak();
    return LA_OK;
}

la_status la_bench(const la_bench_job *job, la_measurement *m, la_error *err) {
    la_row_set set = {0};
    *m = (la_measurement){.posterior = job->options.posterior,
                          .data = job->data,
                          .repeats = job->repeats,
                          .samples = job->options.samples};
    la_stop before = la_stop_set(job->options.run.stop);
    la_status status = LA_OK;
    bool full = true;
    for (int number = 0; number < LA_WAYS && status == LA_OK && full; number++) {
        benching b = {.job = job, .m = m};
        status = run_way(&b, number, &set, err);
        if (number == PREDICT)
            full = status == LA_OK && b.predictor->posterior.distilled.mean &&
                   b.predictor->n_scales > 0;
        close_way(&b);
    }
    la_row_set_free(&set);
    la_stop_set(before);
    return status;
}

void la_bench_free(la_measurement *m) {
    for (int w = 0; w < LA_WAYS; w++)
        free(m->ways[w].passes);
}

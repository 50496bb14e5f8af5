#include "support/row_files.h"
#include "base/random.h"
#include "likelihood/answer.h"
#include "support/faults.h"
#include "support/tensors.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

row_file rows_random(uint64_t seed, int64_t n) {
    row_file r = {.n = n};
    assert_true(n <= ROWS_MOST);
    for (int64_t i = 0; i < n; i++) {
        r.length[i] = 3 + (int64_t)la_random_below(seed, 1, (uint64_t)i, ROW_LENGTH - 2);
        for (int64_t t = 0; t < r.length[i]; t++)
            r.ids[i][t] = 5 + (int32_t)la_random_below(seed, 2 + (uint64_t)i, (uint64_t)t, 90);
        /* no two rows begin alike */
        r.ids[i][0] = 5 + (int32_t)(i % 90);
        r.ids[i][1] = 5 + (int32_t)(i / 90);
    }
    return r;
}

void rows_add(row_file *rows, const row_file *from, int64_t row) {
    assert_true(rows->n < ROWS_MOST);
    memcpy(rows->ids[rows->n], from->ids[row], sizeof rows->ids[0]);
    rows->length[rows->n] = from->length[row];
    rows->labels[rows->n++] = from->labels[row];
}

row_file rows_turned(const row_file *rows, int64_t step, int64_t start) {
    row_file r = {0};
    for (int64_t i = 0; i < rows->n; i++)
        rows_add(&r, rows, (step * i + start) % rows->n);
    return r;
}

given_rows *rows_read(const char *path) {
    given_rows *r = calloc(1, sizeof *r);
    json_t *lines = load_lines(path), *row;
    size_t index;
    assert_non_null(r);
    json_array_foreach(lines, index, row) {
        const json_t *ids = json_object_get(row, "input_ids");
        assert_true(r->n < ROWS_MOST && json_array_size(ids) <= GIVEN_LENGTH);
        for (size_t i = 0; i < json_array_size(ids); i++)
            r->ids[r->n][i] = (int32_t)json_integer_value(json_array_get(ids, i));
        r->in[r->n] = (la_input){.ids = r->ids[r->n], .n_ids = (int64_t)json_array_size(ids)};
        r->out[r->n] = la_prediction_at(ROW_CLASSES, r->memory[r->n]);
        r->n++;
    }
    json_decref(lines);
    return r;
}

void rows_write(const row_file *rows, const char *path, bool labelled) {
    FILE *file = fopen(path, "w");
    if (!file)
        fail_msg("%s: %s", path, strerror(errno));
    for (int64_t i = 0; i < rows->n; i++) {
        fputs("{\"input_ids\":[", file);
        for (int64_t t = 0; t < rows->length[i]; t++)
            fprintf(file, "%s%d", t ? "," : "", (int)rows->ids[i][t]);
        if (labelled)
            fprintf(file, "],\"label\":%lld}\n", (long long)rows->labels[i]);
        else
            fputs("]}\n", file);
    }
    assert_int_equal(fclose(file), 0);
}

la_fit_summary *case_fit(const char *folder, const char *data, const char *out,
                         la_fit_options options) {
    la_fit_summary *summary;
    la_error err;
    options.base = in_case(folder, "base");
    options.adapter = in_case(folder, options.adapter ? options.adapter : "adapter");
    options.data = in_case(folder, data);
    options.out = in_case(folder, out);
    options.val = options.val ? in_case(folder, options.val) : NULL;
    if (la_fit(&options, &summary, &err) != LA_OK)
        fail_msg("%s", err.message);
    return summary;
}

void case_sharpen(const char *folder, const char *adapter, double factor) {
    static const char *const endings[] = {"classifier.weight", "classifier.bias"};
    char path[4096];
    snprintf(path, sizeof path, "%s/%s/adapter_model.safetensors", folder, adapter);
    tensor_file file = tensors_read(path);
    for (int i = 0; i < 2; i++) {
        const tensor_bytes *tensor = tensors_find(&file, endings[i]);
        assert_string_equal(tensor->dtype, "F32");
        for (size_t at = 0; at < tensor->length; at += sizeof(float)) {
            float value;
            memcpy(&value, tensor->data + at, sizeof value);
            value = (float)(factor * (double)value);
            memcpy(tensor->data + at, &value, sizeof value);
        }
    }
    tensors_write(&file, path);
    tensors_free(&file);
}

row_answers *rows_answer(const row_file *rows, la_predict_options options) {
    la_predictor *predictor;
    la_error err;
    la_input in[ROWS_MOST];
    row_answers *a = calloc(1, sizeof *a);
    assert_non_null(a);
    a->n = rows->n;
    if (la_predictor_open(&options, &predictor, &err) != LA_OK)
        fail_msg("%s", err.message);
    a->classes = la_predictor_classes(predictor);
    assert_true(a->classes <= ROW_CLASSES);
    for (int64_t i = 0; i < rows->n; i++) {
        a->rows[i] = la_prediction_at(ROW_CLASSES, a->memory[i]);
        in[i] = (la_input){.ids = rows->ids[i], .n_ids = rows->length[i]};
    }
    if (la_predictor_run(predictor, in, rows->n, a->rows, &err) != LA_OK)
        fail_msg("%s", err.message);
    la_predictor_close(predictor);
    return a;
}

void rows_draw_labels(row_file *rows, const row_answers *answers, double temperature,
                      uint64_t seed) {
    int64_t c = answers->classes;
    for (int64_t i = 0; i < rows->n; i++) {
        double p[ROW_CLASSES];
        row_softmax(c, &answers->rows[i], temperature > 0 ? temperature : 1, p);
        double left = (double)la_random_below(seed, 1, (uint64_t)i, 1u << 30) / (1u << 30);
        int64_t label = 0;
        for (int64_t k = 1; k < c && temperature == 0; k++)
            label = p[k] > p[label] ? k : label;
        for (int64_t k = 0; k < c - 1 && temperature > 0 && (left -= p[k]) > 0; k++)
            label = k + 1;
        rows->labels[i] = label;
    }
}

double row_pair_variance(int64_t classes, const la_prediction *row) {
    const double *cov = row->logit_cov;
    double sum = 0, n = 0;
    for (int64_t c = 0; c < classes; c++)
        for (int64_t d = 0; d < c; d++, n++)
            sum += cov[c * classes + c] + cov[d * classes + d] - 2 * cov[c * classes + d];
    return sum / n;
}

void row_softmax(int64_t classes, const la_prediction *row, double divisor, double *probs) {
    double top = row->logits[0], sum = 0;
    for (int64_t k = 1; k < classes; k++)
        top = fmax(top, row->logits[k]);
    for (int64_t k = 0; k < classes; k++)
        sum += probs[k] = exp((row->logits[k] - top) / divisor);
    for (int64_t k = 0; k < classes; k++)
        probs[k] /= sum;
}

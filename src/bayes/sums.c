#include "bayes/sums.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>

double *la_sums_add(la_sums *sums, const char *name, int64_t number, const char *part, int64_t rows,
                    int64_t cols) {
    la_error unused = {0};
    size_t bytes = (size_t)(rows * cols) * sizeof(double);
    if (la_grow(&sums->list, &sums->capacity, sums->n + 1, sizeof *sums->list, &unused) != LA_OK)
        return NULL;
    la_sum *sum = &sums->list[sums->n];
    *sum = (la_sum){.rows = rows, .cols = cols, .data = sums->be->ops->alloc(sums->be, bytes)};
    if (!sum->data)
        return NULL;
    snprintf(sum->name, sizeof sum->name, "%s/%05lld/%s", name, (long long)number, part);
    sums->be->ops->zero(sums->be, sum->data, bytes);
    sums->n++;
    return sum->data;
}

void la_sums_close(la_sums *sums) {
    for (size_t i = 0; i < sums->n; i++)
        sums->be->ops->release(sums->be, sums->list[i].data);
    free(sums->list);
    *sums = (la_sums){.be = sums->be};
}

la_status la_sums_merge(la_sums *const *all, int n, la_error *err) {
    la_backend *devices[LA_DEVICES_MAX];
    double *data[LA_DEVICES_MAX];
    for (int i = 0; i < n; i++)
        devices[i] = all[i]->be;
    for (size_t k = 0; k < all[0]->n; k++) {
        const la_sum *sum = &all[0]->list[k];
        for (int i = 0; i < n; i++)
            data[i] = all[i]->list[k].data;
        LA_TRY(devices[0]->ops->reduce(devices, n, data, sum->rows * sum->cols, err));
    }
    return LA_OK;
}

la_status la_sums_visit(la_sums *sums, bool takes_back, const la_array_visitor *visitor,
                        la_error *err) {
    la_backend *be = sums->be;
    for (size_t k = 0; k < sums->n; k++) {
        la_sum *sum = &sums->list[k];
        size_t count = (size_t)(sum->rows * sum->cols), bytes = count * sizeof(double);
        double *host = la_alloc(count, sizeof *host, err);
        la_array array = {sum->name, sum->rows, sum->cols, host, sum->owner};
        la_status status = err->status;
        if (status == LA_OK)
            be->ops->download(be, host, sum->data, bytes);
        if (status == LA_OK)
            status = be->ops->sync(be, err);
        if (status == LA_OK)
            status = visitor->visit(visitor->user, &array, err);
        if (status == LA_OK && takes_back) {
            be->ops->upload(be, sum->data, host, bytes);
            status = be->ops->sync(be, err);
        }
        free(host);
        LA_TRY(status);
    }
    return LA_OK;
}

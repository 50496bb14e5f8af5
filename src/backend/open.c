/* From --device to opened backends. */
#include "backend/cuda_plugin.h"
#include "backend/product_choice.h"
#include "base/list.h"
#include "base/numbers.h"

#include <stdlib.h>
#include <string.h>

const char *const la_precision_names[LA_PRECISIONS] = {"f32", "tf32", "bf16"};

const char *la_precision_name(la_precision precision) {
    return la_precision_names[precision];
}

la_status la_precision_parse(const char *text, la_precision *precision, la_error *err) {
    *precision = LA_PRECISION_F32;
    if (!text)
        return LA_OK;
    for (int i = 0; i < LA_PRECISIONS; i++) {
        *precision = (la_precision)i;
        if (!strcmp(la_precision_names[i], text))
            return LA_OK;
    }
    return la_fail(err, LA_USAGE, "--precision \"%s\": expected f32, tf32 or bf16", text);
}

static la_status open_host(la_precision precision, la_team team, const la_log *log, const char *why,
                           la_backend *backend, int *n, la_error *err) {
    double gain = 0;
    la_error lacks = {0};
    LA_TRY(la_products_choose(err));
    if (precision == LA_PRECISION_TF32)
        (void)la_fail(&lacks, LA_UNSUPPORTED, "its products are of f32 or bf16");
    else if (precision == LA_PRECISION_BF16)
        (void)la_products_check_bf16(&gain, &lacks);
    if (lacks.status != LA_OK)
        return la_fail(err, LA_UNSUPPORTED, "--precision %s: the CPU computes in f32 here: %s%s%s",
                       la_precision_name(precision), lacks.message,
                       *why ? "; it is used because " : "", why);
    if (gain > 0 && gain < 1)
        la_warn(log, "products of bf16 are %.2g times as fast as those of f32 on this processor",
                gain);
    LA_TRY(la_backend_open_cpu(team, backend, err));
    backend->precision = precision;
    *n = 1;
    return LA_OK;
}

/* "cuda", "cuda:1", "cuda:0,1": device numbers; none given means the first. */
static la_status parse_numbers(const char *device, int numbers[LA_DEVICES_MAX], int *n,
                               la_error *err) {
    la_list list;
    *n = 0;
    if (!device[4]) {
        numbers[(*n)++] = 0;
        return LA_OK;
    }
    bool fits = la_list_parse("--device", device + 5, &list, err) == LA_OK;
    if (err->status == LA_RESOURCE)
        return err->status;
    fits = fits && list.n <= LA_DEVICES_MAX;
    for (size_t i = 0; i < list.n && fits; i++) {
        int64_t number = -1;
        fits = la_integer_parse(list.items[i], &number) && number >= 0 && number <= 1023;
        for (int j = 0; j < *n; j++)
            fits &= numbers[j] != number; /* "0" and "00" are two elements */
        numbers[(*n)++] = (int)number;
    }
    la_list_free(&list);
    if (fits)
        return LA_OK;
    *err = (la_error){0};
    return la_fail(err, LA_USAGE,
                   "--device \"%s\": expected cuda, cuda:0 or cuda:0,1 with at most %d numbers, "
                   "each once",
                   device, LA_DEVICES_MAX);
}

static la_status open_cuda(const la_cuda_plugin *plugin, const int *numbers, int wanted,
                           la_precision precision, la_team team, la_backend *backends, int *n,
                           la_error *err) {
    for (int i = 0; i < wanted; i++) {
        la_status status = plugin->open(numbers[i], precision, &backends[i], err);
        if (status != LA_OK) {
            while (i-- > 0)
                backends[i].ops->close(&backends[i]);
            return status;
        }
        backends[i].team = team;
    }
    *n = wanted;
    return LA_OK;
}

/* CUDA where a device can be used; where only the machine lacks something, the host, with a note.
 */
static la_status open_auto(la_precision precision, la_team team, const la_log *log,
                           la_backend *backends, int *n, la_error *err) {
    la_error why = {0};
    const la_cuda_plugin *plugin = la_cuda_plugin_load(&why);
    if (plugin && plugin->count(&why) > 0) {
        int first = 0;
        if (open_cuda(plugin, &first, 1, precision, team, backends, n, &why) == LA_OK)
            return LA_OK;
    }
    /* a build without CUDA reports nothing */
    if (plugin || why.status == LA_RESOURCE)
        la_warn(log, "%s; using the CPU", why.message);
    return open_host(precision, team, log, why.message, backends, n, err);
}

la_status la_backend_open(const char *device, la_precision precision, la_team team,
                          const la_log *log, la_backend backends[LA_DEVICES_MAX], int *n,
                          la_error *err) {
    *n = 0;
    if (!device || !strcmp(device, "auto"))
        return open_auto(precision, team, log, backends, n, err);
    if (!strcmp(device, "cpu"))
        return open_host(precision, team, log, "", backends, n, err);
    if (strncmp(device, "cuda", 4) || (device[4] && device[4] != ':'))
        return la_fail(err, LA_USAGE, "--device \"%s\": expected auto, cpu, cuda or cuda:0,1",
                       device);
    int numbers[LA_DEVICES_MAX], wanted;
    LA_TRY(parse_numbers(device, numbers, &wanted, err));
    const la_cuda_plugin *plugin = la_cuda_plugin_load(err);
    if (!plugin) {
        la_error why = *err;
        *err = (la_error){0};
        return la_fail(err, LA_RESOURCE, "--device %s: %s; use --device cpu", device, why.message);
    }
    return open_cuda(plugin, numbers, wanted, precision, team, backends, n, err);
}

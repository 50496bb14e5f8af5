#include "model/tensor.h"

#include <stdarg.h>
#include <stdio.h>

const char la_other_base[] = "; is this the base it was trained on?";

la_status la_tensor_fail(la_error *err, la_status status, const la_tensor *tensor,
                         const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return la_fail(err, status, "%s: tensor \"%s\"%s", tensor->file, tensor->name, text);
}

la_status la_tensor_misfit(la_error *err, la_status status, const la_tensor *tensor,
                           const char *format, ...) {
    char text[1024], shape[128];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return la_tensor_fail(err, status, tensor, " is %s %s, %s", tensor->dtype_name,
                          la_tensor_shape_text(tensor, shape, sizeof shape), text);
}

la_status la_tensor_check_shape(const la_tensor *tensor, int64_t rows, int64_t cols,
                                const char *hint, la_error *err) {
    int dims = cols < 0 ? 1 : 2;
    bool fits = tensor->n_dims == dims && tensor->shape[0] == rows &&
                (dims == 1 || tensor->shape[1] == cols);
    if (fits)
        return LA_OK;
    if (dims == 1)
        return la_tensor_misfit(err, LA_BAD_INPUT, tensor, "expected [%lld]%s", (long long)rows,
                                hint);
    return la_tensor_misfit(err, LA_BAD_INPUT, tensor, "expected [%lld, %lld]%s", (long long)rows,
                            (long long)cols, hint);
}

la_status la_tensor_check_matrix(const la_tensor *tensor, la_error *err) {
    if (tensor->n_dims == 2 && tensor->count > 0)
        return LA_OK;
    return la_tensor_misfit(err, LA_BAD_INPUT, tensor,
                            "expected a matrix; adapters saved under ZeRO-3 or FSDP must be "
                            "gathered first");
}

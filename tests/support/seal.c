#include "support/seal.h"
#include "output/posterior_layout.h"

#include <stdio.h>

_Static_assert((int)SEAL == (int)LA_SEAL_BYTES, "the block in front");

la_status seal_file(const char *path, la_error *err) {
    FILE *stream = fopen(path, "r+b");
    if (!stream)
        return la_fail(err, LA_RESOURCE, "%s: cannot write", path);
    la_status status = la_posterior_seal_stream(stream, path, err);
    if (fclose(stream))
        status = la_fail(err, LA_RESOURCE, "%s: cannot write", path);
    return status;
}

la_status seal_bytes(void *bytes, size_t size, la_error *err) {
    la_h5_file file;
    la_h5_begin(&file, "memory", -1, bytes, size, LA_SEAL_BYTES, err);
    return la_posterior_make_seal(&file, bytes);
}

la_status load_bytes(const char *name, const void *bytes, size_t size, la_posterior *posterior,
                     la_error *err) {
    return la_posterior_load_from(name, -1, bytes, size, posterior, err);
}

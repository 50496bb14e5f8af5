/* The block in front of a posterior. */
#include "output/posterior_layout.h"

#include <stdio.h>

#define SEAL_MAGIC "laplora posterior"

const la_seal la_posterior_seal = {
    .magic = SEAL_MAGIC, .title = "posterior", .again = "fit again", .schema = LA_SCHEMA_MAJOR};

la_status la_posterior_make_seal(la_h5_file *file, char block[LA_SEAL_BYTES]) {
    return la_seal_make(&la_posterior_seal, file, block);
}

la_status la_posterior_seal_stream(FILE *stream, const char *path, la_error *err) {
    return la_seal_stream(&la_posterior_seal, stream, path, false, err);
}

int la_posterior_looks_like(const char *path) {
    return la_seal_is_at(&la_posterior_seal, path);
}

la_status la_posterior_digest(const char *path, char digest[LA_DIGEST_TEXT], la_error *err) {
    FILE *file = fopen(path, "rb");
    int found = file ? fscanf(file, SEAL_MAGIC " %*d xxh3-128 %32[0-9a-f]", digest) : 0;
    if (file)
        fclose(file);
    return found == 1 ? LA_OK : la_fail(err, LA_BAD_INPUT, "%s: is no posterior", path);
}

/* A posterior in memory, always with a good digest in front: what lies behind it is what is
 * tried. */
#include "fuzz/mutate.h"
#include "support/seal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    la_posterior p;
    la_error err = {0};
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        return 0;
    memcpy(copy, data, size);
    if (size >= SEAL)
        (void)seal_bytes(copy, size, &err);
    la_status status = load_bytes("fuzzed", copy, size, &p, &err);
    check_outcome(status, &p, err.message, "fuzzed");
    free(copy);
    return 0;
}

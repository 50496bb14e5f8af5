#include "fuzz/mutate.h"
#include "support/seal.h"
#include "support/tiny_posterior.h"

#include <stdlib.h>
#include <string.h>

static uint32_t next(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* A place that is not in the middle of zeros, which most of a small file is. */
static size_t place(const uint8_t *data, size_t size, size_t width, uint32_t *state) {
    size_t at = SEAL;
    for (int tries = 0; tries < 64; tries++) {
        at = SEAL + next(state) % (size - SEAL - width + 1);
        at -= at % (width < 8 ? width : 8);
        for (size_t i = 0; i < width; i++)
            if (at >= SEAL && data[at + i])
                return at;
    }
    return at < SEAL ? SEAL : at;
}

static void put_word(uint8_t *data, size_t size, size_t width, uint32_t *state) {
    const uint64_t part = size - SEAL, words[] = {0,
                                                  1,
                                                  2,
                                                  7,
                                                  8,
                                                  UINT64_MAX,
                                                  INT64_MAX,
                                                  part,
                                                  part - 1,
                                                  part - 8,
                                                  1ull << 32,
                                                  1ull << 40,
                                                  0xffffffff,
                                                  0xffff,
                                                  0x7fff,
                                                  0x80000000,
                                                  1ull << 63,
                                                  part / 2,
                                                  part & ~7u,
                                                  part + 8,
                                                  96,
                                                  512,
                                                  UINT64_MAX - 7};
    size_t at = place(data, size, width, state);
    uint64_t word = words[next(state) % (sizeof words / sizeof *words)], old;
    memcpy(&old, data + at, width);
    switch (next(state) % 4) {
    case 0:
        word = (at - SEAL) & ~7ull;
        break;
    case 1:
        word = old + next(state) % 33 - 16;
        break;
    default:
        break;
    }
    memcpy(data + at, &word, width);
}

/* Bytes of one place to another: an address, an entry, a node. */
static void copy_record(uint8_t *data, size_t size, uint32_t *state) {
    static const size_t widths[] = {8, 16, 24, 40, 64, 328};
    size_t width = widths[next(state) % (sizeof widths / sizeof *widths)];
    if (size < SEAL + width)
        return;
    size_t from = place(data, size, width, state), to = place(data, size, width, state);
    memmove(data + to, data + from, width);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    uint32_t state = seed;
    la_error err = {0};
    uint32_t kind = next(&state) % 10;
    if (size < SEAL + 1024 || kind < 2) {
        size = LLVMFuzzerMutate(data, size, max_size);
    } else if (kind < 4) {
        size_t width = 8 + next(&state) % 64, at = place(data, size, width, &state);
        LLVMFuzzerMutate(data + at, width, width);
    } else {
        for (uint32_t times = 1 + next(&state) % 3; times; times--) {
            if (kind < 8)
                put_word(data, size, (size_t)1 << next(&state) % 4, &state);
            else
                copy_record(data, size, &state);
        }
    }
    if (size >= SEAL && next(&state) % 16)
        (void)seal_bytes(data, size, &err);
    return size;
}

void check_outcome(int status, struct la_posterior *posterior, const char *message,
                   const char *name) {
    static volatile double sum;
    if (status == LA_OK) {
        sum += posterior_touch(posterior);
        la_posterior_free(posterior);
        return;
    }
    if ((status != LA_BAD_INPUT && status != LA_UNSUPPORTED) || strchr(message, '\n') ||
        strncmp(message, name, strlen(name)))
        abort();
}

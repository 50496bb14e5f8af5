#include "bayes/draw.h"
#include "base/random.h"
#include "bayes/structure.h"

#include <stdlib.h>

enum { CHUNK = 1024 };

la_status la_draw_open(la_team team, const la_posterior *posterior, uint64_t seed, la_draw **out,
                       la_error *err) {
    *out = NULL;
    la_draw *d = la_alloc(1, sizeof *d, err);
    if (!d)
        return err->status;
    *d = (la_draw){.posterior = posterior, .seed = seed, .team = team};
    d->offset = la_alloc((size_t)posterior->n_blocks, sizeof *d->offset, err);
    for (int64_t b = 0; b < posterior->n_blocks && d->offset; b++) {
        int64_t size = posterior->blocks[b].out * posterior->blocks[b].in;
        d->offset[b] = d->width;
        d->largest = size > d->largest ? size : d->largest;
        d->width += size;
    }
    if (err->status == LA_OK)
        d->memory = la_alloc(la_structure_of(posterior->curvature)->draw_bytes(d), 1, err);
    if (err->status != LA_OK) {
        la_draw_close(d);
        return err->status;
    }
    *out = d;
    return LA_OK;
}

void la_draw_close(la_draw *d) {
    if (!d)
        return;
    free(d->offset);
    free(d->memory);
    free(d);
}

void la_draw_normals(const la_draw *d, int64_t number, int64_t block, int64_t n, float *out) {
    uint64_t stream = ((uint64_t)number << 32) + (uint64_t)block;
    double chunk[CHUNK];
    for (int64_t at = 0; at < n; at += CHUNK) {
        int64_t count = n - at < CHUNK ? n - at : CHUNK;
        la_random_normal(d->seed, stream, (uint64_t)at, (size_t)count, chunk);
        for (int64_t i = 0; i < count; i++)
            out[at + i] = (float)chunk[i];
    }
}

void la_draw_add(const la_draw *d, int64_t block, const float *eps, float scale, const float *map,
                 float *theta) {
    int64_t out = d->posterior->blocks[block].out, in = d->posterior->blocks[block].in;
    map += d->offset[block];
    theta += d->offset[block];
    if (out <= in) {
        for (int64_t i = 0; i < out * in; i++)
            theta[i] = map[i] + scale * eps[i];
        return;
    }
    for (int64_t o = 0; o < out; o++)
        for (int64_t i = 0; i < in; i++)
            theta[o * in + i] = map[o * in + i] + scale * eps[i * out + o];
}

void la_draw_network(la_draw *draw, int64_t number, const float *map, float *theta) {
    la_structure_of(draw->posterior->curvature)->draw(draw, number, map, theta);
}

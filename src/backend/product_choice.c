#include "backend/product_choice.h"
#include "base/digest.h"
#include "base/memory.h"
#include "input/json.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define VARIABLE "LAPLORA_PRODUCTS"

/* Another number where files of before are not to be followed: other shapes, another rule. */
enum { FORMAT = 1, MOST_BYTES = 1 << 16 };

/* A library is taken in place of OpenBLAS where it is this many times as fast. */
static const double AHEAD = 1.1;

/* GFLOP/s of f32 by shape and library, and of bf16 on large shapes; 0: not measured. */
typedef struct rates {
    double f32[LA_SHAPES][LA_PROVIDERS], bf16;
} rates;

static struct {
    pthread_mutex_t lock;
    bool settled;
    la_error failure;
    rates rates;
    char origin[160]; /* who chose */
} choice = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- measurement ---- */

enum { SAMPLES = 3, ROUNDS = 7, SIDE = 1024, ACROSS = 384 };

/* Products of a layer of a small model: forward, backward, a gradient. */
static const struct {
    bool trans_a, trans_b;
    int64_t m, n, k;
    int repeats;
} samples[LA_SHAPES][SAMPLES] = {
    {{false, true, 24, 24, 32, 20}, {false, false, 24, 32, 24, 20}, {false, true, 96, 8, 384, 4}},
    {{false, true, SIDE, 8, ACROSS, 1},
     {false, true, SIDE, ACROSS, 8, 1},
     {true, false, 8, ACROSS, SIDE, 1}},
    {{false, true, 96, ACROSS, ACROSS, 1},
     {false, false, 96, ACROSS, ACROSS, 1},
     {true, false, ACROSS, ACROSS, 96, 1}},
};

/* Time of this thread alone: others may be at work. */
static double seconds_of_thread(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Sides of any shape, as floats or halves, and a result. */
typedef struct operands {
    void *a, *b;
    float *c;
} operands;

static double seconds_of(bool (*product)(const la_gemm *), int shape, int sample,
                         const operands *o) {
    bool trans_a = samples[shape][sample].trans_a, trans_b = samples[shape][sample].trans_b;
    int64_t m = samples[shape][sample].m, n = samples[shape][sample].n;
    int64_t k = samples[shape][sample].k;
    la_gemm g = {trans_a, trans_b,         m, n,    k, 1, o->a, trans_a ? m : k,
                 o->b,    trans_b ? k : n, 0, o->c, n};
    double start = seconds_of_thread();
    bool done = true;
    for (int i = 0; i < samples[shape][sample].repeats; i++)
        done &= product(&g);
    return done ? seconds_of_thread() - start : INFINITY;
}

/* The best of several rounds by turns, as a disturbance only makes one slower; the geometric mean
 * of the samples' rates. */
static void measure_shape(int shape, int n, bool (*const products[])(const la_gemm *),
                          const operands *operand[], double out[]) {
    double best[LA_PROVIDERS + 1][SAMPLES];
    for (int p = 0; p < n; p++)
        for (int s = 0; s < SAMPLES; s++)
            best[p][s] = INFINITY;
    for (int round = 0; round < ROUNDS; round++)
        for (int s = 0; s < SAMPLES; s++)
            for (int p = 0; p < n; p++)
                best[p][s] = fmin(best[p][s], seconds_of(products[p], shape, s, operand[p]));
    for (int p = 0; p < n; p++) {
        double sum = 0;
        for (int s = 0; s < SAMPLES; s++) {
            double flops = 2e-9 * (double)(samples[shape][s].m * samples[shape][s].n) *
                           (double)samples[shape][s].k * samples[shape][s].repeats;
            sum += log(flops / fmax(best[p][s], 1e-9));
        }
        out[p] = exp(sum / SAMPLES);
    }
}

/* Numbers near one, either sign: some processors are faster on zeros. */
static void fill(void *memory, size_t count, bool half, uint32_t seed) {
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        uint32_t bits = 0x3f000000u | (seed >> 9 & 0x7fffffu) | (seed & 0x80000000u);
        if (half)
            ((uint16_t *)memory)[i] = (uint16_t)(bits >> 16);
        else
            memcpy((float *)memory + i, &bits, sizeof bits);
    }
}

static la_status measure(rates *out, la_error *err) {
    enum { COUNT = SIDE * ACROSS };
    *out = (rates){0};
    float *memory = la_alloc(5 * COUNT, sizeof *memory, err);
    if (!memory)
        return err->status;
    operands wide = {memory, memory + COUNT, memory + 2 * COUNT};
    operands narrow = {memory + 3 * COUNT, memory + 4 * COUNT, memory + 2 * COUNT};
    for (int half = 0; half < 2; half++) {
        fill(half ? narrow.a : wide.a, COUNT, half, 1);
        fill(half ? narrow.b : wide.b, COUNT, half, 2);
    }
    bool (*products[LA_PROVIDERS + 1])(const la_gemm *);
    const operands *operand[LA_PROVIDERS + 1];
    for (int p = 0; p < LA_PROVIDERS; p++) {
        products[p] = la_providers[p]->f32;
        operand[p] = &wide;
    }
    la_error none = {0};
    const la_provider *half = la_products_bf16(&none);
    if (half)
        products[LA_PROVIDERS] = half->bf16;
    operand[LA_PROVIDERS] = &narrow;
    for (int shape = 0; shape < LA_SHAPES; shape++) {
        double got[LA_PROVIDERS + 1];
        bool with_half = half && shape == LA_SHAPE_LARGE;
        measure_shape(shape, LA_PROVIDERS + with_half, products, operand, got);
        memcpy(out->f32[shape], got, sizeof out->f32[shape]);
        out->bf16 = with_half ? got[LA_PROVIDERS] : out->bf16;
    }
    free(memory);
    return LA_OK;
}

static la_products best_of(const rates *r) {
    la_products best = {.own = true};
    for (int shape = 0; shape < LA_SHAPES; shape++) {
        int taken = 0;
        for (int p = 1; p < LA_PROVIDERS; p++)
            if (r->f32[shape][p] >= AHEAD * r->f32[shape][0] &&
                r->f32[shape][p] > r->f32[shape][taken])
                taken = p;
        best.f32[shape] = la_providers[taken];
    }
    return best;
}

/* ---- what is kept ---- */

/* Lines of /proc/cpuinfo that tell one kind of processor from another, of the first one. */
static void add_processor(la_digest *digest) {
    static const char *const keys[] = {"vendor_id",       "cpu family",  "model\t",   "model name",
                                       "stepping",        "flags",       "Features",  "CPU part",
                                       "CPU implementer", "CPU variant", "cache size"};
    FILE *file = fopen("/proc/cpuinfo", "r");
    char *line = NULL;
    size_t size = 0;
    while (file && getline(&line, &size, file) > 1)
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
            if (!strncmp(line, keys[i], strlen(keys[i])))
                la_digest_add_text(digest, line);
    free(line);
    if (file)
        fclose(file);
}

static la_status name_of_machine(char name[LA_DIGEST_TEXT], la_error *err) {
    la_digest *digest = la_digest_new(err);
    if (!digest)
        return err->status;
    add_processor(digest);
    la_digest_add_number(digest, FORMAT);
    for (int p = 0; p < LA_PROVIDERS; p++)
        la_digest_add_text(digest, la_providers[p]->version());
    la_digest_finish(digest, name);
    return LA_OK;
}

/* Makes a folder and those above it from the given length on. */
static bool make_folders(char *path, size_t from) {
    for (char *at = path + from; (at = strchr(at, '/')); at++) {
        *at = '\0';
        bool there = !mkdir(path, 0700) || errno == EEXIST;
        *at = '/';
        if (!there)
            return false;
    }
    return !mkdir(path, 0700) || errno == EEXIST;
}

/* $XDG_CACHE_HOME/laplora, else ~/.cache/laplora (basedir-spec of freedesktop.org: a relative
 * path is ignored). */
static bool folder_of_caches(char *path, size_t size) {
    const char *given = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length;
    if (given && *given == '/')
        length = snprintf(path, size, "%s/laplora", given);
    else if (home && *home == '/')
        length = snprintf(path, size, "%s/.cache/laplora", home);
    else
        return false;
    return length > 0 && (size_t)length < size;
}

static bool read_rate(const json_t *object, const char *file, const char *key, double *rate,
                      la_error *err) {
    return la_json_number(object, file, key, true, rate, err) == LA_OK && *rate > 0 &&
           isfinite(*rate);
}

/* False: there is no such file, or not one that this wrote. */
static bool read_kept(const char *path, la_products *products, rates *r) {
    la_error err = {0};
    json_t *root = NULL;
    int64_t format = 0;
    products->own = true;
    bool valid = la_json_load(path, MOST_BYTES, &root, &err) == LA_OK &&
                 la_json_int(root, path, "format", true, FORMAT, FORMAT, &format, &err) == LA_OK;
    for (int shape = 0; shape < LA_SHAPES && valid; shape++) {
        const json_t *one = json_object_get(root, la_shape_names[shape]);
        const char *takes = "";
        valid =
            json_is_object(one) && la_json_text(one, path, "takes", true, &takes, &err) == LA_OK;
        products->f32[shape] = valid ? la_provider_find(takes) : NULL;
        valid = valid && products->f32[shape];
        for (int p = 0; p < LA_PROVIDERS && valid; p++)
            valid = read_rate(one, path, la_providers[p]->name, &r->f32[shape][p], &err);
    }
    r->bf16 = 0;
    if (valid && json_object_get(root, "bf16"))
        valid = read_rate(root, path, "bf16", &r->bf16, &err);
    json_decref(root);
    return valid;
}

static char *text_of(const la_products *products, const rates *r) {
    json_t *root = json_pack("{s:i}", "format", FORMAT);
    for (int p = 0; p < LA_PROVIDERS; p++)
        json_object_set_new(root, la_providers[p]->name, json_string(la_providers[p]->version()));
    for (int shape = 0; shape < LA_SHAPES; shape++) {
        json_t *one = json_pack("{s:s}", "takes", products->f32[shape]->name);
        for (int p = 0; p < LA_PROVIDERS; p++)
            json_object_set_new(one, la_providers[p]->name, json_real(r->f32[shape][p]));
        json_object_set_new(root, la_shape_names[shape], one);
    }
    if (r->bf16 > 0)
        json_object_set_new(root, "bf16", json_real(r->bf16));
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(4));
    json_decref(root);
    return text;
}

static bool write_whole(int fd, const char *text) {
    size_t length = strlen(text);
    while (length) {
        ssize_t n = write(fd, text, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        text += n;
        length -= (size_t)n;
    }
    return !fsync(fd);
}

/* Puts the file in its place, unless another process was first, and takes the choice that is in it.
 * False: nothing is kept; errno says why. */
static bool keep(const char *path, la_products *products, rates *r) {
    char temporary[PATH_MAX];
    char *text = text_of(products, r);
    if (!text || snprintf(temporary, sizeof temporary, "%s.XXXXXX", path) >= PATH_MAX) {
        errno = text ? ENAMETOOLONG : ENOMEM;
        free(text);
        return false;
    }
    int fd = mkstemp(temporary);
    bool kept = fd >= 0 && write_whole(fd, text);
    int why = errno;
    if (fd >= 0)
        close(fd);
    if (kept && link(temporary, path) && !(errno == EEXIST && read_kept(path, products, r))) {
        /* not a file of this, or a file system without links */
        kept = !rename(temporary, path);
        why = errno;
    }
    if (fd >= 0)
        unlink(temporary);
    free(text);
    errno = why;
    /* as every later process will read it */
    return kept && read_kept(path, products, r);
}

/* ---- the choice ---- */

static la_products all_of(const la_provider *provider) {
    la_products all = {.own = false};
    for (int shape = 0; shape < LA_SHAPES; shape++)
        all.f32[shape] = provider;
    return all;
}

/* OpenBLAS, as it is before anything is chosen. */
static void stay(const char *why) {
    snprintf(choice.origin, sizeof choice.origin, "%s", why);
}

static la_status take_named(const char *name) {
    const la_provider *named = la_provider_find(name);
    la_error why = {0};
    if (!named)
        return la_fail(&choice.failure, LA_USAGE,
                       VARIABLE " \"%s\": expected auto, openblas or onednn", name);
    if (!named->load(false, &why))
        return la_fail(&choice.failure, LA_UNSUPPORTED, VARIABLE " \"%s\": %s", name, why.message);
    la_products all = all_of(named);
    la_products_use(&all);
    stay("as " VARIABLE " says");
    return LA_OK;
}

static void choose_best(void) {
    char folder[PATH_MAX], path[PATH_MAX], machine[LA_DIGEST_TEXT], why[160];
    la_error err = {0};
    la_products best = {.own = true};
    for (int p = 0; p < LA_PROVIDERS; p++)
        if (!la_providers[p]->load(false, &err)) {
            snprintf(why, sizeof why, "%.150s", err.message);
            stay(why);
            return;
        }
    if (!folder_of_caches(folder, sizeof folder)) {
        stay("without a folder (HOME) that a measurement could be kept in");
        return;
    }
    if (name_of_machine(machine, &err) != LA_OK ||
        snprintf(path, sizeof path, "%s/products-%s.json", folder, machine) >= PATH_MAX)
        return;
    if (read_kept(path, &best, &choice.rates)) {
        stay("measured before");
        la_products_use(&best);
        return;
    }
    if (!make_folders(folder, 1)) {
        snprintf(why, sizeof why, "no measurement could be kept in %.80s (%s)", folder,
                 la_errno_text(errno));
        stay(why);
        return;
    }
    if (measure(&choice.rates, &err) != LA_OK)
        return;
    best = best_of(&choice.rates);
    if (!keep(path, &best, &choice.rates)) {
        snprintf(why, sizeof why, "no measurement could be kept in %.80s (%s)", folder,
                 la_errno_text(errno));
        stay(why);
        choice.rates = (rates){0};
        return;
    }
    stay("measured now");
    la_products_use(&best);
}

la_status la_products_choose(la_error *err) {
    pthread_mutex_lock(&choice.lock);
    if (!choice.settled) {
        const char *given = getenv(VARIABLE);
        /* not unasked: oneDNN ends the process where memory is missing, and the last digits of its
         * products depend on how many rows are multiplied at once */
        if (!given || !*given)
            stay(VARIABLE "=auto measures others");
        else if (strcmp(given, "auto"))
            (void)take_named(given);
        else
            choose_best();
        choice.settled = true;
    }
    la_status status = choice.failure.status;
    if (status != LA_OK)
        *err = choice.failure;
    pthread_mutex_unlock(&choice.lock);
    return status;
}

la_status la_products_check_bf16(double *gain, la_error *err) {
    const char *given = getenv(VARIABLE);
    const la_provider *named = given ? la_provider_find(given) : NULL;
    *gain = 0;
    if (named && !named->bf16)
        return la_fail(err, LA_UNSUPPORTED, "%s has no products of bf16 (" VARIABLE ")",
                       named->name);
    if (!la_products_bf16(err))
        return err->status;
    la_products in_use = la_products_in_use();
    for (int p = 0; p < LA_PROVIDERS; p++)
        if (in_use.f32[LA_SHAPE_LARGE] == la_providers[p] &&
            choice.rates.f32[LA_SHAPE_LARGE][p] > 0)
            *gain = choice.rates.bf16 / choice.rates.f32[LA_SHAPE_LARGE][p];
    return LA_OK;
}

/* ---- for people ---- */

/* "OpenBLAS 0.3.21" of what a library says of itself */
static int length_of_name(const char *version) {
    const char *first = strchr(version, ' ');
    return (int)(first ? strcspn(first + 1, " ") + (size_t)(first + 1 - version) : strlen(version));
}

void la_products_describe(char text[LA_PRODUCTS_TEXT]) {
    la_products in_use = la_products_in_use();
    size_t at = (size_t)snprintf(text, LA_PRODUCTS_TEXT, "products:");
    for (int shape = 0; shape < LA_SHAPES && at < LA_PRODUCTS_TEXT; shape++) {
        const char *version = in_use.f32[shape]->version();
        const double *r = choice.rates.f32[shape];
        at += (size_t)snprintf(text + at, LA_PRODUCTS_TEXT - at, "%s %s %.*s", shape ? "," : "",
                               la_shape_names[shape], length_of_name(version), version);
        for (int p = 0; p < LA_PROVIDERS && r[p] > 0 && at < LA_PRODUCTS_TEXT; p++)
            at += (size_t)snprintf(text + at, LA_PRODUCTS_TEXT - at, "%s%s %.0f%s", p ? ", " : " (",
                                   la_providers[p]->name, r[p],
                                   p == LA_PROVIDERS - 1 ? " GFLOP/s)" : "");
    }
    if (choice.rates.bf16 > 0 && at < LA_PRODUCTS_TEXT)
        at += (size_t)snprintf(text + at, LA_PRODUCTS_TEXT - at, ", bf16 %.0f GFLOP/s",
                               choice.rates.bf16);
    if (*choice.origin && at < LA_PRODUCTS_TEXT)
        snprintf(text + at, LA_PRODUCTS_TEXT - at, "; %s", choice.origin);
}

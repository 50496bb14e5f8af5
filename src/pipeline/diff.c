#include "pipeline/diff.h"
#include "input/folders.h"
#include "output/posterior_file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* One of the two. */
typedef struct side {
    const char *path;
    bool is_posterior, has_posterior, has_effects;
    la_posterior posterior;
    la_effects effects;
    json_t *options;
} side;

static void close_side(side *s) {
    if (s->has_posterior)
        la_posterior_free(&s->posterior);
    if (s->has_effects)
        la_effects_close(&s->effects);
    json_decref(s->options);
}

/* A directory is an adapter's, a file that begins or is named like a posterior is one; everything
 * else is looked for as an adapter, which says what it is. */
static bool is_posterior(const char *path) {
    struct stat info;
    const char *dot = strrchr(path, '.');
    bool named = dot && (!strcmp(dot, ".h5") || !strcmp(dot, ".hdf5"));
    if (!stat(path, &info))
        return !S_ISDIR(info.st_mode) && (named || la_posterior_looks_like(path));
    return named;
}

static la_status open_adapter(side *s, const char *which, la_pool *pool, const la_log *log,
                              la_error *err) {
    const char *folder;
    LA_TRY(la_folder_find(LA_FOLDER_ADAPTER, which, s->path, pool, log, &folder, err));
    LA_TRY(la_effects_read(folder, NULL, log, &s->effects, err));
    s->has_effects = true;
    return la_adapter_options(&s->effects.adapter, &s->options, err);
}

/* The adapter's folder where it is there and still what the posterior was fitted with. */
static void find_effects(side *s, const la_log *log) {
    const la_provenance *from = &s->posterior.provenance;
    la_error err = {0};
    char digest[LA_DIGEST_TEXT];
    const char *why = err.message;
    if (la_effects_read(from->adapter_path, from->adapter_name, NULL, &s->effects, &err) == LA_OK) {
        s->has_effects = la_adapter_digest(&s->effects.adapter, digest, &err) == LA_OK &&
                         !strcmp(digest, from->adapter_digest);
        if (!s->has_effects) {
            la_effects_close(&s->effects);
            why = "the adapter there is another one by now";
        }
    }
    if (!s->has_effects)
        la_warn(log, "%s: its adapter cannot be looked at: %s", s->path, why);
}

static la_status open_posterior(side *s, const la_log *log, la_error *err) {
    LA_TRY(la_posterior_load(s->path, &s->posterior, err));
    s->has_posterior = true;
    find_effects(s, log);
    return la_posterior_options(&s->posterior, &s->options, err);
}

static void put_block(la_difference *d, const la_block_change *change, la_error *err) {
    la_block_change *to = &d->blocks[d->n_blocks++];
    *to = *change;
    to->name = la_pool_text(&d->pool, change->name, strlen(change->name), err);
}

static la_status take_blocks(la_difference *d, int64_t most, la_error *err) {
    d->blocks = la_pool_take(&d->pool, (size_t)most, sizeof *d->blocks, err);
    return d->blocks ? LA_OK : err->status;
}

/* Both lists are sorted by name. */
static la_status compare_effects(const la_posterior *posterior, const la_effects *a,
                                 const la_effects *b, la_difference *d, la_error *err) {
    LA_TRY(take_blocks(d, a->n + b->n, err));
    for (int64_t i = 0, j = 0; i < a->n || j < b->n;) {
        int order = i == a->n ? 1 : j == b->n ? -1 : strcmp(a->list[i].name, b->list[j].name);
        const la_effect *x = order <= 0 ? &a->list[i++] : NULL;
        const la_effect *y = order >= 0 ? &b->list[j++] : NULL;
        la_block_change change;
        LA_TRY(la_effect_compare(x, y, &change, err));
        if (posterior && x && y)
            LA_TRY(la_effect_in_sd(posterior, x, y, &change.distance_in_sd, err));
        if (change.distance == 0 && isfinite(change.distance_in_sd))
            change.distance_in_sd = 0;
        put_block(d, &change, err);
        LA_TRY(err->status);
    }
    return LA_OK;
}

static const la_posterior_block *find_block(const la_posterior *p, const char *name) {
    for (int64_t i = 0; i < p->n_blocks; i++)
        if (!strcmp(p->blocks[i].name, name))
            return &p->blocks[i];
    return NULL;
}

/* Blocks of posteriors whose adapters are not there: of their parameters the norms alone are
 * known. The same adapter has the same; of another, those of the same norm to the last bit are. */
static void compare_norms(const la_posterior_block *a, const la_posterior_block *b,
                          bool one_adapter, la_block_change *change) {
    bool same = a && b && a->out == b->out && a->in == b->in && a->theta_square == b->theta_square;
    *change = (la_block_change){.name = (a ? a : b)->name,
                                .norm_a = a ? sqrt(a->theta_square) : NAN,
                                .norm_b = b ? sqrt(b->theta_square) : NAN,
                                .distance = same && one_adapter ? 0 : NAN,
                                .change = !b     ? LA_CHANGE_REMOVED
                                          : !a   ? LA_CHANGE_ADDED
                                          : same ? LA_CHANGE_NONE
                                                 : LA_CHANGE_VALUE};
    change->relative = change->distance_in_sd = change->distance;
}

static la_status compare_posterior_blocks(const la_posterior *a, const la_posterior *b,
                                          la_difference *d, la_error *err) {
    bool one_adapter = !strcmp(a->provenance.adapter_digest, b->provenance.adapter_digest);
    la_block_change change;
    LA_TRY(take_blocks(d, a->n_blocks + b->n_blocks, err));
    for (int64_t i = 0; i < a->n_blocks; i++) {
        compare_norms(&a->blocks[i], find_block(b, a->blocks[i].name), one_adapter, &change);
        put_block(d, &change, err);
    }
    for (int64_t i = 0; i < b->n_blocks; i++) {
        if (find_block(a, b->blocks[i].name))
            continue;
        compare_norms(NULL, &b->blocks[i], one_adapter, &change);
        put_block(d, &change, err);
    }
    return err->status;
}

static la_status compare_sides(const la_diff_options *options, side sides[2], la_difference *d,
                               la_error *err) {
    side *a = &sides[0], *b = &sides[1];
    bool matters;
    if (!a->has_posterior) {
        LA_TRY(compare_effects(NULL, &a->effects, &b->effects, d, err));
    } else {
        const la_posterior *p = &a->posterior, *q = &b->posterior;
        bool one = !strcmp(p->provenance.adapter_digest, q->provenance.adapter_digest);
        side *found = a->has_effects ? a : b;
        if ((a->has_effects && b->has_effects) || (one && found->has_effects))
            LA_TRY(compare_effects(p, one ? &found->effects : &a->effects,
                                   one ? &found->effects : &b->effects, d, err));
        else
            LA_TRY(compare_posterior_blocks(p, q, d, err));
    }
    LA_TRY(la_options_compare(a->options, b->options, a->is_posterior, &d->options, &matters, err));
    d->same = !matters;
    for (int64_t i = 0; i < d->n_blocks; i++)
        d->same &= d->blocks[i].change == LA_CHANGE_NONE;
    d->has_answers = options->answers[0] != NULL;
    if (d->has_answers)
        LA_TRY(la_answers_compare(options->answers, &d->answers, err));
    d->same &= !d->answers.flips;
    return LA_OK;
}

la_status la_diff(const la_diff_options *options, la_difference *difference, la_error *err) {
    static const char *const kinds[] = {"adapter", "posterior"}, *const articles[] = {"an", "a"};
    side sides[2] = {{.path = options->a, .is_posterior = is_posterior(options->a)},
                     {.path = options->b, .is_posterior = is_posterior(options->b)}};
    bool posteriors = sides[0].is_posterior;
    la_pool pool = {0};
    *difference = (la_difference){.a = options->a, .b = options->b, .kind = kinds[posteriors]};
    if (posteriors != sides[1].is_posterior)
        return la_fail(err, LA_USAGE,
                       "%s is %s %s, and %s is %s %s; diff takes two adapters or two posteriors",
                       options->a, articles[posteriors], kinds[posteriors], options->b,
                       articles[!posteriors], kinds[!posteriors]);
    for (int i = 0; i < 2 && err->status == LA_OK; i++)
        (void)(posteriors ? open_posterior(&sides[i], options->log, err)
                          : open_adapter(&sides[i], "diff", &pool, options->log, err));
    if (err->status == LA_OK)
        (void)compare_sides(options, sides, difference, err);
    for (int i = 0; i < 2; i++)
        close_side(&sides[i]);
    la_pool_free(&pool);
    if (err->status != LA_OK)
        la_difference_free(difference);
    return err->status;
}

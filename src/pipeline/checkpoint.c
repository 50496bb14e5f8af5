#include "pipeline/checkpoint.h"
#include "base/machine.h"
#include "base/memory.h"
#include "base/output_file.h"
#include "base/stop.h"
#include "pipeline/checkpoint_file.h"
#include "pipeline/checkpoint_identity.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Work that a copy of the sums may cost: one part in so many. */
#define PARTS_MOST 50

struct la_fit_checkpoint {
    la_fit_checkpoint_options options;
    const la_log *log;
    la_generations files;
    la_sums_image image;
    bool loaded; /* the image is of a file, its sums not taken yet */
    bool begun;  /* the identity is that of this fit */
    bool failed; /* the last write, which was said */
    la_stop_saver saver;
    /* for the signal's handler */
    _Atomic bool changing; /* the image, or the files */
    _Atomic bool dirty;    /* the image holds more than the files */
    _Atomic bool kept;     /* there is a file */
    _Atomic bool worth;    /* rows have been copied to the image */
    double at_copy, seconds_copy, at_write, seconds_write;
};

/* ---- writing ---- */

/* In a signal handler. */
static la_saved save(void *user) {
    la_fit_checkpoint *c = user;
    if (atomic_load(&c->changing))
        return atomic_load(&c->worth) && !atomic_load(&c->kept) ? LA_SAVE_FIRST : LA_SAVE_AGAIN;
    if (atomic_exchange(&c->dirty, false))
        (void)la_generations_write(&c->files, c->image.bytes, c->image.used, false);
    return LA_SAVED;
}

/* A fit goes on without: the older generation stays, and another try follows. */
static void write_now(la_fit_checkpoint *c) {
    double start = la_seconds();
    atomic_store(&c->changing, true);
    int code = la_generations_write(&c->files, c->image.bytes, c->image.used, true);
    if (!code)
        atomic_store(&c->dirty, false);
    atomic_store(&c->kept, c->kept || !code);
    atomic_store(&c->changing, false);
    c->at_write = la_seconds();
    c->seconds_write = c->at_write - start;
    if (code && !c->failed)
        la_warn(c->log, "%s: cannot write a checkpoint: %s; the fit goes on, %s", c->options.path,
                la_errno_text(code), "an older one stays as it was");
    c->failed = code != 0;
}

static la_status copy(la_fit_checkpoint *c, la_fit_state *fit, la_error *err) {
    double start = la_seconds();
    atomic_store(&c->worth, true);
    atomic_store(&c->changing, true);
    la_status status = la_image_put(&c->image, fit, err);
    atomic_store(&c->dirty, status == LA_OK);
    atomic_store(&c->changing, status != LA_OK);
    c->at_copy = la_seconds();
    c->seconds_copy = c->at_copy - start;
    return status;
}

/* ---- moments ---- */

/* Whose sums these are, when they are known. */
static la_status identify(la_fit_checkpoint *c, const la_fit_state *fit, la_error *err) {
    char *own = la_fit_identity(c->options.fit, fit, true, err);
    la_status status = err->status;
    if (status == LA_OK && c->loaded) {
        size_t length;
        const char *loaded = la_image_identity(&c->image, &length);
        status =
            la_fit_identity_check(c->options.path, loaded, length, own,
                                  "give what it was begun with, or leave --resume out to start "
                                  "from the beginning",
                                  err);
    } else if (status == LA_OK) {
        status = la_image_begin(&c->image, own, err);
    }
    free(own);
    c->begun = status == LA_OK;
    return status;
}

static la_status begin_pass(la_fit_checkpoint *c, la_fit_state *fit, la_error *err) {
    bool first = !c->begun;
    la_status status = LA_OK;
    atomic_store(&c->changing, true);
    if (first)
        LA_TRY(identify(c, fit, err));
    if (fit->pass < c->image.n) {
        if (la_image_take(&c->image, fit, err) != LA_OK)
            return la_error_prefix(err, "%s: ", c->options.path);
        la_warn(c->log, "%s: goes on with row %lld of %lld of pass %d", c->options.path,
                (long long)fit->at, (long long)fit->to, fit->pass + 1);
    } else {
        double start = la_seconds();
        status = la_image_add(&c->image, fit, err);
        atomic_store(&c->dirty, status == LA_OK);
        c->seconds_copy = la_seconds() - start;
    }
    LA_TRY(status);
    atomic_store(&c->changing, false);
    c->at_copy = la_seconds();
    if (first) {
        c->at_write = c->at_copy;
        la_stop_save(&c->saver);
    }
    return LA_OK;
}

static la_status pause_pass(la_fit_checkpoint *c, la_fit_state *fit, la_error *err) {
    double now = la_seconds(), seconds = c->options.seconds;
    bool ends = fit->at == fit->to, writes = ends;
    if (seconds > 0)
        writes |= now - c->at_write >= seconds;
    else
        writes |= now - c->at_write >= LA_CHECKPOINT_SECONDS &&
                  now - c->at_write >= PARTS_MOST * c->seconds_write;
    if (writes || now - c->at_copy >= PARTS_MOST * c->seconds_copy)
        LA_TRY(copy(c, fit, err));
    if (writes)
        write_now(c);
    return LA_OK;
}

/* A pass's sums are saved after its last batch, while every device still has its own. */
static la_status carry(void *user, la_moment moment, la_fit_state *fit, la_error *err) {
    la_fit_checkpoint *c = user;
    la_status status = LA_OK;
    fit->same_rows = true;
    if (moment == LA_PASS_BEGINS)
        status = begin_pass(c, fit, err);
    else if (moment == LA_PASS_PAUSES)
        status = pause_pass(c, fit, err);
    fit->same_rows = false;
    return status;
}

la_carrier la_fit_checkpoint_carrier(la_fit_checkpoint *c) {
    return (la_carrier){.carry = carry, .user = c};
}

/* ---- beginning and end ---- */

/* The newest generation that is whole. */
static la_status load(la_fit_checkpoint *c, la_error *err) {
    const char *path = c->options.path, *wrong[LA_GENERATIONS] = {0};
    int found = -1;
    for (int g = 0; g < LA_GENERATIONS && found < 0; g++) {
        bool there;
        LA_TRY(la_generations_read(&c->files, path, g, &c->image, &there, &wrong[g], err));
        found = there && !wrong[g] ? g : -1;
    }
    c->loaded = found >= 0;
    atomic_store(&c->kept, c->loaded);
    if (found > 0)
        la_warn(c->log, "%s: %s; goes on with the older %s" LA_OLDER, path,
                wrong[0] ? wrong[0] : "is not there", path);
    else if (found < 0 && !wrong[0] && !wrong[1])
        la_warn(c->log, "%s: is not there; the fit starts from the beginning", path);
    else if (found < 0)
        return la_fail(err, LA_BAD_INPUT,
                       "%s%s: %s, and there is no other checkpoint that is whole; remove it to "
                       "start from the beginning",
                       path, wrong[0] ? "" : LA_OLDER, wrong[0] ? wrong[0] : wrong[1]);
    return LA_OK;
}

static la_status check_path(const la_fit_checkpoint *c, la_error *err) {
    const la_fit_options *fit = c->options.fit;
    const char *path = c->options.path;
    LA_TRY(la_output_apart(path, "a file of --base", fit->base, err));
    LA_TRY(la_output_apart(path, "a file of --adapter", fit->adapter, err));
    LA_TRY(la_output_apart(path, "--data", fit->data, err));
    LA_TRY(la_output_apart(path, "--val", fit->val, err));
    LA_TRY(la_output_apart(path, "--template", fit->template_path, err));
    return la_generations_apart(&c->files, path, fit->out, err);
}

static la_status open_files(la_fit_checkpoint *c, la_error *err) {
    bool ours[LA_GENERATIONS];
    const char *path = c->options.path;
    LA_TRY(la_generations_open(&c->files, path, err));
    LA_TRY(check_path(c, err));
    if (c->options.resume)
        return load(c, err);
    LA_TRY(la_generations_look(&c->files, path, ours, err));
    if (ours[0] || ours[1])
        la_warn(c->log,
                "%s: a checkpoint is there, and will be replaced: without --resume the fit starts "
                "from the beginning",
                path);
    return LA_OK;
}

la_status la_fit_checkpoint_open(const la_fit_checkpoint_options *options,
                                 la_fit_checkpoint **checkpoint, la_error *err) {
    la_fit_checkpoint *c = la_alloc(1, sizeof *c, err);
    *checkpoint = c;
    if (!c)
        return err->status;
    c->options = *options;
    c->log = &options->fit->run.log;
    c->saver = (la_stop_saver){save, c};
    if (open_files(c, err) == LA_OK)
        return LA_OK;
    la_generations_close(&c->files);
    la_image_free(&c->image);
    free(c);
    *checkpoint = NULL;
    return err->status;
}

void la_fit_checkpoint_close(la_fit_checkpoint *c, la_status fit) {
    if (!c)
        return;
    if (fit == LA_OK)
        la_generations_remove(&c->files);
    bool stays = fit == LA_INTERRUPTED || fit == LA_RESOURCE || la_interrupted();
    if (fit != LA_OK && stays && !atomic_load(&c->changing) && atomic_load(&c->dirty))
        write_now(c);
    la_stop_save(NULL);
    la_generations_close(&c->files);
    la_image_free(&c->image);
    free(c);
}

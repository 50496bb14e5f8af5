#include "pipeline/merge.h"
#include "base/output_file.h"
#include "base/stop.h"
#include "output/part_file.h"
#include "output/posterior_file.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Tokens of all rows are counted exactly in doubles. */
#define TOKENS_MOST 9e15

typedef struct given_part {
    int64_t number;
    const char *path;
} given_part;

typedef struct merging {
    const la_merge_options *options;
    la_part first; /* the one that others are compared with */
    la_sums_file *first_file;
    const char *first_path;
    given_part *list; /* [n parts] by number, once all are looked at */
    la_fit_rows rows;
    size_t n_digests, capacity;
    /* while a part is added */
    const char *path;
    la_sums_file *file;
    int64_t expected; /* its rows */
    int64_t n_seen;   /* arrays that were read of it */
} merging;

static void close_merging(merging *m) {
    la_part_close(&m->first, m->first_file);
    free(m->list);
    free(m->rows.digests);
}

/* ---- what there is ---- */

/* Digests of a part's rows; as many as its file has, whatever it says. */
static la_status keep_digests(merging *m, const la_part *part, la_error *err) {
    size_t n = (size_t)part->n_digests;
    LA_TRY(la_grow(&m->rows.digests, &m->capacity, m->n_digests + n, sizeof *m->rows.digests, err));
    if (n)
        memcpy(m->rows.digests + m->n_digests, part->digests, n * sizeof *part->digests);
    m->n_digests += n;
    return LA_OK;
}

static la_status look_at(merging *m, int64_t i, la_error *err) {
    const char *path = m->options->parts[i];
    la_part part;
    la_sums_file *file = NULL;
    la_status status = la_part_open(path, &part, &file, err);
    if (status == LA_OK && m->first_file)
        status = la_part_agree(path, &part, m->first_path, &m->first, err);
    if (status == LA_OK)
        status = keep_digests(m, &part, err);
    m->list[i] = (given_part){part.number, path};
    if (status == LA_OK && !m->first_file) {
        m->first = part;
        m->first_file = file;
        m->first_path = path;
        return LA_OK;
    }
    la_part_close(&part, file);
    return status;
}

static int by_number(const void *a, const void *b) {
    const given_part *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

/* Each of them is there once. */
static la_status check_list(const merging *m, la_error *err) {
    int64_t n = m->first.n_parts, given = m->options->n_parts;
    for (int64_t i = 1; i < given; i++)
        if (m->list[i].number == m->list[i - 1].number)
            return la_fail(err, LA_MISMATCH, "%s: is part %lld/%lld, and so is %s; give each once",
                           m->list[i].path, (long long)m->list[i].number, (long long)n,
                           m->list[i - 1].path);
    for (int64_t i = 0; i < n; i++)
        if (i >= given || m->list[i].number != i + 1)
            return la_fail(err, LA_MISMATCH,
                           "part %lld/%lld of the fit of %s is missing; expected all %lld parts, "
                           "%lld are given",
                           (long long)i + 1, (long long)n, m->first_path, (long long)n,
                           (long long)given);
    return LA_OK;
}

static la_status look_at_all(merging *m, la_error *err) {
    const la_merge_options *options = m->options;
    if (options->n_parts < 1)
        return la_fail(err, LA_USAGE, "merge needs files of parts, of fit --shard");
    m->list = la_alloc((size_t)options->n_parts, sizeof *m->list, err);
    LA_TRY(err->status);
    for (int64_t i = 0; i < options->n_parts; i++)
        LA_TRY(look_at(m, i, err));
    qsort(m->list, (size_t)options->n_parts, sizeof *m->list, by_number);
    LA_TRY(check_list(m, err));
    m->rows = (la_fit_rows){.name = m->first_path,
                            .of = &m->first.of,
                            .digests = m->rows.digests,
                            .n = m->first.n_all,
                            .n_truncated = m->first.n_truncated,
                            .n_lost = m->first.n_lost,
                            .n_absent = m->first.n_absent};
    return LA_OK;
}

/* ---- sums ---- */

static la_status bad_totals(const merging *m, la_error *err) {
    return la_fail(err, LA_BAD_INPUT,
                   "%s: \"totals\" are not those of the part's %lld rows; the part file is damaged",
                   m->path, (long long)m->expected);
}

/* Adds the array of the part to that of the fit. */
static la_status add(void *user, const la_array *array, la_error *err) {
    merging *m = user;
    size_t count = (size_t)(array->rows * array->cols);
    double *own;
    if (la_array_is_row(array) && !la_sums_file_has(m->file, array->name))
        return LA_OK;
    own = la_alloc(count, sizeof *own, err);
    la_array of_part = *array;
    of_part.data = own;
    la_status status = own ? la_sums_file_read(m->file, &of_part, err) : err->status;
    if (status == LA_OK && !strcmp(array->name, "totals") &&
        (own[0] != (double)m->expected || !(own[1] >= own[0] && own[1] <= TOKENS_MOST) ||
         own[1] != floor(own[1])))
        status = bad_totals(m, err);
    for (size_t i = 0; status == LA_OK && i < count; i++)
        array->data[i] += own[i];
    free(own);
    m->n_seen++;
    return status;
}

static la_status add_part(merging *m, la_fit_state *fit, int64_t number, la_error *err) {
    la_part part;
    la_array_visitor visitor = {add, m};
    m->path = m->list[number - 1].path;
    m->file = NULL;
    m->n_seen = 0;
    la_status status = la_part_open(m->path, &part, &m->file, err);
    if (status == LA_OK)
        status = la_part_agree(m->path, &part, m->first_path, &m->first, err);
    m->expected = part.n_rows;
    if (status == LA_OK)
        status = la_fit_state_visit(fit, true, &visitor, err);
    if (status == LA_OK && m->n_seen != la_sums_file_count(m->file))
        status = la_fail(err, LA_MISMATCH,
                         "%s: has %lld sums, expected %lld; it is of another adapter or curvature",
                         m->path, (long long)la_sums_file_count(m->file), (long long)m->n_seen);
    la_part_close(&part, m->file);
    return status;
}

static la_status carry(void *user, la_moment moment, la_fit_state *fit, la_error *err) {
    merging *m = user;
    for (int64_t i = 1; moment == LA_PASS_ENDS && i <= m->first.n_parts; i++) {
        LA_TRY(la_check_interrupt(err));
        LA_TRY(add_part(m, fit, i, err));
    }
    return LA_OK;
}

/* ---- the fit ---- */

/* Eigenvectors that the parts were summed in. */
static la_status check_basis(const merging *m, const char *basis, la_error *err) {
    char digest[LA_DIGEST_TEXT] = "";
    if (*m->first.basis_digest && !basis)
        return la_fail(err, LA_USAGE,
                       "%s: was summed with --basis (digest %s); give the same posterior to merge",
                       m->first_path, m->first.basis_digest);
    if (basis)
        LA_TRY(la_posterior_digest(basis, digest, err));
    if (!strcmp(digest, m->first.basis_digest))
        return LA_OK;
    return la_fail(err, LA_MISMATCH,
                   "%s: is another --basis than that of %s (digest %s, expected %s)", basis,
                   m->first_path, digest, *m->first.basis_digest ? m->first.basis_digest : "none");
}

/* What the parts know is theirs; an option that says otherwise is refused. */
static la_status take_origin(const merging *m, la_fit_options *fit, la_error *err) {
    const la_posterior *of = &m->first.of;
    const la_provenance *from = &of->provenance;
    la_base_quant quant;
    fit->curvature = la_curvature_names[of->curvature];
    fit->kron = of->kron;
    fit->params = of->params;
    fit->rank = of->rank_asked;
    if (fit->run.max_length && fit->run.max_length != from->max_length)
        return la_fail(err, LA_MISMATCH,
                       "%s: its rows were cut to %lld tokens, not %lld; leave --max-length out",
                       m->first_path, (long long)from->max_length, (long long)fit->run.max_length);
    if (fit->run.base_quant) {
        LA_TRY(la_base_quant_parse(fit->run.base_quant, &quant, err));
        if (quant != from->base_quant)
            return la_fail(err, LA_MISMATCH,
                           "%s: was summed with --base-quant %s, not %s; leave the option out",
                           m->first_path, la_base_quant_names[from->base_quant],
                           fit->run.base_quant);
    }
    fit->run.base_quant = la_base_quant_names[from->base_quant];
    LA_TRY(check_basis(m, fit->basis, err));
    if (!fit->prior_given)
        fit->prior = la_structure_of(of->curvature)->joint ? LA_PRIOR_GLOBAL : LA_PRIOR_MODULE;
    return LA_OK;
}

/* Folders are those of part 1, whatever order the parts are given in. */
static la_status take_folders(const merging *m, la_fit_options *fit, la_part *one,
                              la_sums_file **file, la_error *err) {
    LA_TRY(la_part_open(m->list[0].path, one, file, err));
    const la_provenance *from = &one->of.provenance;
    const struct {
        const char *option, *stored, **given;
    } folders[] = {{"base", from->base_path, &fit->base},
                   {"adapter", from->adapter_path, &fit->adapter}};
    for (int i = 0; i < 2; i++) {
        if (!*folders[i].given && access(folders[i].stored, R_OK))
            return la_fail(err, la_errno_status(errno),
                           "%s: where the part was summed there is nothing to read now (%s); give "
                           "--%s DIR",
                           folders[i].stored, la_errno_text(errno), folders[i].option);
        if (!*folders[i].given)
            *folders[i].given = folders[i].stored;
    }
    if (!fit->run.adapter_name)
        fit->run.adapter_name = from->adapter_name;
    return LA_OK;
}

static la_status run(merging *m, la_fit_summary **summary, la_error *err) {
    la_fit_options fit = m->options->fit;
    la_part one = {0};
    la_sums_file *file = NULL;
    la_carrier how = {.carry = carry, .user = m};
    la_carriers carriers = {.list = &how, .n = 1, .rows = &m->rows, .adds = true};
    LA_TRY(look_at_all(m, err));
    for (int64_t i = 0; i < m->options->n_parts; i++)
        LA_TRY(la_output_apart(fit.out, "a part", m->options->parts[i], err));
    LA_TRY(take_origin(m, &fit, err));
    la_status status = take_folders(m, &fit, &one, &file, err);
    if (status == LA_OK)
        status = la_fit_carried(&fit, &carriers, summary, err);
    la_part_close(&one, file);
    return status;
}

la_status la_merge(const la_merge_options *options, la_fit_summary **summary, la_error *err) {
    merging m = {.options = options};
    *summary = NULL;
    *err = (la_error){0};
    la_stop before = la_stop_set(options->fit.run.stop);
    la_status status = run(&m, summary, err);
    la_stop_set(before);
    close_merging(&m);
    return status;
}

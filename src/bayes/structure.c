#include "bayes/structure.h"
#include "bayes/fields.h"

#include <string.h>

static const la_structure_kind *const kinds[LA_CURVATURES] = {
#define LA_STRUCTURE(enumerator, name, text) &la_structure_##name,
#include "bayes/structures.def"
#undef LA_STRUCTURE
};

const la_field_list la_no_fields = {0};

const la_structure_kind *la_structure_of(la_curvature curvature) {
    return kinds[curvature];
}

const la_structure_kind *la_structure_named(const char *name) {
    for (int i = 0; i < LA_CURVATURES_FITTED; i++)
        if (!strcmp(name, la_curvature_names[i]))
            return kinds[i];
    return NULL;
}

la_status la_structure_list(const la_structure_kind *kind, const la_blocks *blocks,
                            la_posterior *posterior, la_error *err) {
    la_pool *pool = &posterior->pool;
    size_t whole = kind->fields->size, each = kind->block_fields->size;
    posterior->structure = whole ? la_pool_take(pool, 1, whole, err) : NULL;
    posterior->blocks = la_pool_take(pool, (size_t)blocks->n, sizeof *posterior->blocks, err);
    LA_TRY(err->status);
    posterior->n_blocks = blocks->n;
    for (int64_t b = 0; b < blocks->n; b++) {
        const la_block *block = &blocks->list[b];
        posterior->blocks[b] =
            (la_posterior_block){.name = la_pool_text(pool, block->name, strlen(block->name), err),
                                 .out = block->out,
                                 .in = block->in,
                                 .denominator = 1,
                                 .structure = each ? la_pool_take(pool, 1, each, err) : NULL,
                                 .theta_square = block->theta_square};
    }
    return err->status;
}

/* The sums of a fit; NULL and LA_UNSUPPORTED where it keeps more. */
static la_sums *sums_of(const la_structure_kind *kind, la_structure_fit *fit, la_error *err) {
    la_sums *sums = kind->fit->sums ? kind->fit->sums(fit) : NULL;
    if (sums)
        return sums;
    (void)la_fail(
        err, LA_UNSUPPORTED,
        "--curvature %s: keeps rows, not sums, which cannot be saved or added up; expected "
        "kron, ekfac or diag",
        la_structure_name(kind));
    return NULL;
}

la_status la_structure_merge(const la_structure_kind *kind, la_structure_fit *const *fits, int n,
                             la_error *err) {
    la_sums *sums[LA_DEVICES_MAX];
    for (int i = 0; i < n; i++) {
        sums[i] = sums_of(kind, fits[i], err);
        LA_TRY(err->status);
    }
    return la_sums_merge(sums, n, err);
}

la_status la_structure_visit(const la_structure_kind *kind, la_structure_fit *fit, bool takes_back,
                             const la_array_visitor *visitor, la_error *err) {
    la_sums *sums = kind->fit->sums ? kind->fit->sums(fit) : NULL;
    if (!sums && kind->fit->rows && kind->fit->rows(fit, takes_back, visitor, err) == LA_OK)
        return LA_OK;
    LA_TRY(err->status);
    sums = sums_of(kind, fit, err);
    return sums ? la_sums_visit(sums, takes_back, visitor, err) : err->status;
}

la_status la_structure_visit_kept(const la_structure_kind *kind, la_structure_fit *fit,
                                  bool takes_back, const la_array_visitor *visitor, la_error *err) {
    bool is_there = false;
    if (!kind->fit->kept)
        return la_structure_visit(kind, fit, takes_back, visitor, err);
    LA_TRY(kind->fit->kept(fit, takes_back, visitor, &is_there, err));
    if (is_there)
        return LA_OK;
    return la_fail(err, LA_UNSUPPORTED,
                   "--curvature %s: its passes over so many rows of so many parameters run rows "
                   "more than once and cannot be gone on with; expected kron, ekfac or diag, or "
                   "memory for all rows",
                   la_structure_name(kind));
}

la_status la_structure_restores(const la_structure_kind *kind, la_error *err) {
    if (kind->fit->restore || kind->join)
        return LA_OK;
    return la_fail(err, LA_UNSUPPORTED,
                   "--curvature %s: its eigenvalues were measured row by row in directions that "
                   "other rows turn, so that rows can be neither added nor taken out; fit again "
                   "over all rows, or fit with --curvature kron",
                   la_structure_name(kind));
}

la_status la_structure_next(const la_structure_kind *kind, la_structure_fit *const *fits, int n,
                            const la_blocks *blocks, la_posterior *posterior, la_fit_pass *pass,
                            la_error *err) {
    bool begins = !posterior->blocks;
    if (begins)
        LA_TRY(la_structure_list(kind, blocks, posterior, err));
    LA_TRY(kind->fit->next(fits[0], posterior, pass, err));
    for (int i = 1; i < n && pass->more && !begins && kind->fit->follow; i++)
        LA_TRY(kind->fit->follow(fits[i], posterior, err));
    return LA_OK;
}

la_status la_structure_adopt(const la_structure_kind *kind, la_structure_fit *const *fits, int n,
                             const la_blocks *blocks, const la_posterior *from,
                             la_posterior *posterior, la_fit_pass *pass, la_error *err) {
    LA_TRY(la_structure_list(kind, blocks, posterior, err));
    for (int64_t b = 0; b < blocks->n; b++) {
        const la_block *block = &blocks->list[b];
        const la_posterior_block *other = b < from->n_blocks ? &from->blocks[b] : NULL;
        if (from->n_blocks != blocks->n || from->n_inputs != blocks->n_inputs ||
            strcmp(block->name, other->name) || block->out != other->out ||
            block->in != other->in || block->input != other->input)
            return la_fail(err, LA_MISMATCH,
                           "--basis: its blocks are not those of this adapter, the first that "
                           "differs is %s",
                           block->name);
    }
    LA_TRY(kind->fit->adopt(fits[0], from, posterior, pass, err));
    for (int i = 1; i < n && kind->fit->follow; i++)
        LA_TRY(kind->fit->follow(fits[i], posterior, err));
    return LA_OK;
}

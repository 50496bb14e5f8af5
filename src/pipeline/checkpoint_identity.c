#include "pipeline/checkpoint_identity.h"
#include "base/digest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t text_hash(const char *text) {
    return text ? la_hash64(text, strlen(text)) : 0;
}

static uint64_t labels_hash(const la_labels *labels) {
    uint64_t hash = 0;
    for (int64_t i = 0; labels->names && i < labels->count; i++)
        hash = hash * 31 + text_hash(labels->names[i]);
    return hash;
}

static const char *given(bool is) {
    return is ? "given" : "not given";
}

static void number(FILE *to, const char *name, int64_t value) {
    fprintf(to, "%s\t%" PRId64 "\n", name, value);
}

static void digest(FILE *to, const char *name, uint64_t value) {
    fprintf(to, "%s\t%016" PRIx64 "\n", name, value);
}

/* What the sums are of. */
static void write_sums(FILE *to, const la_fit_state *fit) {
    const la_session *session = fit->session;
    const la_worker *first = &session->workers[0];
    const la_provenance *from = &fit->structures[0].posterior.provenance;
    size_t n_ids = (size_t)first->model.n_classes * sizeof *from->choice_ids;
    fprintf(to, "version of laplora\t%s\n", LAPLORA_VERSION);
    fprintf(to, "--base\t%s\n", from->base_digest);
    fprintf(to, "--base-quant\t%d\n", (int)from->base_quant);
    fprintf(to, "--adapter\t%s\n", from->adapter_digest);
    fprintf(to, "--adapter-name\t%s\n", from->adapter_name ? from->adapter_name : "none");
    fprintf(to, "tokenizer\t%s\n", from->tokenizer_digest);
    fprintf(to, "--data\t%s\n", from->data_digest);
    number(to, "rows of --data", fit->rows->set->n);
    number(to, "--max-length", from->max_length);
    digest(to, "--choices", from->choice_ids ? la_hash64(from->choice_ids, n_ids) : 0);
    digest(to, "--template", text_hash(from->template_text));
    digest(to, "--labels", labels_hash(&from->labels));
    number(to, "classes", first->model.n_classes);
    for (int i = 0; i < fit->n; i++) {
        const la_structure *s = &fit->structures[i];
        fprintf(to, "--curvature\t%s\n", la_structure_name(s->kind));
        fprintf(to, "--kron\t%s\n", s->kind->has_inputs ? la_kron_names[s->kron] : "none");
        fprintf(to, "--params\t%s\n", la_params_names[s->params]);
        number(to, "--rank", s->rank);
    }
    fprintf(to, "--device\t%s\n", first->backend.ops->name);
    number(to, "devices", session->n_workers);
    fprintf(to, "--precision\t%s\n", la_precision_name(first->backend.precision));
    number(to, "--batch-tokens", session->batch_tokens);
    number(to, "rows of a batch", session->batch_rows);
}

/* What is made of them. */
static void write_choice(FILE *to, const la_fit_options *options) {
    fprintf(to, "--prior\t%s %.17g%s\n", la_prior_names[options->prior], options->prior_value,
            options->prior_given ? ", exactly" : "");
    fprintf(to, "--noise\t%.17g\n", options->noise);
    number(to, "--select", options->select);
    fprintf(to, "--val\t%s\n", given(options->val != NULL));
    fprintf(to, "--heldout\t%s\n", given(options->heldout));
    fprintf(to, "--adue\t%s\n", given(options->adue));
    fprintf(to, "--ood\t%s\n", given(options->ood));
}

char *la_fit_identity(const la_fit_options *options, const la_fit_state *fit, bool part,
                      la_error *err) {
    char *text = NULL;
    size_t length;
    FILE *to = open_memstream(&text, &length);
    if (to) {
        write_sums(to, fit);
        write_choice(to, options);
        if (part)
            fprintf(to, "rows seen\t%" PRId64 " from %" PRId64 ", every %" PRId64 "\n",
                    fit->rows->n, fit->rows->first, fit->rows->step);
    }
    bool failed = !to || ferror(to);
    if (to && fclose(to))
        failed = true;
    if (!failed)
        return text;
    free(text);
    (void)la_fail(err, LA_RESOURCE, "out of memory for a checkpoint");
    return NULL;
}

/* Length of the line that begins there. */
static size_t line_length(const char *at, size_t left) {
    const char *end = left ? memchr(at, '\n', left) : NULL;
    return end ? (size_t)(end - at) : left;
}

la_status la_fit_identity_check(const char *what, const char *found, size_t length, const char *own,
                                const char *next, la_error *err) {
    while (*own) {
        size_t n = line_length(own, strlen(own)), m = line_length(found, length);
        const char *tab = memchr(own, '\t', n), *theirs = m ? memchr(found, '\t', m) : NULL;
        size_t name = tab ? (size_t)(tab - own) : n, other = theirs ? (size_t)(theirs - found) : m;
        if (name != other || memcmp(own, found, name))
            return la_fail(err, LA_MISMATCH, "%s: %.*s: is not among what it says of its fit; %s",
                           what, (int)name, own, next);
        if (n != m || memcmp(own, found, n))
            return la_fail(err, LA_MISMATCH,
                           "%s: is of another fit: %.*s is %.*s there, %.*s here; %s", what,
                           (int)name, own, (int)(m - name - 1), found + name + 1,
                           (int)(n - name - 1), own + name + 1, next);
        own += n + 1;
        found += m < length ? m + 1 : m;
        length -= m < length ? m + 1 : m;
    }
    return LA_OK;
}

#include "cli/file_facts.h"
#include "output/figures.h"
#include "output/posterior_fields.h"
#include "output/posterior_file.h"

#include <stdio.h>

enum { ELEMENTS_MOST = 64 }; /* longest list that is shown, not just its shape */

typedef struct facts {
    bool all;                        /* details too */
    json_t *groups[LA_FIELDS_DEPTH]; /* from the root to the group that is filled */
    int depth;
} facts;

static bool is_left_out(void *state, const la_field *f) {
    return f->detail && !((const facts *)state)->all;
}

static la_status add_value(void *state, const la_field *f, const char *name, const void *at) {
    facts *s = state;
    json_t *out = s->groups[s->depth];
    switch (f->kind) {
    case LA_FIELD_INT:
        json_object_set_new(out, name, json_integer(*(const int64_t *)at));
        break;
    case LA_FIELD_FLAG:
        json_object_set_new(out, name, json_integer(*(const int *)at));
        break;
    case LA_FIELD_NUMBER:
    case LA_FIELD_POSITIVE:
        json_object_set_new(out, name, json_real(*(const double *)at));
        break;
    case LA_FIELD_NAME:
        json_object_set_new(out, name, json_string(f->names[*(const int *)at]));
        break;
    case LA_FIELD_DIGEST:
        json_object_set_new(out, name, json_string(at));
        break;
    default:
        la_facts_text(out, name, *(const char *const *)at);
    }
    return LA_OK;
}

/* Elements of a short list, else the shape: "[64, 384]". */
static la_status add_array(void *state, const la_field *f, const void *data, const int64_t *shape) {
    const facts *s = state;
    json_t *value;
    if (f->cols.name) {
        value = json_sprintf("[%lld, %lld]", (long long)shape[0], (long long)shape[1]);
    } else if (shape[0] > ELEMENTS_MOST) {
        value = json_sprintf("[%lld]", (long long)shape[0]);
    } else {
        value = json_array();
        for (int64_t i = 0; i < shape[0]; i++)
            json_array_append_new(
                value, f->kind == LA_FIELD_I32   ? json_integer(((const int32_t *)data)[i])
                       : f->kind == LA_FIELD_F32 ? json_real((double)((const float *)data)[i])
                                                 : json_real(((const double *)data)[i]));
    }
    json_object_set_new(s->groups[s->depth], f->name, value);
    return LA_OK;
}

static la_status open_group(void *state, const la_field *f, const char *name) {
    facts *s = state;
    json_t *group = json_object();
    (void)f;
    json_object_set_new(s->groups[s->depth], name, group);
    s->groups[++s->depth] = group;
    return LA_OK;
}

static void close_group(void *state) {
    ((facts *)state)->depth--;
}

static json_t *fields_of(const la_posterior *p, bool all) {
    facts s = {.all = all, .groups = {json_object()}};
    const la_fields_visitor visitor = {.posterior = p,
                                       .state = &s,
                                       .value = add_value,
                                       .array = add_array,
                                       .open = open_group,
                                       .close = close_group,
                                       .skips = is_left_out};
    if (p->likelihood->task)
        json_object_set_new(s.groups[0], "task", json_string(p->likelihood->task));
    (void)la_fields_visit(&visitor, &la_posterior_fields, p);
    return s.groups[0];
}

/* The default lines in their order; fields that it does not name follow. */
static const char *const order[] = {"curvature",
                                    "kron",
                                    "params",
                                    "prior",
                                    "prior_precision",
                                    "rank",
                                    "n_blocks",
                                    "n_parameters",
                                    "n_rows",
                                    "n_tokens",
                                    "n_classes",
                                    "task",
                                    "noise_variance",
                                    "log_likelihood",
                                    "log_marginal_likelihood",
                                    "choice",
                                    "adue",
                                    "ood",
                                    "base",
                                    "base_quant",
                                    "base_digest",
                                    "adapter",
                                    "adapter_name",
                                    "adapter_digest",
                                    "tokenizer_digest",
                                    "data_digest",
                                    "max_length"};

static void move(json_t *from, const char *key, json_t *to, const char *name) {
    json_t *value = json_object_get(from, key);
    if (value)
        json_object_set(to, name, value);
    json_object_del(from, key);
}

/* Figures in place of a group; fields of it that they do not have are kept. */
static void put_figures(json_t *fields, const char *group, json_t *figures) {
    json_object_update_missing(figures, json_object_get(fields, group));
    json_object_set_new(fields, group, figures);
}

static void add_choice(const la_posterior *p, json_t *fields) {
    const la_labels *labels = &p->provenance.labels;
    char text[LA_CORRECTED_TEXT];
    json_t *choice = la_choice_json(&p->choice, p->n_classes);
    if (la_choice_corrected(&p->choice, p->n_classes, (const char *const *)labels->names, text))
        json_object_set_new(choice, "corrected", json_string(text));
    put_figures(fields, "choice", choice);
}

static void add_lines(const la_posterior *p, json_t *out) {
    json_t *fields = fields_of(p, false);
    json_object_set_new(fields, "n_parameters", json_integer(la_posterior_width(p)));
    json_object_set_new(fields, "base_quant",
                        json_string(la_base_quant_names[p->provenance.base_quant]));
    if (!la_prior_is_one(p->prior))
        json_object_del(fields, "prior_precision");
    if (!p->rank_asked)
        json_object_del(fields, "rank");
    if (p->choice.guarded)
        add_choice(p, fields);
    if (p->adue.weight) {
        la_adue_summary adue = la_adue_summarise(&p->adue);
        put_figures(fields, "adue", la_adue_json(&adue));
    }
    move(fields, "base_path", fields, "base");
    move(fields, "adapter_path", fields, "adapter");
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        move(fields, order[i], out, order[i]);
    json_object_update(out, fields);
    json_decref(fields);
}

la_status la_posterior_facts(const char *path, bool all, json_t *out, la_error *err) {
    la_posterior p;
    LA_TRY(la_posterior_load(path, &p, err));
    json_object_set_new(out, "kind", json_string("posterior"));
    if (all) {
        json_t *fields = fields_of(&p, true);
        json_object_update(out, fields);
        json_decref(fields);
    } else {
        add_lines(&p, out);
    }
    la_posterior_free(&p);
    return LA_OK;
}

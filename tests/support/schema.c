#include "support/schema.h"
#include "output/posterior_fields.h"

#include <limits.h>
#include <string.h>

typedef struct entry {
    const la_field *field;
    const la_field_list *list;
    const char *path;       /* group, with a slash behind it */
    const char *structures; /* those with the field, "kron, ekfac"; "": all */
    bool optional;          /* it, or a group that it is in */
} entry;

typedef struct walk {
    void (*take)(struct walk *walk, const entry *e);
    FILE *stream;
    schema_path *path;
    void *state;
} walk;

static void walk_list(walk *w, const la_field_list *list, const entry *group);

static const la_field *field_of(const la_field_list *list, const char *name) {
    for (int i = 0; i < list->n; i++)
        if (!strcmp(list->fields[i].name, name))
            return &list->fields[i];
    return NULL;
}

/* Every field of every structure once. */
static void walk_part(walk *w, const la_field *part, const entry *group) {
    for (int c = 0; c < LA_CURVATURES; c++) {
        const la_field_list *list = part->part(&(la_posterior){.curvature = (la_curvature)c});
        for (int i = 0; i < list->n; i++) {
            char structures[128] = "";
            bool known = false;
            for (int k = 0; k < LA_CURVATURES; k++) {
                const la_field_list *other =
                    part->part(&(la_posterior){.curvature = (la_curvature)k});
                if (!field_of(other, list->fields[i].name))
                    continue;
                known |= k < c;
                snprintf(structures + strlen(structures), sizeof structures - strlen(structures),
                         "%s%s", *structures ? ", " : "", la_curvature_names[k]);
            }
            entry of = *group;
            of.structures = structures;
            la_field_list one = *list;
            one.fields = &list->fields[i];
            one.n = 1;
            if (!known)
                walk_list(w, &one, &of);
        }
    }
}

static void walk_list(walk *w, const la_field_list *list, const entry *group) {
    for (int i = 0; i < list->n; i++) {
        const la_field *f = &list->fields[i];
        char path[128];
        const char *name = f->names ? "METHOD" : "00000";
        entry e = {f, list, path, group->structures, group->optional || f->optional};
        snprintf(path, sizeof path, "%s", group->path);
        if (f->kind == LA_FIELD_PART) {
            walk_part(w, f, group);
        } else if (f->list) {
            snprintf(path, sizeof path, "%s%s/", group->path, f->name ? f->name : name);
            e.optional |= f->list->is_set != NULL;
            walk_list(w, f->list, &e);
        } else {
            w->take(w, &e);
        }
    }
}

static void walk_all(walk *w) {
    const entry root = {.path = "/", .structures = ""};
    walk_list(w, &la_head_fields, &root);
    walk_list(w, &la_posterior_fields, &root);
    walk_list(w, &la_end_fields, &root);
}

/* ---- the table ---- */

static void print_values(FILE *stream, const la_field *f) {
    static const char *const types[] = {
        [LA_FIELD_FLAG] = "0 or 1",   [LA_FIELD_POSITIVE] = "number above 0",
        [LA_FIELD_WORD] = "text",     [LA_FIELD_TEXT] = "text",
        [LA_FIELD_TEXTS] = "text",    [LA_FIELD_PATH] = "bytes of a path",
        [LA_FIELD_DIGEST] = "digest", [LA_FIELD_I32] = "i32",
        [LA_FIELD_F32] = "f32",       [LA_FIELD_F64] = "f64"};
    switch (f->kind) {
    case LA_FIELD_INT:
        if (f->min == f->max)
            fprintf(stream, "%.0f", f->min);
        else if (f->max > (double)INT_MAX)
            fprintf(stream, "integer from %.0f", f->min);
        else
            fprintf(stream, "integer, %.0f to %.0f", f->min, f->max);
        return;
    case LA_FIELD_NUMBER:
        if (f->max <= 1)
            fprintf(stream, "number, %g to %g", f->min, f->max);
        else
            fprintf(stream, "number");
        return;
    case LA_FIELD_NAME:
        for (int i = 0; i < (int)f->max; i++)
            fprintf(stream, "%s%s", i ? ", " : "", f->names[i]);
        return;
    case LA_FIELD_I32:
    case LA_FIELD_F32:
    case LA_FIELD_F64:
        fprintf(stream, f->cols.name ? "%s [%s, %s]" : "%s [%s]", types[f->kind], f->rows.name,
                f->cols.name);
        return;
    default:
        fprintf(stream, "%s", types[f->kind]);
    }
}

static void print_row(walk *w, const entry *e) {
    const la_field *f = e->field;
    int since = f->since > e->list->since ? f->since : e->list->since;
    fprintf(w->stream, "| `%s%s%s` | ", e->path, f->name, f->kind == LA_FIELD_TEXTS ? "_0" : "");
    print_values(w->stream, f);
    fprintf(w->stream, " | %s%s", e->optional ? "optional" : "",
            e->optional && *e->structures ? ", " : "");
    fprintf(w->stream, "%s | ", e->structures);
    if (since)
        fprintf(w->stream, "1.%d", since);
    fprintf(w->stream, " | %s |\n", f->meaning);
}

void schema_table(FILE *stream) {
    walk w = {.take = print_row, .stream = stream};
    fprintf(stream, "| field | holds | where | since | |\n|---|---|---|---|---|\n");
    walk_all(&w);
}

/* ---- names ---- */

static void print_quoted(FILE *stream, const char *text) {
    fprintf(stream, "\"%s\\x00\"\n", text);
}

static void print_names(walk *w, const entry *e) {
    char path[128], *rest = NULL;
    snprintf(path, sizeof path, "%s", e->path);
    for (char *name = strtok_r(path, "/", &rest); name; name = strtok_r(NULL, "/", &rest))
        print_quoted(w->stream, name);
    if (e->field->kind == LA_FIELD_TEXTS)
        fprintf(w->stream, "\"%s_0\\x00\"\n\"%s_1\\x00\"\n", e->field->name, e->field->name);
    else
        print_quoted(w->stream, e->field->name);
    for (int i = 0; e->field->kind == LA_FIELD_NAME && i < (int)e->field->max; i++)
        print_quoted(w->stream, e->field->names[i]);
}

void schema_dictionary(FILE *stream) {
    walk w = {.take = print_names, .stream = stream};
    walk_all(&w);
}

static void take_path(walk *w, const entry *e) {
    char path[256];
    snprintf(path, sizeof path, "%s%s", e->path, e->field->name);
    w->path(w->state, path);
}

void schema_paths(schema_path *take, void *state) {
    walk w = {.take = take_path, .path = take, .state = state};
    walk_all(&w);
}

/* Posterior files: the reader gives what the HDF5 library gives, and what went into the file. */
#include "bayes/factored.h"
#include "output/hdf5_subset.h"
#include "output/posterior_fields.h"
#include "output/posterior_file.h"
#include "support/schema.h"
#include "support/support.h"
#include "support/tiny_posterior.h"

#include <hdf5.h>
#include <math.h>
#include <string.h>

enum { SEAL = 512 };

static void save(int kind, const char *path) {
    la_error err = {0};
    la_posterior p = tiny_posterior(kind);
    if (la_posterior_save(&p, path, &err) != LA_OK)
        fail_msg("%s", err.message);
    la_posterior_free(&p);
}

/* ---- object by object ---- */

typedef struct walk {
    la_h5_file file;
    la_h5_object root;
    int groups, arrays, attributes;
} walk;

/* Our object under a path of the library's. */
static la_h5_object find(walk *w, const char *path) {
    la_h5_object object = w->root;
    char copy[256], *rest = NULL;
    w->file.budget = w->file.size; /* groups on the way are read again for each object */
    snprintf(copy, sizeof copy, "%s", path);
    for (char *name = strtok_r(copy, "/", &rest); name; name = strtok_r(NULL, "/", &rest)) {
        const la_h5_link *link = la_h5_link_of(&object, name);
        if (!link)
            fail_msg("%s: not found", path);
        if (la_h5_open(&w->file, link->address, &object) != LA_OK)
            fail_msg("%s: %s", path, w->file.err->message);
    }
    return object;
}

static herr_t check_attribute(hid_t location, const char *name, const H5A_info_t *info,
                              void *data) {
    (void)info;
    walk *w = ((void **)data)[0];
    const la_h5_object *object = ((void **)data)[1];
    const la_h5_attribute *a = la_h5_attribute_of(object, name);
    hid_t attribute = H5Aopen(location, name, H5P_DEFAULT), type = H5Aget_type(attribute);
    size_t size = H5Tget_size(type);
    unsigned char *want = malloc(size);
    assert_non_null(want);
    assert_true(H5Aread(attribute, type, want) >= 0);
    if (!a || a->size != size || memcmp(a->value, want, size))
        fail_msg("attribute %s differs", name);
    static const la_h5_type types[] = {
        [H5T_INTEGER] = LA_H5_INT, [H5T_FLOAT] = LA_H5_FLOAT, [H5T_STRING] = LA_H5_TEXT};
    assert_int_equal(a->type, types[H5Tget_class(type)]);
    int64_t whole;
    double number;
    assert_int_equal(la_h5_int(a, &whole), a->type == LA_H5_INT);
    assert_int_equal(la_h5_number(a, &number), a->type == LA_H5_FLOAT);
    if (a->type == LA_H5_INT)
        assert_true(whole == *(int64_t *)(void *)want);
    if (a->type == LA_H5_FLOAT)
        assert_memory_equal(&number, want, sizeof number);
    free(want);
    H5Tclose(type);
    H5Aclose(attribute);
    w->attributes++;
    return 0;
}

static void check_array(hid_t set, const la_h5_object *array, const char *path) {
    hid_t space = H5Dget_space(set), type = H5Dget_type(set);
    hsize_t shape[2] = {1, 1};
    int rank = H5Sget_simple_extent_dims(space, shape, NULL);
    size_t bytes = (size_t)shape[0] * (size_t)shape[1] * H5Tget_size(type);
    bool finite;
    if (array->rank != rank || array->shape[0] != (int64_t)shape[0] ||
        array->shape[1] != (int64_t)shape[1] || array->size != H5Tget_size(type))
        fail_msg("%s: another shape", path);
    char *want = malloc(bytes), *got = malloc(bytes);
    assert_true(want && got);
    assert_true(H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, want) >= 0);
    if (la_h5_read(array, got, &finite) != LA_OK || !finite)
        fail_msg("%s: %s", path, array->file->err->message);
    if (memcmp(want, got, bytes))
        fail_msg("%s: other elements", path);
    free(want);
    free(got);
    H5Tclose(type);
    H5Sclose(space);
}

static herr_t check_object(hid_t root, const char *path, const H5O_info_t *info, void *data) {
    walk *w = data;
    la_h5_object object = strcmp(path, ".") ? find(w, path) : w->root;
    hid_t id = H5Oopen(root, path, H5P_DEFAULT);
    void *both[] = {w, &object};
    hsize_t at = 0;
    assert_int_equal(object.n_attributes, info->num_attrs);
    assert_true(H5Aiterate2(id, H5_INDEX_NAME, H5_ITER_NATIVE, &at, check_attribute, both) >= 0);
    if (info->type == H5O_TYPE_DATASET) {
        check_array(id, &object, path);
        w->arrays++;
    } else {
        H5G_info_t group;
        assert_true(H5Gget_info(id, &group) >= 0);
        assert_int_equal(object.n_links, group.nlinks);
        w->groups++;
    }
    H5Oclose(id);
    return 0;
}

static walk check_file(const char *path) {
    la_error err = {0};
    size_t length;
    walk w = {0};
    char *data = read_file(path, &length);
    la_h5_begin(&w.file, path, -1, data, length, SEAL, &err);
    if (la_h5_root(&w.file, &w.root) != LA_OK)
        fail_msg("%s", err.message);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0);
    assert_true(H5Ovisit2(file, H5_INDEX_NAME, H5_ITER_INC, check_object, &w, H5O_INFO_ALL) >= 0);
    H5Fclose(file);
    la_h5_end(&w.file);
    free(data);
    return w;
}

static void as_the_library(void **state) {
    (void)state;
    walk all = {0};
    for (int kind = 0; kind < TINY_KINDS; kind++) {
        const char *path = scratch("kind.h5");
        save(kind, path);
        walk one = check_file(path);
        all.groups += one.groups;
        all.arrays += one.arrays;
        all.attributes += one.attributes;
    }
    print_message("    %d groups, %d arrays, %d attributes\n", all.groups, all.arrays,
                  all.attributes);
    assert_true(all.groups > 60 && all.arrays > 50 && all.attributes > 500);
}

/* An array of many chunks, the last one cut, and one of a single row longer than a chunk. */
static void large_arrays(void **state) {
    (void)state;
    static const int64_t shapes[][2] = {{1000, 700}, {3, 300000}, {512, 512}, {513, 512}};
    for (int i = 0; i < 4; i++) {
        la_posterior p = tiny_posterior(TINY_DIAG);
        la_error err = {0};
        int64_t small = shapes[i][0], big = shapes[i][1];
        p.blocks[0].out = small;
        p.blocks[0].in = big;
        la_factored_block *own = la_factored_of(&p, 0);
        *own = (la_factored_block){.rows = small < big ? small : big,
                                   .cols = small < big ? big : small};
        own->spectrum = la_pool_take(&p.pool, (size_t)(small * big), sizeof(float), &err);
        assert_non_null(own->spectrum);
        uint32_t seed = 1;
        for (int64_t k = 0; k < small * big; k++) {
            seed = seed * 1664525u + 1013904223u;
            own->spectrum[k] = (float)(seed >> 8);
        }
        const char *path = scratch("large.h5");
        assert_int_equal(la_posterior_save(&p, path, &err), LA_OK);
        check_file(path);
        la_posterior q;
        if (la_posterior_load(path, &q, &err) != LA_OK)
            fail_msg("%s", err.message);
        assert_memory_equal(la_factored_of(&q, 0)->spectrum, own->spectrum,
                            (size_t)(small * big) * sizeof(float));
        la_posterior_free(&p);
        la_posterior_free(&q);
    }
}

/* ---- the list of fields ---- */

typedef struct seen {
    char text[1 << 16], path[256];
} seen;

static void note(seen *s, const char *name) {
    size_t used = strlen(s->text);
    snprintf(s->text + used, sizeof s->text - used, "%s%s\n", s->path, name);
}

static la_status see_value(void *state, const la_field *f, const char *name, const void *at) {
    (void)name;
    (void)at;
    note(state, f->name);
    return LA_OK;
}
static la_status see_array(void *state, const la_field *f, const void *data, const int64_t *shape) {
    assert_true(data && shape[0] > 0 && shape[1] > 0);
    note(state, f->name);
    return LA_OK;
}
static la_status see_group(void *state, const la_field *f, const char *name) {
    seen *s = state;
    size_t used = strlen(s->path);
    snprintf(s->path + used, sizeof s->path - used, "%s/",
             f->kind != LA_FIELD_GROUPS ? name
             : f->names                 ? "METHOD"
                                        : "00000");
    return LA_OK;
}
static void leave_group(void *state) {
    char *path = ((seen *)state)->path;
    path[strlen(path) - 1] = 0;
    strrchr(path, '/')[1] = 0;
}

/* The file's own attributes, which no posterior has. */
static bool is_of_head(const char *path) {
    for (int i = 0; i < la_head_fields.n; i++)
        if (!strcmp(path + 1, la_head_fields.fields[i].name))
            return true;
    return !strcmp(path, "/complete");
}

static void expect_seen(void *state, const char *path) {
    char line[256];
    snprintf(line, sizeof line, "\n%s\n", path);
    if (!is_of_head(path) && !strstr(((seen *)state)->text, line))
        fail_msg("no small posterior has %s: add it to tests/support/tiny_posterior.c", path);
}

/* Every field of the list is in some small posterior: these are what tests and fuzzing start
 * from. */
static void small_ones_have_all(void **state) {
    static seen s = {.text = "\n", .path = "/"};
    (void)state;
    for (int kind = 0; kind < TINY_KINDS; kind++) {
        la_posterior p = tiny_posterior(kind);
        const la_fields_visitor visitor = {.posterior = &p,
                                           .state = &s,
                                           .value = see_value,
                                           .array = see_array,
                                           .open = see_group,
                                           .close = leave_group};
        if (kind != TINY_MANY)
            assert_int_equal(la_fields_visit(&visitor, &la_posterior_fields, &p), LA_OK);
        la_posterior_free(&p);
    }
    assert_true(strlen(s.text) + 1024 < sizeof s.text);
    schema_paths(expect_seen, &s);
}

static void expect_shown(void *state, const char *path) {
    char key[256];
    snprintf(key, sizeof key, "\"%s%s\":", strrchr(path, '/') + 1,
             strstr(path, "/labels/") ? "_0" : "");
    if (!is_of_head(path) && !strstr(state, key))
        fail_msg("info --all does not show %s", path);
}

static void shown_by_info(void **state) {
    static char all[1 << 20];
    (void)state;
    for (int kind = 0; kind < TINY_KINDS; kind++) {
        const char *path = scratch("shown.h5");
        save(kind, path);
        command done =
            run_command((const char *const[]){NULL, "info", "--all", "--json", path, NULL}, NULL);
        assert_int_equal(done.code, 0);
        size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s", done.out);
        command_free(&done);
    }
    assert_true(strlen(all) + 1024 < sizeof all);
    schema_paths(expect_shown, all);
}

static void documented(void **state) {
    char *table = NULL;
    size_t length;
    (void)state;
    FILE *stream = open_memstream(&table, &length);
    schema_table(stream);
    fclose(stream);
    command done = run_command((const char *const[]){"tests/generate/put_table", "fields",
                                                     "src/output/POSTERIOR.md", "--check", NULL},
                               table);
    if (done.code)
        fail_msg("%s", done.err);
    command_free(&done);
    free(table);
}

/* ---- files of before ---- */

/* Made by the programs of then from fixture bert: --curvature last-layer --val. They carry
 * times. */
static void older_files(void **state) {
    (void)state;
    static const struct {
        const char *name;
        la_method method;
        bool scalar; /* a method that came later */
    } files[] = {{"posterior/schema-1.1.h5", LA_METHOD_TEMPERATURE, false},
                 {"posterior/schema-1.3.h5", LA_METHOD_LAPLACE, true}};
    for (int i = 0; i < 2; i++) {
        la_posterior p;
        la_error err = {0};
        const char *path = fixture(files[i].name);
        walk w = check_file(path);
        assert_true(w.arrays == 2 && w.attributes > 50);
        if (la_posterior_load(path, &p, &err) != LA_OK)
            fail_msg("%s", err.message);
        assert_int_equal(p.curvature, LA_CURVATURE_LAST_LAYER);
        assert_int_equal(p.choice.method, files[i].method);
        assert_int_equal(isfinite(p.choice.candidates[LA_METHOD_SCALAR].nll), files[i].scalar);
        assert_true(!p.choice.n_settings && !p.provenance.adapter_name &&
                    !p.provenance.base_quant && !p.noise_variance);
        la_posterior_free(&p);
        const char *argv[] = {NULL,          "predict",
                              "--posterior", path,
                              "--base",      fixture("parity/bert/base"),
                              "--adapter",   fixture("parity/bert/adapter"),
                              "--data",      fixture("parity/bert/test.jsonl"),
                              "--quiet",     NULL};
        command done = run_command(argv, NULL);
        if (done.code)
            fail_msg("%s", done.err);
        command_free(&done);
    }
}

/* ---- the same bytes ---- */

/* A posterior that is read and written anew gives the same file, also a while later. */
static void written_again(void **state) {
    (void)state;
    for (int kind = 0; kind < TINY_KINDS; kind++) {
        const char *path = scratch("first.h5"), *again = scratch("again.h5");
        la_error err = {0};
        la_posterior p;
        size_t n_first, n_again;
        save(kind, path);
        if (la_posterior_load(path, &p, &err) != LA_OK)
            fail_msg("%s: %s", tiny_names[kind], err.message);
        assert_int_equal(la_posterior_save(&p, again, &err), LA_OK);
        la_posterior_free(&p);
        char *first = read_file(path, &n_first), *second = read_file(again, &n_again);
        if (n_first != n_again || memcmp(first, second, n_first))
            fail_msg("%s: other bytes", tiny_names[kind]);
        free(first);
        free(second);
    }
}

static void no_times(void **state) {
    (void)state;
    const char *path = scratch("times.h5");
    save(TINY_GUARDED, path);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    static const char *const arrays[] = {"choice_ids", "adue/weight", "inputs/00000/eigenvalues"};
    for (int i = 0; i < 3; i++) {
        H5O_info_t info;
        assert_true(H5Oget_info_by_name2(file, arrays[i], &info, H5O_INFO_TIME, H5P_DEFAULT) >= 0);
        assert_true(!info.mtime && !info.ctime && !info.btime && !info.atime);
    }
    H5Fclose(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_the_library), cmocka_unit_test(small_ones_have_all),
        cmocka_unit_test(shown_by_info),  cmocka_unit_test(documented),
        cmocka_unit_test(large_arrays),   cmocka_unit_test(older_files),
        cmocka_unit_test(written_again),  cmocka_unit_test(no_times),
    };
    return cmocka_run_group_tests_name("posterior files", tests, NULL, NULL);
}

/* The choice of a library for f32 products: measured once and kept, followed when it is there,
 * made anew where what is kept is not valid, and not made where it cannot be kept. Another library
 * stands for oneDNN (fake_onednn.c), which is always the slower one: what is kept is changed by
 * hand to see that it is followed. Each choice is one of a process of its own. */
#include "backend/product_choice.h"
#include "backend/ops.h"
#include "support/support.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char here[PROGRAM_PATH], fake[PROGRAM_PATH];

static void show(void *user, const char *line) {
    (void)user;
    printf("note: %s\n", line);
}

/* --choose: the line for people, the choice as names, and whether bf16 is accepted */
static int choose(void) {
    const la_log log = {.warn = show};
    char text[LA_PRODUCTS_TEXT];
    la_error err = {0}, half = {0};
    la_backend opened[LA_DEVICES_MAX];
    int n;
    if (la_products_choose(&err) != LA_OK) {
        printf("%s\n", err.message);
        return (int)err.status;
    }
    la_products_describe(text);
    printf("%s\n", text);
    for (int i = 0; i < LA_SHAPES; i++)
        printf("%s ", la_products_in_use().f32[i]->name);
    la_status status =
        la_backend_open("cpu", LA_PRECISION_BF16, la_team_of(1), &log, opened, &n, &half);
    printf("\nbf16: %s\n", status == LA_OK ? "there" : half.message);
    if (status == LA_OK)
        opened[0].ops->close(&opened[0]);
    return status == LA_OK || status == LA_UNSUPPORTED ? 0 : 99;
}

static command run_choice(void) {
    const char *argv[] = {here, "--choose", NULL};
    return run_command(argv, NULL);
}

static void expect(int code, const char *first, const char *second) {
    command done = run_choice();
    if (done.code != code || !strstr(done.out, first) || !strstr(done.out, second) || *done.err)
        fail_msg("code %d, expected %d and \"%s\", \"%s\": %s%s", done.code, code, first, second,
                 done.out, done.err);
    command_free(&done);
}

/* ---- the folder ---- */

static char caches[4096]; /* of this test */

/* The one file there; the name is the caller's to free. Fails where there are others. */
static char *kept_file(void) {
    char folder[4200];
    char *found = NULL;
    snprintf(folder, sizeof folder, "%s/laplora", caches);
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.' && (!entry->d_name[1] || entry->d_name[1] == '.'))
            continue;
        if (found)
            fail_msg("%s beside %s", entry->d_name, found);
        found = malloc(strlen(folder) + strlen(entry->d_name) + 2);
        sprintf(found, "%s/%s", folder, entry->d_name);
    }
    closedir(dir);
    assert_non_null(found);
    return found;
}

static int prepare(void **state) {
    static int number;
    char name[32];
    (void)state;
    snprintf(name, sizeof name, "caches%d", number++);
    snprintf(caches, sizeof caches, "%s", scratch(name));
    setenv("XDG_CACHE_HOME", caches, 1);
    setenv("LAPLORA_ONEDNN", fake, 1);
    setenv("LAPLORA_PRODUCTS", "auto", 1);
    unsetenv("FAKE_ONEDNN");
    return 0;
}

static void kept_and_followed(void **state) {
    (void)state;
    expect(0, "measured now", "openblas openblas openblas");
    char *path = kept_file();
    expect(0, "measured before", "openblas openblas openblas");
    json_t *root = load_json(path);
    json_object_set_new(json_object_get(root, "thin"), "takes", json_string("onednn"));
    json_object_set_new(json_object_get(root, "large"), "takes", json_string("onednn"));
    /* a processor without such instructions has no rate */
    bool half = json_object_get(root, "bf16") != NULL;
    if (half)
        json_object_set_new(root, "bf16", json_real(1e-9));
    assert_int_equal(json_dump_file(root, path, 0), 0);
    json_decref(root);
    expect(0, "large oneDNN 3.7.2 (openblas ", "openblas onednn onednn");
    if (half)
        expect(0, "note: products of bf16 are ", "times as fast as those of f32 on this processor");
    expect(0, "; measured before", "openblas onednn onednn");
    /* a person's word comes before */
    setenv("LAPLORA_PRODUCTS", "openblas", 1);
    expect(0, "; as LAPLORA_PRODUCTS says", "openblas openblas openblas");
    free(path);
}

static void what_is_not_valid(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "{}",
        "\x7f\xff\xfe",
        "{\"format\": 2}",
        "{\"format\": 1, \"small\": {\"takes\": \"openblas\"}}",
    };
    expect(0, "measured now", "");
    char *path = kept_file();
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        write_file(path, texts[i], strlen(texts[i]));
        expect(0, "measured now", "openblas openblas openblas");
        expect(0, "measured before", "");
    }
    static const struct {
        const char *shape, *key, *value;
    } changes[] = {{"small", "takes", "\"mkl\""},  {"thin", "takes", "1"},
                   {"large", "openblas", "-3"},    {"large", "onednn", "\"fast\""},
                   {"thin", "openblas", "0"},      {NULL, "bf16", "-1"},
                   {NULL, "large", "\"openblas\""}};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        json_t *root = load_json(path);
        json_t *object = changes[i].shape ? json_object_get(root, changes[i].shape) : root;
        json_object_set_new(object, changes[i].key,
                            json_loads(changes[i].value, JSON_DECODE_ANY, NULL));
        assert_int_equal(json_dump_file(root, path, 0), 0);
        json_decref(root);
        expect(0, "measured now", "openblas openblas openblas");
    }
    /* a file too large to be one */
    char *large = calloc(1, 1 << 20);
    memset(large, ' ', 1 << 20);
    write_file(path, large, 1 << 20);
    free(large);
    expect(0, "measured now", "");
    free(path);
    free(kept_file()); /* nothing lies beside it */
}

/* Where nothing can be kept nothing is chosen: a second run might choose otherwise. */
static void nowhere_to_keep(void **state) {
    (void)state;
    write_file(caches, "a file", 6);
    expect(0, "no measurement could be kept in ", "openblas openblas openblas");
    setenv("XDG_CACHE_HOME", "/proc/no/such", 1);
    expect(0, "no measurement could be kept in /proc/no/such/laplora (", "openblas openblas");
    char *home = getenv("HOME") ? strdup(getenv("HOME")) : NULL;
    unsetenv("HOME");
    setenv("XDG_CACHE_HOME", "relative/path", 1);
    expect(0, "without a folder (HOME)", "openblas openblas openblas");
    unsetenv("XDG_CACHE_HOME");
    expect(0, "without a folder (HOME)", "openblas openblas openblas");
    snprintf(caches, sizeof caches, "%s", scratch("home"));
    assert_int_equal(mkdir(caches, 0700), 0);
    setenv("HOME", caches, 1);
    expect(0, "measured now", "openblas openblas openblas");
    strcat(caches, "/.cache");
    free(kept_file());
    if (home)
        setenv("HOME", home, 1);
    else
        unsetenv("HOME");
    free(home);
}

/* Processes that begin together follow the one that was first. */
static void at_once(void **state) {
    (void)state;
    enum { PROCESSES = 6 };
    FILE *all[PROCESSES];
    char line[4300], first[64] = "";
    snprintf(line, sizeof line, "%s --choose", here);
    for (int i = 0; i < PROCESSES; i++)
        assert_non_null(all[i] = popen(line, "r"));
    for (int i = 0; i < PROCESSES; i++) {
        char text[1024];
        text[fread(text, 1, sizeof text - 1, all[i])] = '\0';
        assert_int_equal(pclose(all[i]), 0);
        /* rates are those of one measurement, whoever made it */
        char *rates = strstr(text, "large ");
        assert_non_null(rates);
        if (!*first)
            snprintf(first, sizeof first, "%.*s", (int)strcspn(rates, ")"), rates);
        assert_memory_equal(rates, first, strlen(first));
    }
    free(kept_file());
}

static void what_cannot_be_had(void **state) {
    (void)state;
    setenv("LAPLORA_PRODUCTS", "mkl", 1);
    expect(LA_USAGE, "LAPLORA_PRODUCTS \"mkl\": expected auto, openblas or onednn", "");
    setenv("LAPLORA_PRODUCTS", "onednn", 1);
    expect(0, "small oneDNN 3.7.2, thin oneDNN 3.7.2, large oneDNN 3.7.2; as LAPLORA_PRODUCTS says",
           "onednn onednn onednn");
    setenv("FAKE_ONEDNN", "wrong", 1);
    expect(LA_UNSUPPORTED, "LAPLORA_PRODUCTS \"onednn\": ", "computes wrong products");
    /* unasked, it is left alone, and nothing is measured or kept */
    setenv("LAPLORA_PRODUCTS", "auto", 1);
    expect(0, "computes wrong products", "openblas openblas openblas");
    setenv("LAPLORA_ONEDNN", "/no/such/library.so", 1);
    expect(0, "; LAPLORA_ONEDNN: /no/such/library.so", "f32 here: LAPLORA_ONEDNN: /no/such");
    assert_int_equal(access(caches, F_OK), -1);
    setenv("LAPLORA_ONEDNN", fake, 1);
    setenv("LAPLORA_PRODUCTS", "openblas", 1);
    expect(0,
           "bf16: --precision bf16: the CPU computes in f32 here: openblas has no products of bf16",
           "(LAPLORA_PRODUCTS)");
}

int main(int argc, char **argv) {
    beside_this_program("", here);
    if (argc == 2 && !strcmp(argv[1], "--choose"))
        return choose();
    beside_this_program("../base/fake_onednn.so", fake);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(kept_and_followed, prepare),
        cmocka_unit_test_setup(what_is_not_valid, prepare),
        cmocka_unit_test_setup(nowhere_to_keep, prepare),
        cmocka_unit_test_setup(at_once, prepare),
        cmocka_unit_test_setup(what_cannot_be_had, prepare),
    };
    return cmocka_run_group_tests_name("product choice", tests, NULL, NULL);
}

/* The program of a layer as text, of every architecture and kind of adapter with operations of
 * its own, against committed listings (tests/fixtures/programs). LA_LISTINGS=write makes them
 * anew. */
#include "pipeline/session.h"
#include "support/parity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const cases[] = {
    "bert",           "roberta",      "xlm-roberta",
    "camembert",      "distilbert",   "electra",
    "deberta-v2",     "modernbert",   "gpt2",
    "llama",          "mistral",      "qwen2",
    "qwen3",          "smollm3",      "olmo2",
    "phi3",           "gemma",        "gemma2",
    "gemma3",         "llama-linear", "deberta-v2-separate",
    "prefix-tuning",  "houlsby-bert", "pfeiffer-bert",
    "parallel-llama", "dora",         "ia3-llama",
    "union-bert",
};
enum { N_CASES = sizeof cases / sizeof *cases, ROWS = 8, TOKENS = 256 };

typedef struct listing {
    char text[1 << 16];
    size_t length;
} listing;

static void append(void *user, const char *line) {
    listing *to = user;
    int n = snprintf(to->text + to->length, sizeof to->text - to->length, "%s\n", line);
    to->length += (size_t)n;
    assert_true(to->length < sizeof to->text);
}

static void open_case(const char *name, la_session *session) {
    parity_case s = parity_open(name);
    char adapters[128];
    int32_t choices[PARITY_CLASSES];
    const json_t *ids = json_object_get(s.expected, "choice_ids");
    parity_adapter_names(s.adapter, adapters);
    for (size_t i = 0; i < json_array_size(ids); i++)
        choices[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    la_session_options options = {
        .run = {.device = "cpu", .adapter_name = *adapters ? adapters : NULL},
        .base = s.base,
        .adapter = s.adapter,
        .params = LA_PARAMS_LORA_HEAD,
        .head_optional = true,
        .choice_ids = ids ? choices : NULL,
        .n_choices = (int64_t)json_array_size(ids),
        .all_inputs = true,
        .kind = &la_structure_kron};
    la_error err = {0};
    if (la_session_open(&options, session, &err) != LA_OK)
        fail_msg("%s: %s", name, err.message);
    parity_close(&s);
}

static void check(const char *name, const listing *got) {
    char path[256];
    snprintf(path, sizeof path, "programs/%s.txt", name);
    const char *write = getenv("LA_LISTINGS");
    if (write && !strcmp(write, "write")) {
        write_file(fixture(path), got->text, got->length);
        return;
    }
    size_t length;
    char *want = read_file(fixture(path), &length);
    if (length != got->length || memcmp(want, got->text, length))
        fail_msg("%s: the program is now\n%s", fixture(path), got->text);
    free(want);
}

static void listings_stay(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        la_session session;
        la_error err = {0};
        static listing got;
        open_case(cases[i], &session);
        la_model *model = &session.workers[0].model;
        la_run_shape shape = {
            .max_rows = ROWS, .max_tokens = TOKENS, .n_rhs = session.n_rhs, .all_inputs = true};
        got.length = 0;
        assert_int_equal(la_run_print(model, &shape, append, &got, &err), LA_OK);
        check(cases[i], &got);
        la_session_close(&session);
    }
}

/* A forward pass keeps nothing, and prunes whatever is adapted. */
static void forward_keeps_nothing(void **state) {
    (void)state;
    la_session session;
    la_error err = {0};
    static listing got;
    open_case("bert-all-linear", &session);
    la_run_shape shape = {.max_rows = ROWS, .max_tokens = TOKENS};
    got.length = 0;
    assert_int_equal(la_run_print(&session.workers[0].model, &shape, append, &got, &err), LA_OK);
    assert_null(strchr(got.text, '*'));
    assert_non_null(strstr(got.text, "[Q, "));
    la_session_close(&session);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(listings_stay),
                                       cmocka_unit_test(forward_keeps_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

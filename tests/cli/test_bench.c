/* laplora bench: its JSON is consistent in itself, counts the products that a pass makes, and is
 * what another run is held against. No time is held against a clock. */
#include "support/faults.h"

#include <math.h>
#include <string.h>

#define FIT_VAL                                                                                    \
    "fit --base @/base --adapter @/adapter --data @/calib.jsonl --val @/calib.jsonl --quiet "
#define BENCH "bench --data @/test.jsonl --repeats 3 --threads 1 --quiet "

static json_t *bench(const char *folder, const char *line) {
    command done = run_line(folder, line, NULL);
    if (done.code)
        fail_msg("%s: %s", line, done.err);
    json_error_t where;
    json_t *root = json_loads(done.out, 0, &where);
    if (!root)
        fail_msg("%s: %s in %s", line, where.text, done.out);
    command_free(&done);
    return root;
}

static const json_t *way_of(const json_t *root, const char *name) {
    const json_t *way;
    size_t i;
    json_array_foreach(at(root, "ways"), i, way) {
        if (!strcmp(json_string_value(at(way, "name")), name))
            return way;
    }
    return NULL;
}

/* Rates are rows and tokens over seconds, the median is one of the passes, times of operations and
 * the rest sum to the pass they are of, shares are shares. */
static void check_way(const json_t *root, const json_t *way) {
    double seconds = number_at(way, "seconds"), rows = number_at(root, "n_rows");
    double profiled = number_at(way, "seconds_profiled"), sum = number_at(way, "seconds_outside");
    double shares = sum / profiled, flops = 0;
    const json_t *one;
    size_t i, n_below = 0;
    check_within("rows", relative(number_at(way, "rows_per_second") * seconds, rows, 0), 1e-6);
    check_within(
        "tokens",
        relative(number_at(way, "tokens_per_second") * seconds, number_at(root, "n_tokens"), 0),
        1e-6);
    assert_int_equal(json_array_size(at(way, "passes")), 3);
    json_array_foreach(at(way, "passes"), i, one) {
        assert_true(json_number_value(one) > 0);
        n_below += json_number_value(one) <= seconds * (1 + 1e-6);
    }
    assert_in_range(n_below, 2, 3);
    json_array_foreach(at(way, "operations"), i, one) {
        double share = number_at(one, "share");
        assert_true(share >= 0 && share <= 1);
        assert_true(number_at(one, "calls") >= 1);
        sum += number_at(one, "seconds");
        shares += share;
        flops += number_at(one, "flops");
        if (strcmp(json_string_value(at(one, "kind")), "product"))
            assert_true(number_at(one, "flops") == 0);
    }
    check_within("seconds of a pass", relative(sum, profiled, 0), 1e-6);
    check_within("shares of a pass", fabs(shares - 1), 1e-6);
    check_within("flops of a pass", relative(flops, number_at(way, "product_flops"), 0), 1e-6);
    check_within("share of the peak",
                 relative(flops / seconds / number_at(root, "product_peak/flops_per_second"),
                          number_at(way, "share_of_peak"), 0),
                 1e-6);
    assert_true(number_at(way, "share_of_peak") > 0);
    assert_true(number_at(way, "processor_seconds") >= 0);
    assert_true(number_at(way, "peak_bytes") >= number_at(root, "weight_bytes"));
}

static void consistent(void **state) {
    const char *folder = open_case("bert");
    (void)state;
    command done = run_line(folder, FIT_VAL "--predict-cost forward --out @/forward", NULL);
    assert_int_equal(done.code, 0);
    command_free(&done);
    fit_case(folder);
    for (int forward = 0; forward < 2; forward++) {
        json_t *root = bench(folder, forward ? BENCH "--posterior @/forward --json"
                                             : BENCH "--posterior @/posterior --json");
        assert_string_equal(json_string_value(at(root, "schema")), "laplora.bench/1");
        assert_int_equal(json_array_size(at(root, "ways")), forward ? 3 : 2);
        const json_t *map = way_of(root, "map"), *predict = way_of(root, "predict");
        check_way(root, map);
        check_way(root, predict);
        assert_string_equal(json_string_value(at(map, "cost")), "forward");
        assert_string_equal(json_string_value(at(predict, "cost")), forward ? "forward" : "any");
        /* a forward pass is the same products whatever is made of it; contrasts go back beside it
         */
        double ratio = number_at(predict, "product_flops") / number_at(map, "product_flops");
        if (forward) {
            const json_t *full = way_of(root, "full");
            check_way(root, full);
            assert_string_equal(json_string_value(at(full, "cost")), "any");
            check_within("products of a forward predictive", fabs(ratio - 1), 0);
            ratio = number_at(full, "product_flops") / number_at(map, "product_flops");
        }
        assert_true(ratio > 1.5);
        json_decref(root);
    }
}

/* A model's pass multiplies each token by each weight of its layers, and the pooled ones by the
 * head: of the fixture (BERT), whose last layer is computed for the pooled token alone. */
static void counted_products(void **state) {
    const char *folder = open_case("bert");
    (void)state;
    fit_case(folder);
    json_t *root = bench(folder, BENCH "--posterior @/posterior --json --rows 1");
    json_t *config = load_json(in_case(folder, "base/config.json"));
    double t = number_at(root, "n_tokens"), d = number_at(config, "hidden_size");
    double up = number_at(config, "intermediate_size");
    double layers = number_at(config, "num_hidden_layers");
    /* q, k, v, output, up, down; of the last layer keys and values of all tokens */
    double all = 2 * t * (4 * d * d + 2 * d * up), last = 2 * (t * 2 * d * d + 2 * d * d);
    last += 2 * 2 * d * up;
    double least = (layers - 1) * all + last,
           flops = number_at(way_of(root, "map"), "product_flops");
    assert_int_equal((int)number_at(root, "n_rows"), 1);
    /* beside these: adapters, pooler and head */
    assert_true(flops > least && flops < 1.6 * least);
    json_decref(config);
    json_decref(root);
}

static void against(void **state) {
    const char *folder = open_case("bert");
    (void)state;
    fit_case(folder);
    command done = run_line(folder, BENCH "--posterior @/posterior --out @/old.json", NULL);
    assert_int_equal(done.code, 0);
    assert_string_equal(done.out, "");
    command_free(&done);
    json_t *old = load_json(in_case(folder, "old.json"));
    json_t *root = bench(
        folder, BENCH "--posterior @/posterior --rows 4 --samples 7 --json --against @/old.json");
    static const char *const figures[] = {"rows_per_second", "processor_seconds", "seconds_load",
                                          "share_of_peak", "peak_bytes"};
    for (int w = 0; w < 2; w++) {
        char path[64];
        snprintf(path, sizeof path, "against/ways/%d", w);
        const json_t *ratios = at(root, path);
        const char *name = json_string_value(at(ratios, "name"));
        for (size_t f = 0; f < sizeof figures / sizeof *figures; f++)
            check_within(
                figures[f],
                relative(number_at(ratios, figures[f]) * number_at(way_of(old, name), figures[f]),
                         number_at(way_of(root, name), figures[f]), 1e-12),
                1e-6);
    }
    const json_t *one;
    size_t i, rows = 0, samples = 0;
    json_array_foreach(at(root, "against/differs"), i, one) {
        rows += !strcmp(json_string_value(one), "n_rows");
        samples += !strcmp(json_string_value(one), "samples");
        assert_string_not_equal(json_string_value(one), "model");
        assert_string_not_equal(json_string_value(one), "processor");
    }
    assert_int_equal(rows, 1);
    assert_int_equal(samples, 1);
    json_decref(root);
    json_decref(old);
    done = run_line(folder, BENCH "--posterior @/posterior --against @/old.json", NULL);
    assert_int_equal(done.code, 0);
    assert_non_null(strstr(done.out, "new over old"));
    command_free(&done);
}

#define BENCH_OUT "bench --posterior @/posterior --data @/test.jsonl --out @/out --quiet "
static const fault faults[] = {
    {"no data", 2, {"bench needs --data"}, .command = "bench --posterior @/posterior --out @/out"},
    {"no posterior", 2, {"bench needs --posterior"}, .command = "bench --data @/test.jsonl"},
    {"no passes", 2, {"--repeats"}, .command = BENCH_OUT "--repeats 0"},
    {"no rows", 2, {"--rows"}, .command = BENCH_OUT "--rows 0"},
    {"a file that is not there",
     3,
     {"old.json", "cannot read"},
     .command = BENCH_OUT "--against @/old.json"},
    {"a file of another kind",
     3,
     {"old.json", "laplora.fit/1", "laplora.bench/1"},
     .command = BENCH_OUT "--against @/old.json",
     .damage = put_file,
     .file = "old.json",
     .a = "{\"schema\":\"laplora.fit/1\"}"},
    {"what it is compared with in the place of what it writes",
     2,
     {"would replace --against"},
     .command = "bench --posterior @/posterior --data @/test.jsonl --out @/old.json --against "
                "@/old.json",
     .damage = put_file,
     .file = "old.json",
     .a = "{\"schema\":\"laplora.bench/1\",\"ways\":[]}"},
    {"ways that are none",
     3,
     {"old.json", "ways", "expected a list"},
     .command = BENCH_OUT "--against @/old.json",
     .damage = put_file,
     .file = "old.json",
     .a = "{\"schema\":\"laplora.bench/1\",\"ways\":3}"},
    {"a figure that is none",
     3,
     {"old.json", "seconds", "expected at least 0"},
     .command = BENCH_OUT "--against @/old.json",
     .damage = put_file,
     .file = "old.json",
     .a = "{\"schema\":\"laplora.bench/1\",\"ways\":[{\"name\":\"map\",\"seconds\":-1}]}"},
    {"rows without any",
     3,
     {"test.jsonl", "has no rows"},
     .command = BENCH_OUT,
     .damage = put_file,
     .file = "test.jsonl",
     .a = ""},
    {"another base",
     7,
     {"digest"},
     .command = BENCH_OUT,
     .damage = poison_tensor,
     .file = "base/model.safetensors",
     .a = "embeddings.word_embeddings.weight",
     .b = "0.25"},
    {"the data as output",
     2,
     {"would replace", "--data"},
     .command = "bench --posterior @/posterior --data @/test.jsonl --out @/test.jsonl"},
};

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(consistent),
        cmocka_unit_test(counted_products),
        cmocka_unit_test(against),
    };
    int failed = run_faults("bench", faults, sizeof faults / sizeof *faults);
    return failed + cmocka_run_group_tests_name("bench", tests, NULL, NULL);
}

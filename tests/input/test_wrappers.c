/* Keys of tensors without what training tools put around a model. */
#include "input/wrappers.h"
#include "support/support.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static void check(const char *key, bool base, const char *expected) {
    char text[256];
    snprintf(text, sizeof text, "%s", key);
    bool changed = la_wrappers_strip(text, base);
    assert_string_equal(text, expected);
    assert_int_equal(changed, strcmp(key, expected) != 0);
}

static void wrappers_come_off(void **state) {
    (void)state;
    check("_orig_mod.bert.x.weight", false, "bert.x.weight");
    check("module.bert.x.weight", false, "bert.x.weight");
    check("module.module._orig_mod.module.bert.weight", false, "bert.weight");
    check("bert.encoder._orig_mod.layer.0._checkpoint_wrapped_module.x", false,
          "bert.encoder.layer.0.x");
    check("_fsdp_wrapped_module.model.layers.0._fsdp_wrapped_module._checkpoint_wrapped_module.w",
          false, "model.layers.0.w");
    check("base_model.model.base_model.model.bert.q.lora_A.weight", false,
          "base_model.model.bert.q.lora_A.weight");
    check("module.base_model.model.module.base_model.model.bert.q", false,
          "base_model.model.bert.q");
    check("base_model.model._orig_mod.bert.q.lora_A.weight", false,
          "base_model.model.bert.q.lora_A.weight");
    check("base_model.model.bert.q.base_layer.weight", true, "bert.q.weight");
    check("_orig_mod.base_model.model.base_model.model.x", true, "x");
}

static void other_keys_stay(void **state) {
    (void)state;
    static const char *const keys[] = {
        "bert.module.weight",           "modules.weight",   "bert._orig_module.weight",
        "base_model.model.bert.weight", "base_model.x",     "bert.base_layer.weight",
        "model.model.layers.0.weight",  "module",           "",
        "base_model.classifier.weight", "bert.x._orig_mod", ".",
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        check(keys[i], false, keys[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrappers_come_off),
        cmocka_unit_test(other_keys_stay),
    };
    return cmocka_run_group_tests_name("wrappers", tests, NULL, NULL);
}

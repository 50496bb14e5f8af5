#include "text/compat.h"
#include "base/list.h"

#include <stdio.h>
#include <string.h>

/* Appends the steps of a component to list, sequences flattened, fields that do not touch ids
 * left out and defaults written down. */
static void flatten(const json_t *component, int depth, json_t *list) {
    const json_t *items = json_is_array(component) ? component
                          : json_object_get(component, "normalizers")
                              ? json_object_get(component, "normalizers")
                              : json_object_get(component, "pretokenizers");
    if (items) {
        for (size_t i = 0; depth < 16 && i < json_array_size(items); i++)
            flatten(json_array_get(items, i), depth + 1, list);
        return;
    }
    if (!json_is_object(component))
        return;
    json_t *step = json_copy((json_t *)(uintptr_t)component);
    const char *type = json_string_value(json_object_get(step, "type"));
    json_object_del(step, "trim_offsets");
    json_object_del(step, "str_rep");
    if (type && !strcmp(type, "Metaspace")) {
        json_object_del(step, "add_prefix_space");
        if (!json_object_get(step, "split"))
            json_object_set_new(step, "split", json_true());
        if (!json_object_get(step, "prepend_scheme"))
            json_object_set_new(step, "prepend_scheme", json_string("always"));
    }
    if (type && !strcmp(type, "ByteLevel") && !json_object_get(step, "use_regex"))
        json_object_set_new(step, "use_regex", json_true());
    json_array_append_new(list, step);
}

static bool same(const json_t *a, const json_t *b) {
    json_t *x = json_array(), *y = json_array();
    flatten(a, 0, x);
    flatten(b, 0, y);
    bool equal = json_equal(x, y);
    json_decref(x);
    json_decref(y);
    return equal;
}

/* ---- post-processors as lists of pieces ---- */

static void put_text(json_t *list, const char *name, json_int_t type) {
    json_array_append_new(list, json_sprintf("$%s:%lld", name, (long long)type));
}

static void put_special(json_t *list, const char *content, json_int_t type) {
    json_array_append_new(list, json_sprintf("%s:%lld", content ? content : "", (long long)type));
}

static void put_template(const json_t *post, const char *key, json_t *list) {
    const json_t *items = json_object_get(post, key);
    for (size_t i = 0; i < json_array_size(items); i++) {
        const json_t *item = json_array_get(items, i),
                     *special = json_object_get(item, "SpecialToken");
        const json_t *body = special ? special : json_object_get(item, "Sequence");
        const char *id = json_string_value(json_object_get(body, "id"));
        json_int_t type = json_integer_value(json_object_get(body, "type_id"));
        const json_t *tokens = json_object_get(
            json_object_get(json_object_get(post, "special_tokens"), id ? id : ""), "tokens");
        if (!special)
            put_text(list, id ? id : "", type);
        for (size_t j = 0; special && j < json_array_size(tokens); j++)
            put_special(list, json_string_value(json_array_get(tokens, j)), type);
    }
}

/* Lists of one text and of two between these tokens; kind: LA_WRAP_BERT or LA_WRAP_ROBERTA. */
static void put_wrap(la_class_wrap kind, const char *first, const char *last, json_t *single,
                     json_t *pair) {
    bool bert = kind == LA_WRAP_BERT;
    for (int two = 0; two <= 1; two++) {
        json_t *list = two ? pair : single;
        put_special(list, first, 0);
        put_text(list, "A", 0);
        put_special(list, last, 0);
        if (!two)
            continue;
        if (!bert)
            put_special(list, last, 0);
        put_text(list, "B", bert);
        put_special(list, last, bert);
    }
}

/* Lists of a file's post-processor; false: a type that is not compared. */
static bool put_file(const json_t *post, int depth, json_t *single, json_t *pair) {
    const char *type = json_string_value(json_object_get(post, "type"));
    const json_t *parts = json_object_get(post, "processors");
    bool known = true;
    if (!type || !strcmp(type, "ByteLevel"))
        return true;
    if (!strcmp(type, "Sequence")) {
        for (size_t i = 0; depth < 16 && i < json_array_size(parts); i++)
            known &= put_file(json_array_get(parts, i), depth + 1, single, pair);
        return known;
    }
    if (!strcmp(type, "TemplateProcessing")) {
        put_template(post, "single", single);
        put_template(post, "pair", pair);
        return true;
    }
    la_class_wrap kind = !strcmp(type, "BertProcessing") ? LA_WRAP_BERT : LA_WRAP_ROBERTA;
    put_wrap(kind, json_string_value(json_array_get(json_object_get(post, "cls"), 0)),
             json_string_value(json_array_get(json_object_get(post, "sep"), 0)), single, pair);
    return true;
}

/* "</s>:1" becomes "</s>:0", for a class whose models have one type. */
static void drop_types(json_t *lists) {
    for (size_t i = 0; i < json_array_size(lists); i++) {
        json_t *list = json_array_get(lists, i);
        for (size_t j = 0; j < json_array_size(list); j++) {
            const char *text = json_string_value(json_array_get(list, j));
            int length = text ? (int)(strrchr(text, ':') - text) : 0;
            json_array_set_new(list, j, json_sprintf("%.*s:0", length, text ? text : ""));
        }
    }
}

static bool same_wrap(const la_token_class *kind, const json_t *named, const json_t *root) {
    json_t *of_file = json_pack("[[], []]"), *of_class = json_pack("[[], []]");
    bool ends = kind->wrap == LA_WRAP_ENDS;
    const char *first = json_string_value(json_object_get(named, ends ? "bos_token" : "cls_token"));
    const char *last = json_string_value(json_object_get(named, ends ? "eos_token" : "sep_token"));
    put_file(json_object_get(root, "post_processor"), 0, json_array_get(of_file, 0),
             json_array_get(of_file, 1));
    put_wrap(ends ? LA_WRAP_ROBERTA : kind->wrap, first, last, json_array_get(of_class, 0),
             json_array_get(of_class, 1));
    if (kind->wrap != LA_WRAP_BERT)
        drop_types(of_file);
    bool same_lists = kind->wrap == LA_WRAP_OF_FILE || json_equal(of_file, of_class);
    json_decref(of_file);
    json_decref(of_class);
    return same_lists;
}

/* Compared only where it matters: a model with a token for every byte has no unknown tokens. */
static bool same_model(const la_token_class *kind, const json_t *named, const json_t *root) {
    const json_t *model = json_object_get(root, "model");
    const char *type = json_string_value(json_object_get(model, "type"));
    const json_t *unknown = json_object_get(model, "unk_token");
    const json_t *vocab = json_object_get(model, "vocab");
    bool bytes = json_is_true(json_object_get(model, "byte_fallback")) &&
                 json_object_get(vocab, "<0x00>") && json_object_get(vocab, "<0xFF>");
    if (type && strcmp(type, kind->model))
        return false;
    if (json_is_true(json_object_get(model, "ignore_merges")))
        return false;
    switch (bytes ? LA_UNKNOWN_OF_FILE : kind->unknown) {
    case LA_UNKNOWN_NAMED:
        return json_equal(unknown, json_object_get(named, "unk_token"));
    case LA_UNKNOWN_NONE:
        return !unknown || json_is_null(unknown);
    case LA_UNKNOWN_THIRD:
        return json_integer_value(json_object_get(model, "unk_id")) == 3;
    case LA_UNKNOWN_OF_FILE:
        break;
    }
    return true;
}

void la_compat_warn(const char *dir, const la_token_class *kind, const json_t *config,
                    const json_t *named, const json_t *root, const la_log *log) {
    la_pipeline built = kind->build(config, root);
    const struct {
        const char *name;
        bool same;
    } parts[] = {
        {"normalizer", same(built.normalizer, json_object_get(root, "normalizer"))},
        {"pre-tokenizer", same(built.pre_tokenizer, json_object_get(root, "pre_tokenizer"))},
        {"model", same_model(kind, named, root)},
        {"post-processor", same_wrap(kind, named, root)},
    };
    const char *others[sizeof parts / sizeof *parts];
    char text[128];
    int n = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!parts[i].same)
            others[n++] = parts[i].name;
    if (n)
        la_warn(log,
                "%s: transformers 5 builds the %s of a %s itself and may give other ids than "
                "tokenizer.json, which is what counts here",
                dir, la_list_sentence(text, sizeof text, others, n), kind->name);
    json_decref(built.normalizer);
    json_decref(built.pre_tokenizer);
}

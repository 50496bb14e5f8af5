#include "text/side_files.h"
#include "base/visible.h"
#include "input/folders.h"
#include "text/compat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SIDE_BYTES_MAX = 64 << 20 };

/* Contents of the files, as transformers gathers them. Tokens are strings (plain special tokens),
 * or objects with all fields of an added token. */
typedef struct gathering {
    const char *dir;
    char config_path[4096], map_path[4096], added_path[4096];
    const la_log *log;
    la_error *err;
    json_t *root;                              /* tokenizer.json */
    json_t *config, *map, *added_file, *model; /* the other files; NULL: missing */
    const la_token_class *kind;                /* NULL: uses tokenizer.json */
    json_t *own;                               /* content -> token, of tokenizer.json */
    json_t *decoder; /* [[id, token]], of added_tokens_decoder or its substitute */
    json_t *named;   /* key -> token, in the order in which they are added */
    json_t *extras;  /* [token] */
    json_t *adds;    /* [token], added to those of tokenizer.json in this order */
} gathering;

/* ---- files ---- */

static la_status load_file(const gathering *g, const char *name, char path[4096], json_t **out) {
    if ((size_t)snprintf(path, 4096, "%s/%s", g->dir, name) >= 4096)
        return la_fail(g->err, LA_USAGE, "the path of the tokenizer is too long");
    return access(path, F_OK) ? LA_OK : la_json_load(path, SIDE_BYTES_MAX, out, g->err);
}

/* ---- tokens ---- */

/* Marks a token whose "normalized" was absent. */
static const char implied[] = "implied";

/* Fields of a token beside its content; "normalized" follows "special". */
static const char *const flags[] = {"special", "normalized", "single_word", "lstrip", "rstrip"};
enum { FLAGS = sizeof flags / sizeof *flags };

/* Object of a token with all its fields; *out is a new reference. always: special, whatever the
 * object has. */
static la_status whole_token(const gathering *g, const json_t *from, const char *path,
                             const char *where, bool always, json_t **out) {
    json_t *content = json_object_get(from, "content"), *token = json_object();
    *out = token;
    if (!json_is_string(content))
        return la_fail(g->err, LA_BAD_INPUT, "%s: %s: \"content\" is %s, expected a string", path,
                       where, la_json_kind(content));
    json_object_set(token, "content", content);
    for (int i = 0; i < FLAGS; i++) {
        const json_t *value = json_object_get(from, flags[i]);
        bool missing = i == 1 && !json_is_true(json_object_get(token, "special"));
        if (value && !json_is_boolean(value))
            return la_fail(g->err, LA_BAD_INPUT, "%s: %s: \"%s\" is %s, expected true or false",
                           path, where, flags[i], la_json_kind(value));
        bool set = (always && i == 0) || (value ? json_is_true(value) : missing);
        json_object_set_new(token, flags[i], json_boolean(set));
    }
    /* it follows "special" then, even where that changes later */
    if (!json_object_get(from, "normalized"))
        json_object_set_new(token, implied, json_true());
    return LA_OK;
}

static json_t *plain_token(const json_t *content, bool special) {
    return json_pack("{s:O, s:b, s:b, s:b, s:b, s:b}", "content", (json_t *)(uintptr_t)content,
                     "special", special, "normalized", !special, "single_word", false, "lstrip",
                     false, "rstrip", false);
}

static const json_t *content_of(const json_t *token) {
    return json_is_object(token) ? json_object_get(token, "content") : token;
}

static bool same_token(const json_t *a, const json_t *b) {
    bool same = json_equal(json_object_get(a, "content"), json_object_get(b, "content"));
    for (int i = 0; i < FLAGS; i++)
        same &= json_equal(json_object_get(a, flags[i]), json_object_get(b, flags[i]));
    return same;
}

static json_t *find(const json_t *tokens, const json_t *token) {
    const json_t *content = content_of(token);
    return json_object_getn(tokens, json_string_value(content), json_string_length(content));
}

static void put(json_t *tokens, const json_t *content, json_t *value) {
    json_object_setn(tokens, json_string_value(content), json_string_length(content), value);
}

/* String, or an object that declares itself an added token: transformers takes no other. *out is a
 * new reference. */
static la_status token_value(const gathering *g, const json_t *value, const char *path,
                             const char *where, bool untyped, json_t **out) {
    const char *type = json_string_value(json_object_get(value, "__type"));
    *out = NULL;
    if (json_is_string(value)) {
        *out = json_incref((json_t *)(uintptr_t)value);
        return LA_OK;
    }
    if (json_is_object(value) && (untyped || (type && !strcmp(type, "AddedToken"))))
        return whole_token(g, value, path, where, untyped, out);
    return la_fail(g->err, LA_BAD_INPUT,
                   "%s: %s is %s, expected a string or an object with \"__type\": \"AddedToken\"",
                   path, where, json_is_object(value) ? "another object" : la_json_kind(value));
}

static la_status append_token(const gathering *g, const json_t *value, const char *path,
                              const char *where, bool untyped, json_t *list) {
    json_t *token;
    la_status status = token_value(g, value, path, where, untyped, &token);
    json_array_append_new(list, token);
    return status;
}

/* ---- gathering ---- */

static la_status read_own(gathering *g) {
    const json_t *list = json_object_get(g->root, "added_tokens");
    size_t i;
    json_t *item;
    char path[4096];
    snprintf(path, sizeof path, "%s/tokenizer.json", g->dir);
    json_array_foreach((json_t *)(uintptr_t)list, i, item) {
        char where[64];
        json_t *token;
        snprintf(where, sizeof where, "added_tokens[%zu]", i);
        if (!json_is_object(item))
            continue; /* reported where they are loaded */
        la_status status = whole_token(g, item, path, where, false, &token);
        json_object_del(token, implied);
        if (status == LA_OK)
            put(g->own, content_of(token), token);
        json_decref(token);
        LA_TRY(status);
    }
    return LA_OK;
}

/* Inserts by id. Files are mostly sorted, so the search begins at the end. */
static void decode(gathering *g, json_int_t id, json_t *token) {
    size_t i = json_array_size(g->decoder);
    for (; i > 0; i--) {
        json_t *pair = json_array_get(g->decoder, i - 1);
        json_int_t other = json_integer_value(json_array_get(pair, 0));
        if (other == id) {
            json_array_set(pair, 1, token);
            return;
        }
        if (other < id)
            break;
    }
    json_array_insert_new(g->decoder, i, json_pack("[I, O]", id, token));
}

static la_status read_decoder(gathering *g, const json_t *decoder) {
    const char *key;
    json_t *value;
    if (!json_is_object(decoder))
        return la_fail(g->err, LA_BAD_INPUT,
                       "%s: added_tokens_decoder is %s, expected an object of tokens",
                       g->config_path, la_json_kind(decoder));
    json_object_foreach((json_t *)(uintptr_t)decoder, key, value) {
        char where[128], *end;
        long long id = strtoll(key, &end, 10);
        snprintf(where, sizeof where, "added_tokens_decoder[\"%.*s\"]",
                 (int)la_visible_cut(key, 60), key);
        if (end == key || *end || id < 0 || id > INT32_MAX || !json_is_object(value))
            return la_fail(g->err, LA_BAD_INPUT, "%s: %s is %s, expected a token id and an object",
                           g->config_path, where, la_json_kind(value));
        json_t *token;
        la_status status = whole_token(g, value, g->config_path, where, false, &token);
        if (status == LA_OK)
            decode(g, id, token);
        json_decref(token);
        LA_TRY(status);
    }
    return LA_OK;
}

static bool is_standard(const char *key) {
    for (int i = 0; i < LA_NAMED_TOKENS; i++)
        if (!strcmp(la_named_tokens[i], key))
            return true;
    return false;
}

static bool ends_with_token(const char *key) {
    size_t length = strlen(key);
    return length > 6 && !strcmp(key + length - 6, "_token");
}

/* List of tokens, or an object of named ones, which follow all others in `later`. */
static la_status read_extras(gathering *g, const json_t *value, const char *path, const char *where,
                             bool untyped, json_t *later) {
    size_t i;
    json_t *item;
    const char *key;
    if (!value || json_is_null(value))
        return LA_OK;
    if (json_is_object(value)) {
        json_object_foreach((json_t *)(uintptr_t)value, key, item) {
            json_t *token;
            la_status status = token_value(g, item, path, where, false, &token);
            json_object_set_new(later, key, token);
            LA_TRY(status);
        }
        return LA_OK;
    }
    if (!json_is_array(value))
        return la_fail(g->err, LA_BAD_INPUT, "%s: %s is %s, expected a list of tokens", path, where,
                       la_json_kind(value));
    json_array_foreach((json_t *)(uintptr_t)value, i, item) {
        LA_TRY(append_token(g, item, path, where, untyped, g->extras));
    }
    return LA_OK;
}

/* Named tokens of tokenizer_config.json or special_tokens_map.json: standard names go into named,
 * names of the model's own into custom. */
static la_status read_named(gathering *g, const json_t *from, const char *path, bool of_map,
                            json_t *custom) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)from, key, value) {
        bool standard = is_standard(key);
        bool token_like = json_is_string(value) ||
                          (json_is_object(value) && (of_map || json_object_get(value, "__type")));
        if (!standard && !(ends_with_token(key) && token_like))
            continue;
        json_t *token = json_null();
        if (!json_is_null(value))
            LA_TRY(token_value(g, value, path, key, of_map, &token));
        json_object_set_new(standard ? g->named : custom, key, token);
    }
    return LA_OK;
}

/* Objects of tokenizer_config.json are not tokens yet when transformers looks at these. */
static bool counts_here(const json_t *token, const json_t *map, const char *key) {
    return json_is_string(token) || json_object_get(map, key);
}

/* Files of version 4, which version 5 reads where tokenizer_config.json lists no tokens. */
static la_status read_legacy(gathering *g, json_t *custom, json_t *later, bool has_extras) {
    const char *content;
    json_t *value;
    LA_TRY(read_named(g, g->map, g->map_path, true, custom));
    LA_TRY(read_extras(g, json_object_get(g->map, "extra_special_tokens"), g->map_path,
                       "extra_special_tokens", true, later));
    has_extras |= json_is_array(json_object_get(g->map, "extra_special_tokens"));
    json_object_foreach(g->added_file, content, value) {
        json_t *text = json_string(content);
        bool special = false;
        if (!json_is_integer(value) || json_integer_value(value) < 0) {
            json_decref(text);
            return la_fail(g->err, LA_BAD_INPUT, "%s: \"%s\" is %s, expected a token id",
                           g->added_path, content, la_json_kind(value));
        }
        const char *key;
        json_t *token;
        json_object_foreach(g->named, key, token) {
            special |= is_standard(key) && counts_here(token, g->map, key) &&
                       json_equal(content_of(token), text);
        }
        for (size_t i = 0; i < json_array_size(g->extras); i++)
            special |= json_equal(json_array_get(g->extras, i), text);
        token = plain_token(text, special);
        decode(g, json_integer_value(value), token);
        json_decref(token);
        json_decref(text);
    }
    if (!has_extras)
        LA_TRY(read_extras(g, json_object_get(g->map, "additional_special_tokens"), g->map_path,
                           "additional_special_tokens", false, later));
    /* tokens of tokenizer.json keep their ids */
    const json_t *list = json_object_get(g->root, "added_tokens");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        json_t *token = json_is_string(content_of(item)) ? find(g->own, item) : NULL;
        if (token && json_is_integer(json_object_get(item, "id")))
            decode(g, json_integer_value(json_object_get(item, "id")), token);
    }
    return LA_OK;
}

/* Named tokens that a class adds where the configuration has none. */
static void take_class_tokens(gathering *g) {
    json_t *ordered = json_object();
    for (int i = 0; i < LA_NAMED_TOKENS; i++) {
        json_t *value = json_object_get(g->named, la_named_tokens[i]);
        const char *own = g->kind ? g->kind->tokens[i] : NULL;
        json_t *taken = value ? json_incref(value) : own ? json_string(own) : NULL;
        bool mask = g->kind && (g->kind->flags & LA_CLASS_MASK_LEFT) && i == LA_NAMED_TOKENS - 1;
        if (mask && json_is_string(taken)) {
            json_t *token = plain_token(taken, true);
            json_object_set_new(token, "lstrip", json_true());
            json_decref(taken);
            taken = token;
        }
        if (taken && !json_is_null(taken))
            json_object_set(ordered, la_named_tokens[i], taken);
        json_decref(taken);
    }
    json_decref(g->named);
    g->named = ordered;
}

static la_status gather(gathering *g) {
    const json_t *decoder = json_object_get(g->config, "added_tokens_decoder");
    const json_t *extras = json_object_get(g->config, "extra_special_tokens");
    const json_t *additional = json_object_get(g->config, "additional_special_tokens");
    json_t *custom = json_object(), *later = json_object();
    la_status status = LA_OK;
    bool set = la_json_is_set(extras);
    LA_TRY_DONE(read_own(g));
    LA_TRY_DONE(read_named(g, g->config, g->config_path, false, custom));
    if (additional && set && !json_equal(additional, extras))
        la_warn(g->log,
                "%s: additional_special_tokens are passed over beside extra_special_tokens, as "
                "transformers 5 does",
                g->config_path);
    LA_TRY_DONE(read_extras(g, set ? extras : additional, g->config_path,
                            set ? "extra_special_tokens" : "additional_special_tokens", false,
                            later));
    if (decoder)
        LA_TRY_DONE(read_decoder(g, decoder));
    else
        LA_TRY_DONE(
            read_legacy(g, custom, later, json_is_array(set || !additional ? extras : additional)));
    take_class_tokens(g);
    json_object_update(g->named, custom);
    json_object_update(g->named, later);
done:
    json_decref(custom);
    json_decref(later);
    return status;
}

/* ---- what is added ---- */

static bool is_named(const gathering *g, const json_t *token) {
    const char *key;
    json_t *value;
    json_object_foreach(g->named, key, value) {
        if (json_equal(content_of(value), content_of(token)))
            return true;
    }
    return false;
}

static void add_missing(json_t *known, json_t *token, json_t *list) {
    if (find(known, token))
        return;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_equal(json_array_get(list, i), token))
            return;
    json_array_append(list, token);
}

/* Tokens that transformers adds to a tokenizer that holds those of `own`, in order; new
 * reference. */
static json_t *list_adds(const gathering *g, const json_t *own) {
    json_t *list = json_array(), *known = json_copy((json_t *)(uintptr_t)own), *adds = json_array();
    const char *key;
    json_t *value;
    size_t i;
    json_array_foreach(g->decoder, i, value) {
        json_t *token = json_array_get(value, 1), *had = find(own, token);
        if (had && same_token(had, token))
            continue;
        json_array_append(list, token);
        put(known, content_of(token), token);
    }
    json_object_foreach(g->named, key, value) {
        add_missing(known, value, list);
    }
    json_array_foreach(g->extras, i, value) {
        add_missing(known, value, list);
    }
    json_array_foreach(list, i, value) {
        json_t *token = json_is_string(value) ? plain_token(value, true) : json_copy(value);
        if (json_is_object(value) && is_named(g, value)) {
            json_object_set_new(token, "special", json_true());
            if (json_object_get(token, implied))
                json_object_set_new(token, "normalized", json_false());
        }
        json_object_del(token, implied);
        json_array_append_new(adds, token);
    }
    if (g->kind && (g->kind->flags & LA_CLASS_READDS_SPECIAL)) {
        json_object_foreach(g->named, key, value) {
            json_array_append_new(adds, plain_token(content_of(value), true));
        }
        json_array_foreach(g->extras, i, value) {
            json_array_append_new(adds, plain_token(content_of(value), true));
        }
    }
    json_decref(list);
    json_decref(known);
    return adds;
}

/* Removes tokens that change nothing, so that the digest is the file's where nothing is added. */
static void prune(const gathering *g, json_t *adds) {
    json_t *state = json_copy(g->own);
    for (size_t i = 0; i < json_array_size(adds);) {
        json_t *token = json_array_get(adds, i), *had = find(state, token);
        if (had && same_token(had, token)) {
            json_array_remove(adds, i);
            continue;
        }
        put(state, content_of(token), token);
        i++;
    }
    json_decref(state);
}

/* content -> token after all additions to own (NULL: none); the last of repeated ones counts */
static json_t *after_adding(const json_t *own, const json_t *adds) {
    json_t *all = own ? json_copy((json_t *)(uintptr_t)own) : json_object();
    for (size_t i = 0; i < json_array_size(adds); i++)
        put(all, content_of(json_array_get(adds, i)), json_array_get(adds, i));
    return all;
}

static bool in_vocabulary(const gathering *g, const char *content) {
    const json_t *vocab = json_object_get(json_object_get(g->root, "model"), "vocab");
    for (size_t i = 0; i < json_array_size(vocab); i++) {
        const char *token = json_string_value(json_array_get(json_array_get(vocab, i), 0));
        if (token && !strcmp(token, content))
            return true;
    }
    return json_object_get(vocab, content) != NULL;
}

/* Contents that the vocabulary lacks, in the order in which they get ids; new reference. */
static json_t *numbered(const gathering *g, const json_t *tokens) {
    json_t *list = json_array(), *value;
    const char *content;
    json_object_foreach((json_t *)(uintptr_t)tokens, content, value) {
        if (!in_vocabulary(g, content))
            json_array_append(list, json_object_get(value, "content"));
    }
    return list;
}

/* A class that builds its tokenizer itself starts without the tokens of tokenizer.json. */
static void compare_with_class(const gathering *g) {
    json_t *none = json_object(), *adds = list_adds(g, none);
    json_t *ours = after_adding(g->own, g->adds), *theirs = after_adding(none, adds);
    bool same = json_equal(ours, theirs);
    if (same) {
        json_t *x = numbered(g, ours), *y = numbered(g, theirs);
        same = json_equal(x, y);
        json_decref(x);
        json_decref(y);
    }
    if (!same)
        la_warn(g->log,
                "%s: transformers 5 builds the added tokens of a %s from tokenizer_config.json "
                "alone and may give other ids than tokenizer.json, which counts here as well",
                g->dir, g->kind->name);
    json_decref(none);
    json_decref(adds);
    json_decref(ours);
    json_decref(theirs);
}

/* Warns of files that transformers 5 does not open where tokenizer_config.json lists the tokens. */
static void warn_passed_over(const gathering *g) {
    const char *key, *first = NULL;
    json_t *value;
    if (!json_object_get(g->config, "added_tokens_decoder"))
        return;
    json_object_foreach(g->map, key, value) {
        const json_t *used = json_object_get(g->named, key);
        if (is_standard(key) && !(used && json_equal(content_of(used), content_of(value))))
            first = key;
    }
    if (first)
        la_warn(g->log,
                "%s: %s differs from tokenizer_config.json, which is what counts, as in "
                "transformers 5",
                g->map_path, first);
    first = NULL;
    json_object_foreach(g->added_file, key, value) {
        json_t *text = json_string(key);
        bool known = find(g->own, text) != NULL;
        for (size_t i = 0; i < json_array_size(g->adds); i++)
            known |= json_equal(content_of(json_array_get(g->adds, i)), text);
        if (!known)
            first = key;
        json_decref(text);
    }
    if (first)
        la_warn(g->log,
                "%s: \"%s\" is passed over beside the added_tokens_decoder of "
                "tokenizer_config.json, as in transformers 5",
                g->added_path, first);
}

/* ---- the class, and what it overrides ---- */

static la_status find_class(gathering *g) {
    const char *name = NULL, *type = NULL;
    LA_TRY(la_json_text(g->config, g->config_path, "tokenizer_class", false, &name, g->err));
    if (!name)
        name = json_string_value(json_object_get(g->model, "tokenizer_class"));
    type = json_string_value(json_object_get(g->model, "model_type"));
    if (!name && type)
        name = la_token_class_of_model(type);
    if (!name)
        return LA_OK;
    g->kind = la_token_class_find(name);
    /* for these alone transformers knows that the class is wrong, and uses the file */
    if (g->kind && la_token_class_yields(g->kind, g->root))
        g->kind = NULL;
    else if (!g->kind && !la_token_class_is_plain(name))
        la_warn(g->log,
                "%s: tokenizer_class \"%s\" is none that is known here; if transformers builds its "
                "tokenizer itself it may give other ids than tokenizer.json, which is what counts",
                g->config_path, name);
    return LA_OK;
}

static void override(const gathering *g, json_t *component, const char *field, const char *key,
                     const json_t *value) {
    if (json_equal(json_object_get(component, field), value))
        return;
    json_object_set(component, field, (json_t *)(uintptr_t)value);
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    la_warn(g->log, "%s: %s is %s, and not what tokenizer.json has; a %s takes the former",
            g->config_path, key, text ? text : "?", g->kind->name);
    free(text);
}

/* Settings of the class that both versions put above the file's. */
static void override_settings(const gathering *g) {
    json_t *normalizer = json_object_get(g->root, "normalizer");
    json_t *pre = json_object_get(g->root, "pre_tokenizer");
    const char *type = json_string_value(json_object_get(normalizer, "type"));
    if ((g->kind->flags & LA_CLASS_SETS_BERT) && type && !strcmp(type, "BertNormalizer")) {
        const json_t *strip = json_object_get(g->config, "strip_accents");
        override(g, normalizer, "lowercase", "do_lower_case",
                 json_boolean(la_config_option(g->config, "do_lower_case", true)));
        override(g, normalizer, "handle_chinese_chars", "tokenize_chinese_chars",
                 json_boolean(la_config_option(g->config, "tokenize_chinese_chars", true)));
        override(g, normalizer, "strip_accents", "strip_accents",
                 json_is_boolean(strip) ? strip : json_null());
    }
    type = json_string_value(json_object_get(pre, "type"));
    if ((g->kind->flags & LA_CLASS_SETS_PREFIX_SPACE) && type && !strcmp(type, "ByteLevel"))
        override(g, pre, "add_prefix_space", "add_prefix_space",
                 json_boolean(la_config_option(g->config, "add_prefix_space", false)));
}

/* Warns of settings that a tokenizer made from the file does not read and that would change ids. */
static void warn_unread(const gathering *g) {
    static const struct {
        const char *key, *field;
    } keys[] = {{"do_lower_case", "lowercase"},
                {"strip_accents", "strip_accents"},
                {"tokenize_chinese_chars", "handle_chinese_chars"},
                {"add_prefix_space", "add_prefix_space"}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *said = json_object_get(g->config, keys[i].key);
        const json_t *of_text =
            json_object_get(json_object_get(g->root, "normalizer"), keys[i].field);
        const json_t *of_words =
            json_object_get(json_object_get(g->root, "pre_tokenizer"), keys[i].field);
        const json_t *had = of_text ? of_text : of_words;
        if (json_is_boolean(said) && json_is_boolean(had) && !json_equal(said, had))
            la_warn(g->log,
                    "%s: %s is %s, tokenizer.json has it otherwise, which is what counts, as in "
                    "transformers 5",
                    g->config_path, keys[i].key, json_is_true(said) ? "true" : "false");
    }
}

/* "No limit" is written as 1e30. */
static la_status read_length(const gathering *g, int64_t *length) {
    double limit = 0;
    const char *key =
        json_object_get(g->config, "model_max_length") ? "model_max_length" : "max_len";
    LA_TRY(la_json_number(g->config, g->config_path, key, false, &limit, g->err));
    if (limit >= 1 && limit < 1e9)
        *length = (int64_t)limit;
    return LA_OK;
}

static la_status check_settings(const gathering *g, la_side_files *out) {
    const json_t *versions = json_object_get(g->config, "fast_tokenizer_files");
    const json_t *inputs = json_object_get(g->config, "model_input_names");
    const char *side = NULL;
    for (size_t i = 0; i < json_array_size(versions); i++) {
        const char *name = json_string_value(json_array_get(versions, i));
        if (!name || strcmp(name, "tokenizer.json"))
            return la_fail(g->err, LA_UNSUPPORTED,
                           "%s: fast_tokenizer_files names \"%s\", which is not read; keep the one "
                           "that your version of transformers takes, as tokenizer.json, and leave "
                           "the key out",
                           g->config_path, name ? name : "?");
    }
    if (la_json_is_set(json_object_get(g->config, "init_inputs")))
        return la_fail(g->err, LA_UNSUPPORTED, "%s: init_inputs is set, which is not supported",
                       g->config_path);
    LA_TRY(la_json_bool(g->config, g->config_path, "split_special_tokens", false,
                        &out->splits_special, g->err));
    out->no_types = json_is_array(inputs);
    for (size_t i = 0; i < json_array_size(inputs); i++) {
        const char *name = json_string_value(json_array_get(inputs, i));
        out->no_types &= !name || strcmp(name, "token_type_ids") != 0;
    }
    out->has_chat = la_json_is_set(json_object_get(g->config, "chat_template")) ||
                    la_folder_has(g->dir, "chat_template.jinja") ||
                    la_folder_has(g->dir, "chat_template.json") ||
                    la_folder_has(g->dir, "additional_chat_templates");
    LA_TRY(read_length(g, &out->max_length));
    LA_TRY(la_json_text(g->config, g->config_path, "truncation_side", false, &side, g->err));
    if (!side)
        side =
            json_string_value(json_object_get(json_object_get(g->root, "truncation"), "direction"));
    if (side && strcasecmp(side, "left") && strcasecmp(side, "right"))
        return la_fail(g->err, LA_BAD_INPUT,
                       "%s: truncation_side is \"%s\", expected left or right", g->config_path,
                       side);
    if (side)
        out->truncation_side = strcasecmp(side, "left") ? LA_SIDE_RIGHT : LA_SIDE_LEFT;
    return LA_OK;
}

/* ---- all together ---- */

/* Tokens behind those of tokenizer.json, with the ids that the configuration states where it
 * does. */
static void write_adds(gathering *g, json_t *changes) {
    json_t *list = json_object_get(g->root, "added_tokens"), *value;
    size_t i;
    if (!json_array_size(g->adds))
        return;
    json_object_set(changes, "added_tokens", g->adds);
    if (!json_is_array(list)) {
        json_object_set_new(g->root, "added_tokens", json_array());
        list = json_object_get(g->root, "added_tokens");
    }
    json_array_foreach(g->adds, i, value) {
        json_t *token = json_copy(value);
        for (size_t j = 0; j < json_array_size(g->decoder); j++) {
            const json_t *pair = json_array_get(g->decoder, j);
            if (json_equal(content_of(json_array_get(pair, 1)), content_of(value)))
                json_object_set(token, "id", json_array_get(pair, 0));
        }
        json_array_append_new(list, token);
    }
}

/* key -> content; new reference */
static json_t *named_contents(const gathering *g) {
    json_t *names = json_object(), *value;
    const char *key;
    json_object_foreach(g->named, key, value) {
        json_object_set(names, key, (json_t *)(uintptr_t)content_of(value));
    }
    return names;
}

/* Equal sets of added tokens, in any order. */
static bool same_added(const json_t *a, const json_t *b) {
    json_t *x = after_adding(NULL, a), *y = after_adding(NULL, b), *token;
    const char *content;
    bool same = json_object_size(x) == json_object_size(y);
    json_object_foreach(x, content, token) {
        const json_t *other = find(y, token);
        const json_t *id = json_object_get(token, "id"), *other_id = json_object_get(other, "id");
        same &= other && same_token(token, other) && (!id || !other_id || json_equal(id, other_id));
    }
    json_decref(x);
    json_decref(y);
    return same;
}

static la_status apply(gathering *g, la_side_files *out) {
    LA_TRY(load_file(g, "tokenizer_config.json", g->config_path, &g->config));
    LA_TRY(load_file(g, "special_tokens_map.json", g->map_path, &g->map));
    LA_TRY(load_file(g, "added_tokens.json", g->added_path, &g->added_file));
    /* it is checked elsewhere: here it may be damaged or missing */
    char path[4096];
    la_error ignored = {0};
    (void)load_file(&(gathering){.dir = g->dir, .err = &ignored}, "config.json", path, &g->model);
    LA_TRY(find_class(g));
    LA_TRY(check_settings(g, out));
    LA_TRY(gather(g));
    g->adds = list_adds(g, g->own);
    prune(g, g->adds);
    warn_passed_over(g);
    json_t *changes = out->changes = json_object();
    const char *const parts[] = {"normalizer", "pre_tokenizer"};
    json_t *before[2];
    for (int i = 0; i < 2; i++)
        before[i] = json_deep_copy(json_object_get(g->root, parts[i]));
    if (g->kind) {
        override_settings(g);
        compare_with_class(g);
        json_t *names = named_contents(g);
        la_compat_warn(g->dir, g->kind, g->config, names, g->root, g->log);
        json_decref(names);
    } else {
        warn_unread(g);
    }
    for (int i = 0; i < 2; i++) {
        json_t *now = json_object_get(g->root, parts[i]);
        if (now && !json_equal(before[i], now))
            json_object_set(changes, parts[i], now);
        json_decref(before[i]);
    }
    write_adds(g, changes);
    if (out->splits_special)
        json_object_set_new(changes, "split_special_tokens", json_true());
    return LA_OK;
}

la_status la_side_files_apply(const char *dir, json_t *root, const la_log *log, la_side_files *out,
                              la_error *err) {
    *out = (la_side_files){.n_own = json_array_size(json_object_get(root, "added_tokens"))};
    gathering g = {.dir = dir,
                   .log = log,
                   .err = err,
                   .root = root,
                   .own = json_object(),
                   .decoder = json_array(),
                   .named = json_object(),
                   .extras = json_array()};
    la_status status = apply(&g, out);
    json_t *const all[] = {g.config,  g.map,   g.added_file, g.model, g.own,
                           g.decoder, g.named, g.extras,     g.adds};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        json_decref(all[i]);
    if (status == LA_OK && !json_object_size(out->changes)) {
        json_decref(out->changes);
        out->changes = NULL;
    }
    return status;
}

la_status la_side_files_agree(const char *a, const char *b, bool *agree, la_error *err) {
    static const char *const parts[] = {"model", "normalizer", "pre_tokenizer", "post_processor"};
    const char *const dirs[] = {a, b};
    json_t *roots[2] = {NULL, NULL};
    la_side_files files[2] = {{0}, {0}};
    la_status status = LA_OK;
    *agree = true;
    for (int i = 0; i < 2; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/tokenizer.json", dirs[i]);
        LA_TRY_DONE(la_json_load(path, LA_TOKENIZER_BYTES_MAX, &roots[i], err));
        LA_TRY_DONE(la_side_files_apply(dirs[i], roots[i], NULL, &files[i], err));
    }
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const json_t *x = json_object_get(roots[0], parts[i]);
        const json_t *y = json_object_get(roots[1], parts[i]);
        *agree &= json_equal(x, y) || (!la_json_is_set(x) && !la_json_is_set(y));
    }
    *agree &= same_added(json_object_get(roots[0], "added_tokens"),
                         json_object_get(roots[1], "added_tokens"));
    *agree &= files[0].splits_special == files[1].splits_special;
done:
    for (int i = 0; i < 2; i++) {
        la_side_files_free(&files[i]);
        json_decref(roots[i]);
    }
    return status;
}

void la_side_files_free(la_side_files *files) {
    json_decref(files->changes);
    files->changes = NULL;
}

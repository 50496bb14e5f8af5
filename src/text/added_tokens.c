#include "text/added_tokens.h"

#include <stdlib.h>
#include <string.h>

typedef struct loading {
    const la_text_source *source;
    const la_vocab *vocab;
    la_vocab added; /* contents to indices */
    la_normalizer *normalizer;
    la_added_tokens *out;
    la_trie_key *raw, *normalized;
    size_t n_raw, n_normalized, n_own, model_size;
    int64_t next_id, last_id; /* last_id: greatest id of an added token; -1: none */
} loading;

/* Form of the token in a normalised text; memory from the pool. */
static la_status normalize(loading *l, const char *content, size_t length, la_text *out) {
    const la_text_source *source = l->source;
    la_text text = {0};
    size_t lead = 0;
    la_status status = la_text_append(&text, content, length, source->err);
    if (status == LA_OK)
        status = la_normalizer_apply(l->normalizer, &text, &lead, source->err);
    if (status == LA_OK) {
        *out = (la_text){la_pool_text(source->pool, text.n ? text.data : "", text.n, source->err),
                         text.n, text.n};
        status = out->data ? LA_OK : source->err->status;
    }
    la_text_free(&text);
    return status;
}

/* The vocabulary's id where it has the token. The library numbers the others itself and does not
 * look at the id in the file. */
static la_status load_token(loading *l, const json_t *item, bool own) {
    const char *path = l->source->path, *content = NULL;
    la_error *err = l->source->err;
    int64_t id = -1;
    la_added_token token = {.normalized = true};
    LA_TRY(la_json_text(item, path, "content", true, &content, err));
    LA_TRY(la_json_int(item, path, "id", own, 0, INT32_MAX - 1, &id, err));
    LA_TRY(la_json_bool(item, path, "normalized", false, &token.normalized, err));
    LA_TRY(la_json_bool(item, path, "single_word", false, &token.single_word, err));
    LA_TRY(la_json_bool(item, path, "lstrip", false, &token.left, err));
    LA_TRY(la_json_bool(item, path, "rstrip", false, &token.right, err));
    LA_TRY(la_json_bool(item, path, "special", false, &token.special, err));
    size_t length = json_string_length(json_object_get(item, "content"));
    if (!length)
        return LA_OK;
    int32_t index = la_vocab_find(&l->added, content, length);
    bool again = index >= 0;
    if (!again)
        index = (int32_t)l->added.n;
    token.id = again ? l->out->tokens[index].id : la_vocab_find(l->vocab, content, length);
    if (token.id < 0)
        token.id = (int32_t)l->next_id++;
    if (!own && id >= 0 && id != token.id && !l->out->n_moved++) {
        l->out->moved = la_pool_text(l->source->pool, content, length, err);
        l->out->moved_id = token.id;
    }
    l->last_id = token.id > l->last_id ? token.id : l->last_id;
    /* once special, always: the last token's flags decide how it is matched */
    token.special |= again && l->out->tokens[index].special;
    l->out->tokens[index] = token;
    return again ? LA_OK : la_vocab_add(&l->added, content, length, index, err);
}

/* Keys for both tries, once the last of several tokens with one content is known. */
static la_status collect_keys(loading *l) {
    for (size_t i = 0; i < l->added.n; i++) {
        la_text key = {(char *)(uintptr_t)la_vocab_token(&l->added, i), l->added.entries[i].length,
                       0};
        bool normalized = l->out->tokens[i].normalized;
        if (normalized)
            LA_TRY(normalize(l, key.data, key.n, &key));
        if (!key.n)
            continue;
        la_trie_key entry = {key.data, key.n, (int32_t)i};
        if (normalized)
            l->normalized[l->n_normalized++] = entry;
        else
            l->raw[l->n_raw++] = entry;
    }
    LA_TRY(la_trie_build(&l->out->raw, l->raw, l->n_raw, l->source->err));
    return la_trie_build(&l->out->normalized, l->normalized, l->n_normalized, l->source->err);
}

static la_status load_all(loading *l, const json_t *json) {
    const la_text_source *source = l->source;
    size_t n = json_array_size(json), i;
    json_t *item;
    l->out->tokens = la_pool_take(source->pool, n, sizeof *l->out->tokens, source->err);
    l->raw = la_alloc(n, sizeof *l->raw, source->err);
    l->normalized = la_alloc(n, sizeof *l->normalized, source->err);
    if (!l->out->tokens || !l->raw || !l->normalized)
        return source->err->status;
    json_array_foreach(json, i, item) {
        if (!json_is_object(item))
            return la_fail(source->err, LA_BAD_INPUT,
                           "%s: added_tokens[%zu] is %s, expected an object", source->path, i,
                           la_json_kind(item));
        /* a second call of the library: it continues behind the greatest id, whatever that is */
        if (i == l->n_own && l->last_id >= (int64_t)l->model_size)
            l->next_id = l->last_id + 1;
        LA_TRY(load_token(l, item, i < l->n_own));
    }
    return collect_keys(l);
}

la_status la_added_tokens_load(const la_text_source *source, const json_t *json, size_t n_own,
                               const la_vocab *vocab, size_t model_size, la_normalizer *normalizer,
                               la_added_tokens *out) {
    if (json && !json_is_null(json) && !json_is_array(json))
        return la_fail(source->err, LA_BAD_INPUT, "%s: \"added_tokens\" is %s, expected an array",
                       source->path, la_json_kind(json));
    loading l = {.source = source,
                 .vocab = vocab,
                 .normalizer = normalizer,
                 .out = out,
                 .n_own = n_own,
                 .model_size = model_size,
                 .next_id = (int64_t)model_size,
                 .last_id = -1};
    la_status status = load_all(&l, json);
    la_vocab_free(&l.added);
    free(l.raw);
    free(l.normalized);
    return status;
}

void la_added_tokens_free(la_added_tokens *tokens) {
    la_trie_free(&tokens->raw);
    la_trie_free(&tokens->normalized);
    *tokens = (la_added_tokens){0};
}

/* Index of the longest token that text begins with; -1: none. *length: its bytes. */
static int32_t longest(const la_trie *trie, const char *text, size_t n, size_t *length) {
    int32_t best = -1;
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        node = la_trie_step(trie, node, (uint8_t)text[i]);
        if (!node)
            break;
        if (trie->nodes[node].value >= 0) {
            best = trie->nodes[node].value;
            *length = i + 1;
        }
    }
    return best;
}

static bool word_before(const char *text, size_t at) {
    size_t last = at ? la_utf8_last(text, at) : 0;
    return at && la_is_word(la_utf8_next(text, &last));
}

static bool word_after(const char *text, size_t n, size_t at) {
    return at < n && la_is_word(la_utf8_next(text, &at));
}

static size_t spaces_before(const char *text, size_t least, size_t at) {
    while (at > least) {
        size_t last = la_utf8_last(text, at), next = last;
        if (!la_is_white_space(la_utf8_next(text, &next)))
            break;
        at = last;
    }
    return at;
}

static size_t spaces_after(const char *text, size_t n, size_t at) {
    for (size_t next = at; at < n; at = next)
        if (!la_is_white_space(la_utf8_next(text, &next)))
            break;
    return at;
}

la_status la_added_tokens_split(const la_added_tokens *tokens, const la_trie *trie,
                                const char *text, size_t n, la_piece_sink sink, void *user) {
    size_t done = 0;
    for (size_t at = 0; trie->n > 1 && at < n;) {
        size_t length = 0;
        int32_t index =
            trie->roots[(uint8_t)text[at]] ? longest(trie, text + at, n - at, &length) : -1;
        if (index < 0) {
            at++;
            continue;
        }
        const la_added_token *token = &tokens->tokens[index];
        size_t from = at, to = at + length;
        at = to;
        if (tokens->splits_special && token->special)
            continue;
        if (token->single_word && (word_before(text, from) || word_after(text, n, to)))
            continue;
        if (token->left)
            from = spaces_before(text, done, from);
        if (token->right)
            to = spaces_after(text, n, to);
        /* a token that took the spaces may have taken the beginning of a later one with them */
        if (from > done)
            LA_TRY(sink(user, text + done, from - done, done, -1));
        LA_TRY(sink(user, text + from, to - from, from, token->id));
        done = to;
    }
    return n > done ? sink(user, text + done, n - done, done, -1) : LA_OK;
}

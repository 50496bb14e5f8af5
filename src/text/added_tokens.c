#include "text/parts.h"

#include <stdlib.h>
#include <string.h>

static la_status load_token(const la_text_source *source, const json_t *item, const json_t *vocab,
                            const la_normalizer *normalizer, la_added_token *token,
                            bool *normalized) {
    const char *path = source->path, *content = NULL;
    int64_t id = 0;
    *normalized = true;
    LA_TRY(la_json_text(item, path, "content", true, &content, source->err));
    LA_TRY(la_json_int(item, path, "id", true, 0, INT32_MAX - 1, &id, source->err));
    LA_TRY(la_json_bool(item, path, "normalized", false, normalized, source->err));
    LA_TRY(la_json_bool(item, path, "single_word", false, &token->single_word, source->err));
    LA_TRY(la_json_bool(item, path, "lstrip", false, &token->left, source->err));
    LA_TRY(la_json_bool(item, path, "rstrip", false, &token->right, source->err));
    /* the library goes by the vocabulary where the token is in it */
    const json_t *known = json_object_get(vocab, content);
    token->id = (int32_t)(known ? json_integer_value(known) : id);
    la_codes codes = {0}, spare = {0};
    la_status status = la_codes_decode(
        &codes, content, json_string_length(json_object_get(item, "content")), source->err);
    if (status == LA_OK && *normalized)
        status = la_normalizer_apply(normalizer, &codes, &spare, source->err);
    if (status == LA_OK) {
        token->content.n = codes.n;
        token->content.data = la_pool_take(source->pool, codes.n, sizeof(int32_t), source->err);
        if (!token->content.data)
            status = source->err->status;
        else if (codes.n)
            memcpy(token->content.data, codes.data, codes.n * sizeof(int32_t));
    }
    la_codes_free(&codes);
    la_codes_free(&spare);
    return status;
}

la_status la_added_tokens_load(const la_text_source *source, const json_t *json,
                               const json_t *vocab, const la_normalizer *normalizer,
                               la_added_tokens *out) {
    *out = (la_added_tokens){0};
    size_t n = json_array_size(json), i;
    out->raw = la_pool_take(source->pool, n, sizeof *out->raw, source->err);
    out->normalized = la_pool_take(source->pool, n, sizeof *out->normalized, source->err);
    if (!out->raw || !out->normalized)
        return source->err->status;
    json_t *item;
    json_array_foreach(json, i, item) {
        la_added_token token = {0};
        bool normalized;
        if (!json_is_object(item))
            return la_fail(source->err, LA_BAD_INPUT,
                           "%s: added_tokens[%zu] is %s, expected an object", source->path, i,
                           la_json_kind(item));
        LA_TRY(load_token(source, item, vocab, normalizer, &token, &normalized));
        if (!token.content.n)
            continue;
        if (normalized)
            out->normalized[out->n_normalized++] = token;
        else
            out->raw[out->n_raw++] = token;
    }
    return LA_OK;
}

static const la_added_token *longest_at(const la_added_token *tokens, size_t n_tokens,
                                        const int32_t *text, size_t n) {
    const la_added_token *best = NULL;
    for (size_t i = 0; i < n_tokens; i++) {
        const la_codes *content = &tokens[i].content;
        if (content->n <= n && content->data[0] == text[0] &&
            (!best || content->n > best->content.n) &&
            !memcmp(content->data, text, content->n * sizeof *text))
            best = &tokens[i];
    }
    return best;
}

la_status la_added_tokens_split(const la_added_token *tokens, size_t n_tokens, const int32_t *text,
                                size_t n, la_piece_sink sink, void *user) {
    size_t done = 0;
    for (size_t at = 0; n_tokens && at < n;) {
        const la_added_token *token = longest_at(tokens, n_tokens, text + at, n - at);
        if (!token) {
            at++;
            continue;
        }
        size_t from = at, to = at + token->content.n;
        at = to;
        bool inside = (from > 0 && la_is_word(text[from - 1])) || (to < n && la_is_word(text[to]));
        if (token->single_word && inside)
            continue;
        while (token->left && from > done && la_is_white_space(text[from - 1]))
            from--;
        while (token->right && to < n && la_is_white_space(text[to]))
            to++;
        if (from > done)
            LA_TRY(sink(user, text + done, from - done, -1));
        LA_TRY(sink(user, text + from, to - from, token->id));
        done = to;
    }
    return n > done ? sink(user, text + done, n - done, -1) : LA_OK;
}

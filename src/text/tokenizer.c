#include "text/tokenizer.h"
#include "text/parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TOKENIZER_BYTES_MAX = 256 << 20 };

struct la_tokenizer {
    la_pool pool;
    json_t *root; /* holds the vocabulary */
    la_normalizer normalizer;
    la_pretokenizer pretokenizer;
    la_wordpiece model;
    la_added_tokens added;
    la_postprocess post;
    int64_t preset_length; /* 0: none */
    bool preset_left;
    char digest[LA_DIGEST_TEXT];
    /* workspaces of an encode */
    la_codes raw, piece, spare;
    la_ids texts[2];
};

static la_status load_truncation(const la_text_source *source, const json_t *json,
                                 la_tokenizer *tokenizer) {
    if (!json || json_is_null(json))
        return LA_OK;
    const char *strategy = "LongestFirst", *direction = "Right";
    LA_TRY(la_json_text(json, source->path, "strategy", false, &strategy, source->err));
    LA_TRY(la_json_text(json, source->path, "direction", false, &direction, source->err));
    if (strcmp(strategy, "LongestFirst"))
        return la_fail(source->err, LA_UNSUPPORTED,
                       "%s: truncation strategy \"%s\" is not supported", source->path, strategy);
    tokenizer->preset_left = !strcasecmp(direction, "left");
    return la_json_int(json, source->path, "max_length", true, 1, INT32_MAX,
                       &tokenizer->preset_length, source->err);
}

static la_status load(const la_text_source *source, la_tokenizer *tokenizer) {
    const json_t *root = tokenizer->root, *model = json_object_get(root, "model");
    const char *type = NULL;
    if (!json_is_object(model))
        return la_fail(source->err, LA_BAD_INPUT, "%s: \"model\" is %s, expected an object",
                       source->path, la_json_kind(model));
    LA_TRY(la_json_text(model, source->path, "type", true, &type, source->err));
    if (strcmp(type, "WordPiece"))
        return la_fail(source->err, LA_UNSUPPORTED,
                       "%s: tokenizer model \"%s\" is not supported (WordPiece is); rows may carry "
                       "\"input_ids\" instead of text",
                       source->path, type);
    LA_TRY(la_wordpiece_load(source, model, &tokenizer->model));
    LA_TRY(la_normalizer_load(source, json_object_get(root, "normalizer"), &tokenizer->normalizer));
    LA_TRY(la_pretokenizer_load(source, json_object_get(root, "pre_tokenizer"),
                                &tokenizer->pretokenizer));
    LA_TRY(la_added_tokens_load(source, json_object_get(root, "added_tokens"),
                                tokenizer->model.vocab, &tokenizer->normalizer, &tokenizer->added));
    LA_TRY(la_postprocess_load(source, json_object_get(root, "post_processor"), &tokenizer->post));
    return load_truncation(source, json_object_get(root, "truncation"), tokenizer);
}

static la_status digest_file(const char *path, char out[LA_DIGEST_TEXT], la_error *err) {
    char *data;
    size_t length;
    LA_TRY(la_file_read(path, TOKENIZER_BYTES_MAX, &data, &length, err));
    la_digest *digest = la_digest_new(err);
    if (digest) {
        la_digest_add(digest, data, length);
        la_digest_finish(digest, out);
    }
    free(data);
    return err->status;
}

la_status la_tokenizer_open(const char *dir, la_tokenizer **out, la_error *err) {
    char path[4096];
    *out = NULL;
    if ((size_t)snprintf(path, sizeof path, "%s/tokenizer.json", dir) >= sizeof path)
        return la_fail(err, LA_USAGE, "the path of the base is too long");
    if (access(path, F_OK))
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: no such file; make it with `AutoTokenizer.from_pretrained(DIR)."
                       "save_pretrained(DIR)` (a fast tokenizer), or give rows with \"input_ids\"",
                       path);
    la_tokenizer *tokenizer = la_alloc(1, sizeof *tokenizer, err);
    if (!tokenizer)
        return err->status;
    la_text_source source = {path, &tokenizer->pool, err};
    la_status status = la_json_load(path, TOKENIZER_BYTES_MAX, &tokenizer->root, err);
    if (status == LA_OK)
        status = digest_file(path, tokenizer->digest, err);
    if (status == LA_OK)
        status = load(&source, tokenizer);
    if (status != LA_OK) {
        la_tokenizer_close(tokenizer);
        return status;
    }
    *out = tokenizer;
    return LA_OK;
}

void la_tokenizer_close(la_tokenizer *tokenizer) {
    if (!tokenizer)
        return;
    json_decref(tokenizer->root);
    la_codes_free(&tokenizer->raw);
    la_codes_free(&tokenizer->piece);
    la_codes_free(&tokenizer->spare);
    free(tokenizer->texts[0].data);
    free(tokenizer->texts[1].data);
    la_pool_free(&tokenizer->pool);
    free(tokenizer);
}

const char *la_tokenizer_digest(const la_tokenizer *tokenizer) {
    return tokenizer->digest;
}

void la_encoding_free(la_encoding *encoding) {
    free(encoding->ids);
    free(encoding->types);
    *encoding = (la_encoding){0};
}

/* ---- one text, through all parts ---- */

typedef struct pass {
    la_tokenizer *tokenizer;
    la_ids *ids;
    la_error *err;
} pass;

static la_status take_word(void *user, const int32_t *word, size_t n) {
    pass *p = user;
    return la_wordpiece_encode(&p->tokenizer->model, word, n, p->ids, p->err);
}

static la_status take_normal_piece(void *user, const int32_t *text, size_t n, int32_t id) {
    pass *p = user;
    if (id >= 0)
        return la_ids_push(p->ids, id, p->err);
    return la_pretokenizer_apply(&p->tokenizer->pretokenizer, text, n, take_word, user);
}

static la_status take_raw_piece(void *user, const int32_t *text, size_t n, int32_t id) {
    pass *p = user;
    la_tokenizer *t = p->tokenizer;
    if (id >= 0)
        return la_ids_push(p->ids, id, p->err);
    t->piece.n = 0;
    LA_TRY(la_codes_append(&t->piece, text, n, p->err));
    LA_TRY(la_normalizer_apply(&t->normalizer, &t->piece, &t->spare, p->err));
    return la_added_tokens_split(t->added.normalized, t->added.n_normalized, t->piece.data,
                                 t->piece.n, take_normal_piece, user);
}

static la_status encode_text(la_tokenizer *tokenizer, const char *text, size_t length, la_ids *ids,
                             la_error *err) {
    pass p = {tokenizer, ids, err};
    ids->n = 0;
    LA_TRY(la_codes_decode(&tokenizer->raw, text, length, err));
    return la_added_tokens_split(tokenizer->added.raw, tokenizer->added.n_raw, tokenizer->raw.data,
                                 tokenizer->raw.n, take_raw_piece, &p);
}

/* Lengths that two texts keep when room tokens are left: the longer one gives first. */
static void share_room(int64_t room, int64_t *a, int64_t *b) {
    bool swapped = *a > *b;
    int64_t less = swapped ? *b : *a, more;
    more = less > room ? less : less > room - less ? less : room - less;
    if (less + more > room) {
        less = room / 2;
        more = less + room % 2;
    }
    *a = swapped ? more : less;
    *b = swapped ? less : more;
}

static void cut(la_ids *ids, int64_t keep, bool left) {
    if (keep >= (int64_t)ids->n)
        return;
    if (left)
        memmove(ids->data, ids->data + ids->n - (size_t)keep, (size_t)keep * sizeof *ids->data);
    ids->n = (size_t)keep;
}

la_status la_tokenizer_encode(la_tokenizer *tokenizer, const char *text, size_t length,
                              const char *pair, size_t pair_length,
                              const la_encode_options *options, la_encoding *out, la_error *err) {
    la_ids *texts = tokenizer->texts;
    const la_template_piece plain[] = {{.sequence = 0}, {.sequence = 1}};
    const la_template_piece *pieces = pair ? tokenizer->post.pair : tokenizer->post.single;
    int n_pieces = pair ? tokenizer->post.n_pair : tokenizer->post.n_single;
    if (options->no_special) {
        pieces = plain;
        n_pieces = pair ? 2 : 1;
    }
    int64_t added = la_postprocess_added(pieces, n_pieces);
    int64_t limit = options->max_length ? options->max_length : tokenizer->preset_length;
    bool left = options->max_length ? options->truncate_left : tokenizer->preset_left;
    if (limit && limit < added)
        return la_fail(err, LA_USAGE,
                       "a maximum length of %lld does not hold the %lld special tokens",
                       (long long)limit, (long long)added);
    LA_TRY(encode_text(tokenizer, text, length, &texts[0], err));
    texts[1].n = 0;
    if (pair)
        LA_TRY(encode_text(tokenizer, pair, pair_length, &texts[1], err));
    int64_t a = (int64_t)texts[0].n, b = (int64_t)texts[1].n;
    out->truncated = limit && a + b > limit - added;
    if (out->truncated) {
        if (pair)
            share_room(limit - added, &a, &b);
        else
            a = limit - added;
        cut(&texts[0], a, left);
        cut(&texts[1], b, left);
    }
    size_t total = texts[0].n + texts[1].n + (size_t)added;
    LA_TRY(la_grow(&out->ids, &out->ids_capacity, total, sizeof *out->ids, err));
    LA_TRY(la_grow(&out->types, &out->types_capacity, total, sizeof *out->types, err));
    out->n = 0;
    for (int i = 0; i < n_pieces; i++) {
        const int32_t *ids =
            pieces[i].sequence < 0 ? pieces[i].ids : texts[pieces[i].sequence].data;
        size_t n = pieces[i].sequence < 0 ? pieces[i].n_ids : texts[pieces[i].sequence].n;
        /* a template may name a text twice: the sums above counted it once */
        LA_TRY(la_grow(&out->ids, &out->ids_capacity, (size_t)out->n + n, sizeof *out->ids, err));
        LA_TRY(la_grow(&out->types, &out->types_capacity, (size_t)out->n + n, sizeof *out->types,
                       err));
        for (size_t j = 0; j < n; j++, out->n++) {
            out->ids[out->n] = ids[j];
            out->types[out->n] = pieces[i].type;
        }
    }
    return LA_OK;
}

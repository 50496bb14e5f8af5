#include "text/tokenizer.h"
#include "input/folders.h"
#include "text/added_tokens.h"
#include "text/model.h"
#include "text/postprocess.h"
#include "text/pretokenizer.h"
#include "text/side_files.h"
#include "text/truncation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct la_tokenizer {
    la_pool pool;
    la_normalizer normalizer;
    la_pretokenizer pretokenizer;
    la_text_model model;
    la_added_tokens added;
    la_postprocess post;
    la_truncation preset;
    la_side truncation_side;
    int64_t max_length;
    bool no_types, has_chat;
    char digest[LA_DIGEST_TEXT];
    /* workspaces of an encode */
    la_text piece;
    la_ids texts[2];
};

static la_status load(const la_text_source *source, const json_t *root, size_t n_own,
                      la_tokenizer *tokenizer) {
    LA_TRY(la_text_model_load(source, json_object_get(root, "model"), &tokenizer->model));
    LA_TRY(la_normalizer_load(source, json_object_get(root, "normalizer"), &tokenizer->normalizer));
    LA_TRY(la_pretokenizer_load(source, json_object_get(root, "pre_tokenizer"),
                                &tokenizer->pretokenizer));
    LA_TRY(la_added_tokens_load(source, json_object_get(root, "added_tokens"), n_own,
                                &tokenizer->model.vocab, tokenizer->model.size,
                                &tokenizer->normalizer, &tokenizer->added));
    LA_TRY(la_postprocess_load(source, json_object_get(root, "post_processor"), &tokenizer->post));
    return la_truncation_load(source, json_object_get(root, "truncation"), &tokenizer->preset);
}

/* changes: made by the files beside it; NULL: none, and the digest is the file's alone. */
static la_status digest_file(const char *path, const json_t *changes, char out[LA_DIGEST_TEXT],
                             la_error *err) {
    char *data;
    size_t length;
    LA_TRY(la_file_read(path, LA_TOKENIZER_BYTES_MAX, &data, &length, err));
    la_digest *digest = la_digest_new(err);
    char *text = changes ? json_dumps(changes, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (digest) {
        la_digest_add(digest, data, length);
        if (changes)
            la_digest_add_text(digest, text ? text : "");
        la_digest_finish(digest, out);
    }
    free(text);
    free(data);
    return err->status;
}

/* File of a vocabulary in another format; NULL: none. */
static const char *other_vocabulary(const char *dir) {
    static const char *const names[] = {
        "tokenizer.model", "spiece.model",   "sentencepiece.bpe.model",
        "tekken.json",     "tiktoken.model", "vocab.json",
        "vocab.txt",       "merges.txt"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (la_folder_has(dir, names[i]))
            return names[i];
    return NULL;
}

bool la_tokenizer_is_in(const char *dir) {
    return la_folder_has(dir, "tokenizer.json") || other_vocabulary(dir);
}

/* Names the vocabulary that the directory has instead of tokenizer.json, and how to convert it. */
static la_status refuse_folder(const char *dir, const char *path, la_error *err) {
    const char *other = other_vocabulary(dir);
    if (other)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: no such file, and %s alone is not supported; convert it with python "
                       "-c 'from transformers import AutoTokenizer as T; "
                       "T.from_pretrained(\"%s\").save_pretrained(\"%s\")', or give rows with "
                       "\"input_ids\"",
                       path, other, dir, dir);
    return la_fail(err, LA_UNSUPPORTED,
                   "%s: no such file; make it with `AutoTokenizer.from_pretrained(DIR)."
                   "save_pretrained(DIR)` (a fast tokenizer), or give rows with \"input_ids\"",
                   path);
}

/* alone: without the files beside it */
static la_status open_file(const char *dir, const char *path, bool alone, const la_log *log,
                           la_tokenizer *tokenizer, la_error *err) {
    la_text_source source = {path, &tokenizer->pool, err};
    la_side_files side = {0};
    json_t *root = NULL;
    la_status status = LA_OK;
    LA_TRY_DONE(la_json_load(path, LA_TOKENIZER_BYTES_MAX, &root, err));
    side.n_own = json_array_size(json_object_get(root, "added_tokens"));
    if (!alone)
        LA_TRY_DONE(la_side_files_apply(dir, root, log, &side, err));
    LA_TRY_DONE(digest_file(path, side.changes, tokenizer->digest, err));
    LA_TRY_DONE(load(&source, root, side.n_own, tokenizer));
    tokenizer->added.splits_special = side.splits_special;
    tokenizer->truncation_side = side.truncation_side;
    tokenizer->no_types = side.no_types;
    tokenizer->max_length = side.max_length;
    tokenizer->has_chat = side.has_chat;
    if (tokenizer->added.n_moved)
        la_warn(log,
                "%s: %lld added tokens have other ids than the files beside tokenizer.json say, as "
                "in transformers; the first is \"%s\", %d",
                dir, (long long)tokenizer->added.n_moved, tokenizer->added.moved,
                tokenizer->added.moved_id);
done:
    la_side_files_free(&side);
    json_decref(root);
    return status;
}

static la_status open_folder(const char *dir, bool alone, const la_log *log, la_tokenizer **out,
                             la_error *err) {
    char path[4096];
    *out = NULL;
    if ((size_t)snprintf(path, sizeof path, "%s/tokenizer.json", dir) >= sizeof path)
        return la_fail(err, LA_USAGE, "the path of the base is too long");
    if (!la_folder_has(dir, "tokenizer.json"))
        return refuse_folder(dir, path, err);
    la_tokenizer *tokenizer = la_alloc(1, sizeof *tokenizer, err);
    if (!tokenizer)
        return err->status;
    la_status status = open_file(dir, path, alone, log, tokenizer, err);
    if (status != LA_OK) {
        la_tokenizer_close(tokenizer);
        return status;
    }
    *out = tokenizer;
    return LA_OK;
}

la_status la_tokenizer_open(const char *dir, const la_log *log, la_tokenizer **out, la_error *err) {
    return open_folder(dir, false, log, out, err);
}

la_status la_tokenizer_open_alone(const char *dir, la_tokenizer **out, la_error *err) {
    return open_folder(dir, true, NULL, out, err);
}

void la_tokenizer_close(la_tokenizer *tokenizer) {
    if (!tokenizer)
        return;
    la_normalizer_free(&tokenizer->normalizer);
    la_pretokenizer_free(&tokenizer->pretokenizer);
    la_text_model_free(&tokenizer->model);
    la_added_tokens_free(&tokenizer->added);
    la_text_free(&tokenizer->piece);
    free(tokenizer->texts[0].data);
    free(tokenizer->texts[1].data);
    la_pool_free(&tokenizer->pool);
    free(tokenizer);
}

const char *la_tokenizer_digest(const la_tokenizer *tokenizer) {
    return tokenizer->digest;
}

int64_t la_tokenizer_max_length(const la_tokenizer *tokenizer) {
    return tokenizer->max_length;
}

bool la_tokenizer_has_chat(const la_tokenizer *tokenizer) {
    return tokenizer->has_chat;
}

bool la_tokenizer_cuts_left(const la_tokenizer *tokenizer) {
    return tokenizer->truncation_side == LA_SIDE_LEFT;
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
    size_t lead; /* lead of the normalised piece */
    la_error *err;
} pass;

static la_status take_word(void *user, const char *word, size_t n) {
    pass *p = user;
    return la_text_model_encode(&p->tokenizer->model, word, n, p->ids, p->err);
}

static la_status take_normal_piece(void *user, const char *text, size_t n, size_t from,
                                   int32_t id) {
    pass *p = user;
    if (id >= 0)
        return la_ids_push(p->ids, id, p->err);
    size_t lead = p->lead > from ? p->lead - from : 0;
    return la_pretokenizer_apply(&p->tokenizer->pretokenizer, text, n, lead < n ? lead : n,
                                 take_word, user, p->err);
}

static la_status take_raw_piece(void *user, const char *text, size_t n, size_t from, int32_t id) {
    pass *p = user;
    la_tokenizer *t = p->tokenizer;
    if (id >= 0)
        return la_ids_push(p->ids, id, p->err);
    p->lead = from ? 0 : la_utf8_size(text[0]);
    if (t->normalizer.n_steps) {
        t->piece.n = 0;
        LA_TRY(la_text_append(&t->piece, text, n, p->err));
        LA_TRY(la_normalizer_apply(&t->normalizer, &t->piece, &p->lead, p->err));
        text = t->piece.data;
        n = t->piece.n;
    }
    return la_added_tokens_split(&t->added, &t->added.normalized, text, n, take_normal_piece, user);
}

/* Appends the ids of a text. */
static la_status encode_text(la_tokenizer *tokenizer, const char *text, size_t length, la_ids *ids,
                             la_error *err) {
    pass p = {tokenizer, ids, 0, err};
    LA_TRY(la_utf8_check(text, length, err));
    return la_added_tokens_split(&tokenizer->added, &tokenizer->added.raw, text, length,
                                 take_raw_piece, &p);
}

/* Texts and special tokens as they are put together. */
typedef struct assembly {
    const la_template_piece *pieces;
    int n_pieces;
    la_truncation truncation;
    int64_t added; /* special tokens */
} assembly;

static const la_template_piece plain_pieces[] = {{.sequence = 0}, {.sequence = 1}};

static la_status plan_assembly(const la_tokenizer *tokenizer, bool pair,
                               const la_encode_options *options, assembly *plan, la_error *err) {
    const la_postprocess *post = &tokenizer->post;
    *plan = (assembly){.pieces = pair ? post->pair : post->single,
                       .n_pieces = pair ? post->n_pair : post->n_single,
                       .truncation = tokenizer->preset};
    if (options->no_special) {
        plan->pieces = plain_pieces;
        plan->n_pieces = pair ? 2 : 1;
    }
    plan->added = la_postprocess_added(plan->pieces, plan->n_pieces);
    if (options->max_length)
        plan->truncation =
            (la_truncation){options->max_length, LA_LONGEST_FIRST, options->truncate_left};
    int64_t limit = plan->truncation.max_length;
    if (limit && limit < plan->added)
        return la_fail(err, LA_USAGE,
                       "a maximum length of %lld does not hold the %lld special tokens",
                       (long long)limit, (long long)plan->added);
    return LA_OK;
}

static la_status assemble(la_tokenizer *tokenizer, bool pair, const assembly *plan,
                          la_encoding *out, la_error *err) {
    la_ids *texts = tokenizer->texts;
    const la_template_piece *pieces = plan->pieces;
    int64_t limit = plan->truncation.max_length;
    out->truncated = false;
    if (limit)
        LA_TRY(la_truncation_apply(&plan->truncation, limit - plan->added, &texts[0],
                                   pair ? &texts[1] : NULL, &out->truncated, err));
    size_t total = texts[0].n + texts[1].n + (size_t)plan->added;
    LA_TRY(la_grow(&out->ids, &out->ids_capacity, total, sizeof *out->ids, err));
    LA_TRY(la_grow(&out->types, &out->types_capacity, total, sizeof *out->types, err));
    out->n = 0;
    for (int i = 0; i < plan->n_pieces; i++) {
        const int32_t *ids =
            pieces[i].sequence < 0 ? pieces[i].ids : texts[pieces[i].sequence].data;
        size_t n = pieces[i].sequence < 0 ? pieces[i].n_ids : texts[pieces[i].sequence].n;
        /* a template may name a text twice: the sums above counted it once */
        LA_TRY(la_grow(&out->ids, &out->ids_capacity, (size_t)out->n + n, sizeof *out->ids, err));
        LA_TRY(la_grow(&out->types, &out->types_capacity, (size_t)out->n + n, sizeof *out->types,
                       err));
        for (size_t j = 0; j < n; j++, out->n++) {
            out->ids[out->n] = ids[j];
            out->types[out->n] = tokenizer->no_types ? 0 : pieces[i].type;
        }
    }
    return LA_OK;
}

la_status la_tokenizer_encode(la_tokenizer *tokenizer, const char *text, size_t length,
                              const char *pair, size_t pair_length,
                              const la_encode_options *options, la_encoding *out, la_error *err) {
    la_ids *texts = tokenizer->texts;
    assembly plan;
    LA_TRY(plan_assembly(tokenizer, pair != NULL, options, &plan, err));
    texts[0].n = texts[1].n = 0;
    LA_TRY(encode_text(tokenizer, text, length, &texts[0], err));
    if (pair)
        LA_TRY(encode_text(tokenizer, pair, pair_length, &texts[1], err));
    return assemble(tokenizer, pair != NULL, &plan, out, err);
}

la_status la_tokenizer_encode_words(la_tokenizer *tokenizer, la_word *words, int64_t n_words,
                                    const la_encode_options *options, la_encoding *out,
                                    la_error *err) {
    la_ids *ids = &tokenizer->texts[0];
    assembly plan;
    LA_TRY(plan_assembly(tokenizer, false, options, &plan, err));
    ids->n = tokenizer->texts[1].n = 0;
    for (int64_t w = 0; w < n_words; w++) {
        size_t from = ids->n;
        LA_TRY(encode_text(tokenizer, words[w].text, words[w].length, ids, err));
        words[w].place = ids->n > from ? (int64_t)from : -1;
    }
    size_t whole = ids->n;
    LA_TRY(assemble(tokenizer, false, &plan, out, err));
    int64_t kept = (int64_t)ids->n, cut = plan.truncation.left ? (int64_t)whole - kept : 0;
    int64_t before = 0;
    for (int i = 0; i < plan.n_pieces && plan.pieces[i].sequence < 0; i++)
        before += (int64_t)plan.pieces[i].n_ids;
    for (int64_t w = 0; w < n_words; w++) {
        int64_t place = words[w].place - cut;
        words[w].place = words[w].place < 0 || place < 0 || place >= kept ? -1 : place + before;
    }
    return LA_OK;
}

#include "text/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double UNKNOWN_PENALTY = 10;

/* ---- scores as the library reads them ---- */

/* Its JSON reader makes a number of digits and a power of ten with one division, which is not
 * always the nearest double: between equal sums the last bit decides. The digits are those of the
 * shortest text that gives the number, which is what files are written with. */
static double read_as_library(double value) {
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    /* digits that a double holds exactly: the quotient is the nearest double after all */
    for (int i = 0; i < 16 && fabs(value) * powers[i] < 0x1p53; i++)
        if (nearbyint(value * powers[i]) / powers[i] == value)
            return value;
    char text[64];
    int precision = 16;
    do
        snprintf(text, sizeof text, "%.*e", precision - 1, value);
    while (strtod(text, NULL) != value && ++precision <= 17);
    char digits[64];
    size_t n = 0;
    const char *at = text + (text[0] == '-');
    for (; *at && *at != 'e'; at++)
        if (*at != '.')
            digits[n++] = *at;
    if (*at != 'e' || n > 17)
        return value; /* not finite */
    digits[n] = 0;
    long exponent = strtol(at + 1, NULL, 10) - ((long)n - 1);
    while (n > 1 && digits[n - 1] == '0') {
        digits[--n] = 0;
        exponent++;
    }
    if (exponent > 0 || exponent < -22)
        return value;
    double whole = (double)strtoull(digits, NULL, 10) / powers[-exponent];
    return text[0] == '-' ? -whole : whole;
}

/* ---- encoding ---- */

static void offer(la_unigram_node *node, double score, size_t from, int32_t id) {
    if (node->from >= 0 && !(score > node->score))
        return;
    *node = (la_unigram_node){score, (int64_t)from, id};
}

static la_status no_unknown(la_error *err) {
    return la_fail(err, LA_BAD_INPUT,
                   "a character is not in the vocabulary, which has no unk_id either");
}

/* nodes[i]: the best segmentation of the first i bytes. */
static la_status find_best(const la_unigram *u, const char *word, size_t n, la_error *err) {
    la_unigram_node *nodes = u->nodes;
    for (size_t i = 0; i <= n; i++)
        nodes[i] = (la_unigram_node){.from = -1};
    for (size_t from = 0, next; from < n; from = next) {
        double so_far = nodes[from].score;
        bool single = false;
        uint32_t node = 0;
        next = from + la_utf8_size(word[from]);
        for (size_t to = from; to < n; to++) {
            node = la_trie_step(&u->trie, node, (uint8_t)word[to]);
            if (!node)
                break;
            int32_t id = u->trie.nodes[node].value;
            if (id < 0)
                continue;
            offer(&nodes[to + 1], u->scores[id] + so_far, from, id);
            single |= to + 1 == next;
        }
        if (single)
            continue;
        offer(&nodes[next], u->unknown_score + so_far, from, u->unknown_id);
        if (nodes[next].id < 0)
            return no_unknown(err);
    }
    return LA_OK;
}

static la_status push_piece(la_text_model *model, const char *text, size_t n, la_ids *ids,
                            la_error *err) {
    const la_unigram *u = &model->unigram;
    int32_t id = la_vocab_find(&model->vocab, text, n);
    if (id >= 0)
        return la_ids_push(ids, id, err);
    bool bytes = u->byte_fallback;
    for (size_t i = 0; bytes && i < n; i++)
        bytes = u->bytes[(unsigned char)text[i]] >= 0;
    for (size_t i = 0; bytes && i < n; i++)
        LA_TRY(la_ids_push(ids, u->bytes[(unsigned char)text[i]], err));
    if (!bytes && u->unknown_id < 0)
        return no_unknown(err);
    return bytes ? LA_OK : la_ids_push(ids, u->unknown_id, err);
}

static la_status encode(la_text_model *model, const char *word, size_t n, la_ids *ids,
                        la_error *err) {
    la_unigram *u = &model->unigram;
    LA_TRY(la_grow(&u->nodes, &u->nodes_capacity, n + 1, sizeof *u->nodes, err));
    LA_TRY(find_best(u, word, n, err));
    /* the links lead from the end to the beginning: reversed, next of `from` is where it ends */
    for (size_t end = n; end > 0;) {
        size_t from = (size_t)u->nodes[end].from;
        u->nodes[from].score = (double)end;
        end = from;
    }
    for (size_t from = 0; from < n;) {
        size_t to = (size_t)u->nodes[from].score;
        /* unknown characters in a row are one */
        if (u->unknown_id >= 0 && u->nodes[to].id == u->unknown_id)
            while (to < n && u->nodes[(size_t)u->nodes[to].score].id == u->unknown_id)
                to = (size_t)u->nodes[to].score;
        LA_TRY(push_piece(model, word + from, to - from, ids, err));
        from = to;
    }
    return LA_OK;
}

/* ---- loading ---- */

static void close(la_text_model *model) {
    la_trie_free(&model->unigram.trie);
    free(model->unigram.nodes);
}

static la_status load_pieces(const la_text_source *source, const json_t *list, la_text_model *out) {
    la_unigram *u = &out->unigram;
    size_t n = json_array_size(list), i;
    json_t *item;
    u->scores = la_pool_take(source->pool, n, sizeof *u->scores, source->err);
    if (!u->scores)
        return source->err->status;
    double least = HUGE_VAL;
    json_array_foreach(list, i, item) {
        const json_t *text = json_array_get(item, 0), *score = json_array_get(item, 1);
        if (json_array_size(item) != 2 || !json_is_string(text) || !json_is_number(score))
            return la_fail(source->err, LA_BAD_INPUT, "%s: model.vocab[%zu] is no [token, score]",
                           source->path, i);
        u->scores[i] = json_is_integer(score) ? (double)json_integer_value(score)
                                              : read_as_library(json_real_value(score));
        least = u->scores[i] < least ? u->scores[i] : least;
        /* the last of equal pieces counts */
        LA_TRY(la_vocab_add(&out->vocab, json_string_value(text), json_string_length(text),
                            (int32_t)i, source->err));
    }
    u->unknown_score = least - UNKNOWN_PENALTY;
    out->size = n;
    return LA_OK;
}

static la_status build_trie(la_text_model *model, la_error *err) {
    const la_vocab *vocab = &model->vocab;
    size_t n = 0;
    la_trie_key *keys = la_alloc(vocab->n, sizeof *keys, err);
    if (!keys)
        return err->status;
    for (size_t i = 0; i < vocab->n; i++)
        if (vocab->entries[i].length)
            keys[n++] = (la_trie_key){la_vocab_token(vocab, i), vocab->entries[i].length,
                                      vocab->entries[i].id};
    la_status status = la_trie_build(&model->unigram.trie, keys, n, err);
    free(keys);
    return status;
}

la_status la_unigram_load(const la_text_source *source, const json_t *json, la_text_model *out) {
    la_unigram *u = &out->unigram;
    const json_t *list = json_object_get(json, "vocab");
    int64_t unknown = -1;
    *u = (la_unigram){0};
    out->encode = encode;
    out->free = close;
    out->cached = true;
    if (!json_is_array(list) || !json_array_size(list) || json_array_size(list) > LA_TOKEN_IDS_MAX)
        return la_fail(source->err, LA_BAD_INPUT,
                       "%s: model.vocab is %s, expected an array of [token, score]", source->path,
                       la_json_kind(list));
    LA_TRY(la_json_int(json, source->path, "unk_id", false, 0, (int64_t)json_array_size(list) - 1,
                       &unknown, source->err));
    LA_TRY(la_source_flag(source, json, "byte_fallback", &u->byte_fallback));
    u->unknown_id = (int32_t)unknown;
    LA_TRY(load_pieces(source, list, out));
    la_vocab_bytes(&out->vocab, u->bytes);
    return build_trie(out, source->err);
}

#include "text/model.h"

#include <stdlib.h>
#include <string.h>

enum { SHORT_CODES = 0x800 };

/* ---- symbols that a word begins with ---- */

static la_status add_symbol(la_bpe *bpe, int32_t id, la_error *err) {
    int32_t n = (int32_t)bpe->n_symbols;
    if (bpe->n_symbols == bpe->symbols_capacity)
        LA_TRY(la_grow(&bpe->symbols, &bpe->symbols_capacity, bpe->n_symbols + 1,
                       sizeof *bpe->symbols, err));
    if (n)
        bpe->symbols[n - 1].next = n;
    bpe->symbols[bpe->n_symbols++] = (la_bpe_symbol){.id = id, .previous = n - 1, .next = -1};
    return LA_OK;
}

/* Id of the character in [from, to), spelt as its position in the word requires; *spelling: that
 * text. */
static la_status find_character(la_text_model *model, const char *word, size_t n, size_t from,
                                size_t to, int32_t *id, const char **spelling, size_t *length,
                                la_error *err) {
    la_bpe *bpe = &model->bpe;
    bool prefix = from && bpe->prefix.n, suffix = to == n && bpe->suffix.n;
    *spelling = word + from;
    *length = to - from;
    if (bpe->short_ids && to - from <= 2) {
        *id = bpe->short_ids[la_utf8_next(word, &from)];
        return LA_OK;
    }
    if (prefix || suffix) {
        bpe->spare.n = 0;
        if (prefix)
            LA_TRY(la_text_append(&bpe->spare, bpe->prefix.data, bpe->prefix.n, err));
        LA_TRY(la_text_append(&bpe->spare, word + from, to - from, err));
        if (suffix)
            LA_TRY(la_text_append(&bpe->spare, bpe->suffix.data, bpe->suffix.n, err));
        *spelling = bpe->spare.data;
        *length = bpe->spare.n;
    }
    *id = la_vocab_find(&model->vocab, *spelling, *length);
    return LA_OK;
}

static bool has_bytes(const la_bpe *bpe, const char *text, size_t n) {
    bool all = bpe->byte_fallback;
    for (size_t i = 0; all && i < n; i++)
        all = bpe->bytes[(unsigned char)text[i]] >= 0;
    return all;
}

/* An unknown token is appended only when a known character, another unknown one or the end follows;
 * bytes that stand for a character go before it. */
static la_status spell(la_text_model *model, const char *word, size_t n, la_error *err) {
    la_bpe *bpe = &model->bpe;
    bool waiting = false;
    bpe->n_symbols = 0;
    for (size_t from = 0, to; from < n; from = to) {
        const char *spelling;
        size_t length;
        int32_t id;
        to = from + la_utf8_size(word[from]);
        LA_TRY(find_character(model, word, n, from, to, &id, &spelling, &length, err));
        if (id >= 0) {
            if (waiting)
                LA_TRY(add_symbol(bpe, bpe->unknown_id, err));
            waiting = false;
            LA_TRY(add_symbol(bpe, id, err));
            continue;
        }
        if (has_bytes(bpe, spelling, length)) {
            for (size_t i = 0; i < length; i++)
                LA_TRY(add_symbol(bpe, bpe->bytes[(unsigned char)spelling[i]], err));
            continue;
        }
        if (!bpe->unknown)
            continue;
        if (bpe->unknown_id < 0)
            return la_fail(err, LA_BAD_INPUT,
                           "a character is not in the vocabulary, which has no \"%s\" either",
                           bpe->unknown);
        if (waiting && !bpe->fuse)
            LA_TRY(add_symbol(bpe, bpe->unknown_id, err));
        waiting = true;
    }
    return waiting ? add_symbol(bpe, bpe->unknown_id, err) : LA_OK;
}

/* ---- joining: a heap of possible joins, lowest rank first, leftmost first ---- */

static bool before(const la_bpe_join *a, const la_bpe_join *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void sift_down(la_bpe *bpe, size_t at) {
    la_bpe_join moved = bpe->heap[at];
    for (size_t child; (child = 2 * at + 1) < bpe->n_heap; at = child) {
        if (child + 1 < bpe->n_heap && before(&bpe->heap[child + 1], &bpe->heap[child]))
            child++;
        if (!before(&bpe->heap[child], &moved))
            break;
        bpe->heap[at] = bpe->heap[child];
    }
    bpe->heap[at] = moved;
}

static la_bpe_join pop(la_bpe *bpe) {
    la_bpe_join top = bpe->heap[0];
    bpe->heap[0] = bpe->heap[--bpe->n_heap];
    if (bpe->n_heap)
        sift_down(bpe, 0);
    return top;
}

/* Adds the join of the symbol at `at` with the next one to the heap, if such a merge exists.
 * heaped: the heap is in order and stays so. */
static la_status note_join(la_bpe *bpe, int32_t at, bool heaped, la_error *err) {
    const la_bpe_symbol *left = &bpe->symbols[at];
    const la_merge *merge =
        left->next < 0 ? NULL : la_merges_find(&bpe->merges, left->id, bpe->symbols[left->next].id);
    if (!merge)
        return LA_OK;
    if (bpe->n_heap == bpe->heap_capacity)
        LA_TRY(la_grow(&bpe->heap, &bpe->heap_capacity, bpe->n_heap + 1, sizeof *bpe->heap, err));
    la_bpe_join join = {merge->rank, at, merge->id};
    size_t i = bpe->n_heap++;
    for (size_t parent; heaped && i && before(&join, &bpe->heap[parent = (i - 1) / 2]); i = parent)
        bpe->heap[i] = bpe->heap[parent];
    bpe->heap[i] = join;
    return LA_OK;
}

static la_status join_all(la_bpe *bpe, la_error *err) {
    bpe->n_heap = 0;
    for (size_t i = 0; i + 1 < bpe->n_symbols; i++)
        LA_TRY(note_join(bpe, (int32_t)i, false, err));
    for (size_t i = bpe->n_heap / 2; i-- > 0;)
        sift_down(bpe, i);
    while (bpe->n_heap) {
        la_bpe_join top = pop(bpe);
        la_bpe_symbol *left = &bpe->symbols[top.at];
        if (left->gone || left->next < 0)
            continue;
        la_bpe_symbol *right = &bpe->symbols[left->next];
        const la_merge *merge = la_merges_find(&bpe->merges, left->id, right->id);
        /* added before a neighbour changed; another pair that gives the same token will do */
        if (!merge || merge->id != top.id)
            continue;
        left->id = top.id;
        left->next = right->next;
        right->gone = true;
        if (left->next >= 0)
            bpe->symbols[left->next].previous = top.at;
        if (left->previous >= 0)
            LA_TRY(note_join(bpe, left->previous, true, err));
        LA_TRY(note_join(bpe, top.at, true, err));
    }
    return LA_OK;
}

static la_status encode(la_text_model *model, const char *word, size_t n, la_ids *ids,
                        la_error *err) {
    la_bpe *bpe = &model->bpe;
    if (n > INT32_MAX / 8)
        return la_fail(err, LA_BAD_INPUT, "a word of %zu bytes is too long", n);
    if (bpe->ignore_merges) {
        int32_t id = la_vocab_find(&model->vocab, word, n);
        if (id >= 0)
            return la_ids_push(ids, id, err);
    }
    LA_TRY(spell(model, word, n, err));
    LA_TRY(join_all(bpe, err));
    for (size_t i = 0; i < bpe->n_symbols; i++)
        if (!bpe->symbols[i].gone)
            LA_TRY(la_ids_push(ids, bpe->symbols[i].id, err));
    return LA_OK;
}

/* ---- loading ---- */

static void close(la_text_model *model) {
    la_bpe *bpe = &model->bpe;
    la_merges_free(&bpe->merges);
    la_text_free(&bpe->spare);
    free(bpe->symbols);
    free(bpe->heap);
}

static la_status load_affix(const la_text_source *source, const json_t *json, const char *key,
                            la_text *out) {
    const json_t *value = json_object_get(json, key);
    return !value || json_is_null(value) ? LA_OK : la_source_text(source, value, key, out);
}

static la_status load_short_ids(const la_text_source *source, la_text_model *model) {
    la_bpe *bpe = &model->bpe;
    if (bpe->prefix.n || bpe->suffix.n)
        return LA_OK;
    bpe->short_ids = la_pool_take(source->pool, SHORT_CODES, sizeof *bpe->short_ids, source->err);
    if (!bpe->short_ids)
        return source->err->status;
    for (int32_t code = 0; code < SHORT_CODES; code++) {
        char text[4];
        bpe->short_ids[code] = la_vocab_find(&model->vocab, text, la_utf8_put(code, text));
    }
    return LA_OK;
}

la_status la_bpe_load(const la_text_source *source, const json_t *json, la_text_model *out) {
    la_bpe *bpe = &out->bpe;
    const char *path = source->path, *unknown = NULL;
    double dropout = 0;
    *bpe = (la_bpe){.unknown_id = -1};
    out->encode = encode;
    out->free = close;
    out->cached = true;
    LA_TRY(la_vocab_load(source, json_object_get(json, "vocab"), &out->vocab));
    out->size = out->vocab.n;
    LA_TRY(la_json_number(json, path, "dropout", false, &dropout, source->err));
    if (dropout != 0)
        return la_fail(source->err, LA_UNSUPPORTED,
                       "%s: model BPE: dropout %g would give other ids every time; it must be null",
                       path, dropout);
    LA_TRY(la_source_flag(source, json, "fuse_unk", &bpe->fuse));
    LA_TRY(la_source_flag(source, json, "byte_fallback", &bpe->byte_fallback));
    LA_TRY(la_source_flag(source, json, "ignore_merges", &bpe->ignore_merges));
    LA_TRY(load_affix(source, json, "continuing_subword_prefix", &bpe->prefix));
    LA_TRY(load_affix(source, json, "end_of_word_suffix", &bpe->suffix));
    LA_TRY(la_json_text(json, path, "unk_token", false, &unknown, source->err));
    if (unknown) {
        bpe->unknown = la_pool_text(source->pool, unknown, strlen(unknown), source->err);
        if (!bpe->unknown)
            return source->err->status;
        bpe->unknown_id = la_vocab_find(&out->vocab, unknown, strlen(unknown));
    }
    la_vocab_bytes(&out->vocab, bpe->bytes);
    LA_TRY(load_short_ids(source, out));
    return la_merges_load(source, json_object_get(json, "merges"), &out->vocab, &bpe->prefix,
                          &bpe->merges);
}

#include "text/vocab.h"
#include "base/visible.h"
#include "text/ids.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

la_status la_ids_append(la_ids *ids, const int32_t *data, size_t n, la_error *err) {
    if (ids->capacity - ids->n < n)
        LA_TRY(la_grow(&ids->data, &ids->capacity, ids->n + n, sizeof *ids->data, err));
    if (n)
        memcpy(ids->data + ids->n, data, n * sizeof *data);
    ids->n += n;
    return LA_OK;
}

void la_vocab_free(la_vocab *vocab) {
    free(vocab->entries);
    free(vocab->slots);
    la_text_free(&vocab->strings);
    *vocab = (la_vocab){0};
}

/* Slot that holds the token, or the free one for it. */
static size_t find_slot(const la_vocab *vocab, const char *token, size_t length, uint32_t hash) {
    size_t slot = hash & vocab->mask;
    for (; vocab->slots[slot]; slot = (slot + 1) & vocab->mask) {
        const la_vocab_entry *entry = &vocab->entries[vocab->slots[slot] - 1];
        if (entry->hash == hash && entry->length == length &&
            !memcmp(vocab->strings.data + entry->offset, token, length))
            break;
    }
    return slot;
}

/* Grows the table so that at most half of the slots are taken. */
static la_status grow(la_vocab *vocab, la_error *err) {
    if (vocab->slots && 2 * (vocab->n + 1) <= vocab->mask + 1)
        return LA_OK;
    size_t size = vocab->slots ? 2 * (vocab->mask + 1) : 64;
    uint32_t *slots = la_alloc(size, sizeof *slots, err);
    if (!slots)
        return err->status;
    free(vocab->slots);
    vocab->slots = slots;
    vocab->mask = size - 1;
    for (size_t i = 0; i < vocab->n; i++) {
        size_t slot = vocab->entries[i].hash & vocab->mask;
        while (slots[slot])
            slot = (slot + 1) & vocab->mask;
        slots[slot] = (uint32_t)i + 1;
    }
    return LA_OK;
}

la_status la_vocab_add(la_vocab *vocab, const char *token, size_t length, int32_t id,
                       la_error *err) {
    if (length > UINT32_MAX || vocab->n >= LA_TOKEN_IDS_MAX)
        return la_fail(err, LA_BAD_INPUT, "the vocabulary is too large");
    LA_TRY(grow(vocab, err));
    uint32_t hash = (uint32_t)XXH3_64bits(token, length);
    size_t slot = find_slot(vocab, token, length, hash);
    if (vocab->slots[slot]) {
        vocab->entries[vocab->slots[slot] - 1].id = id;
        return LA_OK;
    }
    LA_TRY(la_grow(&vocab->entries, &vocab->capacity, vocab->n + 1, sizeof *vocab->entries, err));
    vocab->entries[vocab->n] = (la_vocab_entry){vocab->strings.n, (uint32_t)length, hash, id};
    LA_TRY(la_text_append(&vocab->strings, token, length, err));
    vocab->slots[slot] = (uint32_t)++vocab->n;
    return LA_OK;
}

int32_t la_vocab_find(const la_vocab *vocab, const char *token, size_t length) {
    if (!vocab->n)
        return -1;
    size_t slot = find_slot(vocab, token, length, (uint32_t)XXH3_64bits(token, length));
    return vocab->slots[slot] ? vocab->entries[vocab->slots[slot] - 1].id : -1;
}

static la_status add_all(const la_text_source *source, const json_t *json, bool *seen,
                         la_vocab *vocab) {
    const char *token;
    json_t *id;
    json_object_foreach((json_t *)(uintptr_t)json, token, id) {
        int64_t number = json_is_integer(id) ? json_integer_value(id) : -1;
        if (number < 0 || number >= LA_TOKEN_IDS_MAX) {
            char *text = json_dumps(id, JSON_ENCODE_ANY);
            la_status status =
                la_fail(source->err, LA_BAD_INPUT,
                        "%s: model.vocab[\"%s\"] is %.*s, no token id; expected 0 "
                        "to %d",
                        source->path, token, (int)la_visible_cut(text ? text : "?", 40),
                        text ? text : "?", LA_TOKEN_IDS_MAX - 1);
            free(text);
            return status;
        }
        if (seen[number])
            return la_fail(source->err, LA_BAD_INPUT,
                           "%s: model.vocab[\"%s\"]: id %lld is another token's too", source->path,
                           token, (long long)number);
        seen[number] = true;
        LA_TRY(la_vocab_add(vocab, token, strlen(token), (int32_t)number, source->err));
    }
    return LA_OK;
}

la_status la_vocab_load(const la_text_source *source, const json_t *json, la_vocab *vocab) {
    if (!json_is_object(json) || !json_object_size(json))
        return la_fail(source->err, LA_BAD_INPUT,
                       "%s: model.vocab is %s, expected an object of tokens", source->path,
                       json_is_object(json) ? "empty" : la_json_kind(json));
    bool *seen = la_alloc(LA_TOKEN_IDS_MAX, sizeof *seen, source->err);
    if (!seen)
        return source->err->status;
    la_status status = add_all(source, json, seen, vocab);
    free(seen);
    return status;
}

void la_vocab_bytes(const la_vocab *vocab, int32_t ids[256]) {
    for (unsigned byte = 0; byte < 256; byte++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", byte);
        ids[byte] = la_vocab_find(vocab, name, 6);
    }
}

#include "pipeline/choices.h"
#include "base/list.h"
#include "base/memory.h"
#include "base/numbers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Token of an element; -1: it is several. */
typedef struct forms {
    bool asked; /* its space was written */
    int64_t alone, spaced, glued;
} forms;

static la_status encode(la_tokenizer *tokenizer, const char *before, const char *text,
                        la_encoding *encoding, la_error *err) {
    la_encode_options options = {.no_special = true};
    char *both = la_alloc(strlen(before) + strlen(text) + 1, 1, err);
    if (!both)
        return err->status;
    strcat(strcpy(both, before), text);
    la_status status =
        la_tokenizer_encode(tokenizer, both, strlen(both), NULL, 0, &options, encoding, err);
    free(both);
    return status;
}

/* The token that the text is behind a prompt that ends in one of some characters: behind the first
 * that keeps its own token. */
static la_status follow(la_tokenizer *tokenizer, const char *space, const char *text, int64_t *id,
                        la_error *err) {
    static const char *const ends[] = {":", "\n", "(", "?"};
    la_encoding encoding = {0};
    la_status status = LA_OK;
    *id = -1;
    for (size_t i = 0; i < sizeof ends / sizeof *ends && *id < 0; i++) {
        char before[4];
        snprintf(before, sizeof before, "%s%s", ends[i], space);
        LA_TRY_DONE(encode(tokenizer, ends[i], "", &encoding, err));
        int64_t n = encoding.n, last = n ? encoding.ids[n - 1] : -1;
        LA_TRY_DONE(encode(tokenizer, before, text, &encoding, err));
        if (n && encoding.n == n + 1 && encoding.ids[n - 1] == last)
            *id = encoding.ids[n];
    }
done:
    la_encoding_free(&encoding);
    return status;
}

static la_status find_forms(la_tokenizer *tokenizer, const char *text, forms *out, la_error *err) {
    la_encoding encoding = {0};
    *out = (forms){.asked = *text == ' '};
    la_status status = encode(tokenizer, "", text, &encoding, err);
    out->alone = status == LA_OK && encoding.n == 1 ? encoding.ids[0] : -1;
    la_encoding_free(&encoding);
    LA_TRY(status);
    LA_TRY(follow(tokenizer, " ", text + out->asked, &out->spaced, err));
    return follow(tokenizer, "", text + out->asked, &out->glued, err);
}

static la_status refuse(la_tokenizer *tokenizer, const char *text, la_error *err) {
    char ids[128] = "";
    size_t used = 0;
    la_encoding encoding = {0};
    la_status status = encode(tokenizer, "", text, &encoding, err);
    for (int64_t j = 0; j < encoding.n && used < sizeof ids; j++)
        used +=
            (size_t)snprintf(ids + used, sizeof ids - used, "%s%d", j ? ", " : "", encoding.ids[j]);
    if (status == LA_OK)
        (void)la_fail(err, LA_BAD_INPUT, "--choices: \"%s\" is %lld tokens (%s), expected one",
                      text, (long long)encoding.n, ids);
    la_encoding_free(&encoding);
    return err->status;
}

/* Which tokens were taken, where the tokenizer has both for any of them. */
static void log_forms(const la_list *list, const forms *found, const int32_t *ids,
                      const la_log *log) {
    size_t at = 0, n_spaced = 0, n_glued = 0;
    bool both = false;
    for (size_t i = 0; i < list->n; i++) {
        const forms *f = &found[i];
        bool differ = f->spaced >= 0 && f->glued >= 0 && f->spaced != f->glued;
        if (differ && !both)
            at = i;
        both |= differ;
        n_spaced += ids[i] == f->spaced && f->spaced != f->glued;
        n_glued += ids[i] == f->glued && f->spaced != f->glued;
    }
    if (!both)
        return;
    const char *name = list->items[at] + found[at].asked;
    if (n_spaced && n_glued)
        la_warn(log, "--choices: some are tokens with a leading space, others are without one, as "
                     "they were written");
    else if (n_spaced)
        la_warn(log,
                "--choices: all are the tokens with a leading space (\"%s\" is %lld, without one "
                "%lld); --choice-ids takes others",
                name, (long long)found[at].spaced, (long long)found[at].glued);
    else
        la_warn(log,
                "--choices: all are the tokens without a leading space (\"%s\" is %lld, with one "
                "%lld); behind a prompt that ends in no space write \"\\ %s\" for the others",
                name, (long long)found[at].glued, (long long)found[at].spaced, name);
}

/* One rule for all, unless the list says by itself what each of them is. */
static la_status choose(la_tokenizer *tokenizer, const la_list *list, const forms *found,
                        int32_t *ids, la_error *err) {
    bool asked = false, alone = true, spaced = true;
    for (size_t i = 0; i < list->n; i++) {
        asked |= found[i].asked;
        alone &= found[i].alone >= 0;
        spaced &= found[i].spaced >= 0;
    }
    bool by_space = !asked && !alone && spaced;
    for (size_t i = 0; i < list->n; i++) {
        bool takes_space = by_space || (found[i].asked && found[i].spaced >= 0);
        int64_t id = takes_space ? found[i].spaced : found[i].alone;
        if (id < 0)
            return refuse(tokenizer, list->items[i], err);
        ids[i] = (int32_t)id;
    }
    return LA_OK;
}

/* The elements without the space that was asked for, where they still differ. */
static la_status name_choices(const la_list *list, la_labels *names, la_error *err) {
    bool bare = true;
    for (size_t i = 0; i < list->n; i++)
        for (size_t j = 0; j < i; j++)
            bare &= strcmp(list->items[i] + (*list->items[i] == ' '),
                           list->items[j] + (*list->items[j] == ' ')) != 0;
    char **given = la_alloc(list->n, sizeof *given, err);
    for (size_t i = 0; given && i < list->n; i++)
        given[i] = list->items[i] + (bare && *list->items[i] == ' ');
    la_labels all = {.count = (int64_t)list->n, .names = given};
    la_status status = given ? la_labels_copy(&all, names, err) : err->status;
    free(given);
    return status;
}

la_status la_choices_parse(la_tokenizer *tokenizer, const char *text, const la_log *log,
                           int32_t **ids, la_labels *names, la_error *err) {
    la_list list;
    forms *found = NULL;
    la_status status;
    *ids = NULL;
    LA_TRY(la_list_parse("--choices", text, &list, err));
    found = la_alloc(list.n, sizeof *found, err);
    *ids = la_alloc(list.n, sizeof **ids, err);
    LA_TRY_DONE(err->status);
    for (size_t i = 0; i < list.n; i++)
        LA_TRY_DONE(find_forms(tokenizer, list.items[i], &found[i], err));
    LA_TRY_DONE(choose(tokenizer, &list, found, *ids, err));
    LA_TRY_DONE(name_choices(&list, names, err));
    log_forms(&list, found, *ids, log);
done:
    if (status != LA_OK) {
        free(*ids);
        *ids = NULL;
    }
    free(found);
    la_list_free(&list);
    return status;
}

la_status la_choice_ids_parse(const char *text, int32_t **ids, int64_t *n, la_error *err) {
    la_list list;
    *ids = NULL;
    /* an id given twice is refused where the head is bound, as two choices of one token are */
    LA_TRY(la_list_split("--choice-ids", text, &list, err));
    *ids = la_alloc(list.n, sizeof **ids, err);
    *n = 0;
    for (size_t i = 0; *ids && i < list.n && err->status == LA_OK; i++) {
        int64_t id;
        if (!la_integer_parse(list.items[i], &id) || id < 0 || id > INT32_MAX)
            (void)la_fail(
                err, LA_USAGE,
                "--choice-ids: element %zu, \"%s\", is no token id; expected ids like 319,350",
                i + 1, list.items[i]);
        else
            (*ids)[(*n)++] = (int32_t)id;
    }
    la_list_free(&list);
    if (err->status != LA_OK) {
        free(*ids);
        *ids = NULL;
    }
    return err->status;
}

#include "base/list.h"
#include "base/memory.h"
#include "base/visible.h"

#include <stdlib.h>
#include <string.h>

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

static bool is_kept(const char *at) {
    return *at == '\\' && (at[1] == ',' || at[1] == '\\' || is_blank(at[1]));
}

/* Copies the element that begins at `from` to `to`; returns the comma or the end behind it. */
static const char *take_element(const char *from, char *to) {
    size_t n = 0, least = 0; /* least: what was kept by a backslash is never dropped as a blank */
    while (is_blank(*from))
        from++;
    while (*from && *from != ',') {
        bool kept = is_kept(from);
        from += kept;
        to[n++] = *from++;
        least = kept ? n : least;
    }
    while (n > least && is_blank(to[n - 1]))
        n--;
    to[n] = 0;
    return from;
}

la_status la_list_split(const char *option, const char *text, la_list *list, la_error *err) {
    size_t most = 1, length = strlen(text);
    for (const char *c = text; *c; c++)
        most += *c == ',';
    /* the names and, behind them, their letters: each at most as many as it was written with */
    *list = (la_list){.items = la_alloc(most * sizeof(char *) + length + most, 1, err)};
    if (!list->items)
        return err->status;
    char *letters = (char *)(list->items + most);
    for (const char *from = text;; from++) {
        from = take_element(from, letters);
        if (!*letters) {
            (void)la_fail(err, LA_USAGE,
                          "%s: element %zu is empty; expected a comma between two elements and "
                          "nowhere else (\\, is a comma within one)",
                          option, list->n + 1);
            la_list_free(list);
            return err->status;
        }
        list->items[list->n++] = letters;
        letters += strlen(letters) + 1;
        if (!*from)
            return LA_OK;
    }
}

la_status la_list_parse(const char *option, const char *text, la_list *list, la_error *err) {
    LA_TRY(la_list_split(option, text, list, err));
    for (size_t i = 0; i < list->n; i++)
        for (size_t j = 0; j < i; j++)
            if (!strcmp(list->items[i], list->items[j])) {
                (void)la_fail(err, LA_USAGE, "%s: \"%s\" is given twice, as elements %zu and %zu",
                              option, list->items[i], j + 1, i + 1);
                la_list_free(list);
                return err->status;
            }
    return LA_OK;
}

void la_list_free(la_list *list) {
    free(list->items);
    *list = (la_list){0};
}

size_t la_list_add(char *out, size_t size, size_t used, const char *between, const char *name) {
    size_t gap = used ? strlen(between) : 0;
    if (used + gap + 1 >= size)
        return size;
    size_t fits = la_visible_cut(name, size - used - gap - 1);
    snprintf(out + used, size - used, "%s%.*s", used ? between : "", (int)fits, name);
    return name[fits] ? size : used + gap + fits;
}

const char *la_list_names(char *out, size_t size, const char *between, const void *names,
                          size_t stride, int n) {
    size_t used = 0;
    *out = 0;
    for (int i = 0; i < n; i++) {
        const void *at = (const char *)names + (size_t)i * stride;
        used = la_list_add(out, size, used, between, *(const char *const *)at);
    }
    return out;
}

const char *la_list_sentence(char *out, size_t size, const char *const *names, int n) {
    size_t used = 0;
    *out = 0;
    for (int i = 0; i < n; i++)
        used = la_list_add(out, size, used, i + 1 < n ? ", " : " and ", names[i]);
    return out;
}

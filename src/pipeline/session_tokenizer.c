#include "pipeline/session_tokenizer.h"
#include "input/folders.h"
#include "text/side_files.h"

#include <string.h>

/* Files that only say more of a tokenizer. */
static void log_passed_over(const la_tokenizer_request *request) {
    static const char *const names[] = {"tokenizer_config.json", "special_tokens_map.json",
                                        "added_tokens.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!la_folder_has(request->adapter, names[i]))
            continue;
        la_warn(request->log,
                "%s/%s: is passed over, as there is no tokenizer.json beside it; the tokenizer is "
                "that of %s",
                request->adapter, names[i], request->base);
        return;
    }
}

/* The folder of the adapter that has a tokenizer: that of its name, else the one above. */
static const char *adapter_folder(const la_tokenizer_request *request, char path[4096]) {
    if (!request->adapter)
        return NULL;
    const char *name = request->adapter_name;
    int n = name ? snprintf(path, 4096, "%s/%s", request->adapter, name) : 0;
    if (n > 0 && n < 4096 && !strpbrk(name, ",/") && la_tokenizer_is_in(path))
        return path;
    return la_tokenizer_is_in(request->adapter) ? request->adapter : NULL;
}

/* The posterior's, which an earlier version fitted: it read the base's tokenizer.json and nothing
 * else. */
static la_status open_earlier(const la_tokenizer_request *request, const char *used,
                              la_tokenizer **tokenizer, bool *of_adapter, la_error *err) {
    const char *wanted = request->posterior ? request->posterior->provenance.tokenizer_digest : "";
    la_error ignored = {0};
    if (!*wanted || !strcmp(la_tokenizer_digest(*tokenizer), wanted) ||
        !la_folder_has(request->base, "tokenizer.json"))
        return LA_OK;
    for (int alone = 0; alone <= 1; alone++) {
        la_tokenizer *other = NULL;
        la_status status = alone ? la_tokenizer_open_alone(request->base, &other, &ignored)
                                 : la_tokenizer_open(request->base, NULL, &other, &ignored);
        if (status == LA_OK && !strcmp(la_tokenizer_digest(other), wanted)) {
            la_warn(request->log,
                    "%s: the posterior was fitted with the tokenizer.json of the base%s, and is "
                    "used with it; fit again to go by what %s has",
                    request->base, alone ? " alone" : "", used);
            la_tokenizer_close(*tokenizer);
            *tokenizer = other;
            *of_adapter = false;
            return LA_OK;
        }
        la_tokenizer_close(other);
    }
    return err->status;
}

la_status la_session_tokenizer(const la_tokenizer_request *request, la_tokenizer **tokenizer,
                               bool *of_adapter, la_error *err) {
    char path[4096];
    bool agree = true;
    const char *folder = adapter_folder(request, path);
    const char *used = folder ? folder : request->base;
    *tokenizer = NULL;
    *of_adapter = folder != NULL;
    if (!folder && request->adapter)
        log_passed_over(request);
    if (!folder && !la_folder_has(request->base, "tokenizer.json"))
        return LA_OK;
    LA_TRY(la_tokenizer_open(used, request->log, tokenizer, err));
    LA_TRY(open_earlier(request, used, tokenizer, of_adapter, err));
    if (*of_adapter && la_tokenizer_has_chat(*tokenizer))
        la_warn(
            request->log,
            "%s: its chat template is not applied; if the adapter was trained on conversations, "
            "give rows or a --template with the text that it was trained on",
            folder);
    if (*of_adapter && la_folder_has(request->base, "tokenizer.json"))
        LA_TRY(la_side_files_agree(request->base, folder, &agree, err));
    if (!agree)
        la_warn(request->log,
                "%s: its tokenizer gives other ids than that of %s, and is the one that is used: "
                "it is what the adapter was trained with",
                folder, request->base);
    return LA_OK;
}

#include "cli/cli.h"
#include "base/output_file.h"
#include "base/stop.h"
#include "input/folders.h"
#include "input/rows.h"
#include "model/config.h"
#include "pipeline/session_tokenizer.h"
#include "text/tokenizer.h"

#include <string.h>

/* Length that fit and predict would truncate to, by the directory's files; else that of
 * tokenizer.json. of_adapter: length by the adapter's tokenizer, or 0. */
static int64_t default_length(const char *base, int64_t of_adapter) {
    la_config config;
    la_error ignored = {0};
    if (la_config_read(base, &config, &ignored) != LA_OK)
        return 0;
    if (of_adapter)
        config.model_max_length = of_adapter;
    int64_t limit = la_config_default_length(&config);
    la_config_free(&config);
    return limit;
}

static la_status write_row(FILE *stream, int64_t index, const int32_t *ids, int64_t n,
                           la_error *err) {
    fprintf(stream, "{\"index\":%lld,\"ids\":[", (long long)index);
    for (int64_t i = 0; i < n; i++)
        fprintf(stream, "%s%d", i ? "," : "", ids[i]);
    if (fputs("]}\n", stream) == EOF)
        return la_fail(err, LA_RESOURCE, "cannot write the ids");
    return LA_OK;
}

static la_status tokenize_rows(la_row_reader *reader, la_tokenizer *tokenizer,
                               const la_encode_options *options, FILE *stream, la_error *err) {
    la_encoding encoding = {0};
    la_status status = LA_OK;
    for (;;) {
        la_row row;
        bool more;
        LA_TRY_DONE(la_check_interrupt(err));
        LA_TRY_DONE(la_row_reader_next(reader, &row, &more, err));
        if (!more)
            break;
        if (row.ids) {
            LA_TRY_DONE(write_row(stream, row.index, row.ids, row.n_ids, err));
            continue;
        }
        LA_TRY_DONE(la_tokenizer_encode(tokenizer, row.text, row.text_length, row.pair,
                                        row.pair_length, options, &encoding, err));
        LA_TRY_DONE(write_row(stream, row.index, encoding.ids, encoding.n, err));
    }
done:
    la_encoding_free(&encoding);
    return status;
}

typedef struct tokenize_given {
    la_common common;
    la_text_given text;
    const char *base, *adapter, *adapter_name, *data, *out;
} tokenize_given;

static const la_option options[] = {
    LA_ROW(TEXT, tokenize_given, base, "base", .argument = "DIR",
           .help = "folder of the Hugging Face base model"),
    LA_ROW(TEXT, tokenize_given, adapter, "adapter", .argument = "DIR",
           .help = "folder of the adapter, whose tokenizer is used where it has one"),
    LA_ROW(TEXT, tokenize_given, adapter_name, "adapter-name", .argument = "NAME",
           .help = "which adapter, where the folder holds several"),
    LA_ROW(TEXT, tokenize_given, data, "data", .argument = "FILE",
           .help = "rows with text: .jsonl, .csv, .tsv; - is JSONL on stdin"),
    LA_ROW(TEXT, tokenize_given, out, "out", .argument = "FILE",
           .help = "where the ids go, a JSON row each; - is stdout (default)"),
};

/* Opens the tokenizer that fit and predict would. *length: length that it states; 0: left to the
 * base. */
static la_status open_tokenizer(const tokenize_given *given, la_pool *pool, const la_log *log,
                                const char **base, la_tokenizer **tokenizer, int64_t *length,
                                la_error *err) {
    bool of_adapter;
    la_tokenizer_request request = {
        .base = given->base, .adapter_name = given->adapter_name, .log = log};
    *length = 0;
    /* a tokenizer is all that is needed here: an adapter's folder will do */
    if (!la_tokenizer_is_in(given->base))
        LA_TRY(
            la_folder_find(LA_FOLDER_BASE, "--base", given->base, pool, log, &request.base, err));
    if (given->adapter)
        LA_TRY(la_folder_find(LA_FOLDER_ADAPTER, "--adapter", given->adapter, pool, log,
                              &request.adapter, err));
    *base = request.base;
    LA_TRY(la_session_tokenizer(&request, tokenizer, &of_adapter, err));
    if (!*tokenizer) /* which fails, and says what is missing */
        LA_TRY(la_tokenizer_open(request.base, log, tokenizer, err));
    else if (of_adapter)
        *length = la_tokenizer_max_length(*tokenizer);
    return LA_OK;
}

static la_status tokenize(const tokenize_given *given, la_error *err) {
    la_tokenizer *tokenizer = NULL;
    la_row_reader *reader = NULL;
    la_output_file out = {0};
    la_log log = la_cli_log(&given->common);
    la_row_fields fields = {
        .text = given->text.text_field, .pair = given->text.pair_field, .log = &log};
    LA_TRY(la_cli_no_operands(&la_command_tokenize, &given->common, err));
    LA_TRY(la_cli_require("tokenize", "base", given->base, err));
    LA_TRY(la_cli_require("tokenize", "data", given->data, err));
    LA_TRY(la_output_check(given->out, err));
    LA_TRY(la_output_apart(given->out, "--data", given->data, err));
    LA_TRY(la_output_apart(given->out, "a file of --base", given->base, err));
    LA_TRY(la_output_apart(given->out, "a file of --adapter", given->adapter, err));
    if (given->adapter_name && !given->adapter)
        return la_fail(err, LA_USAGE, "--adapter-name %s: needs --adapter DIR, the folder it is in",
                       given->adapter_name);
    la_encode_options encode = {.max_length = given->text.max_length};
    la_status status;
    const char *base;
    int64_t of_adapter;
    la_pool pool = {0};
    LA_TRY_DONE(open_tokenizer(given, &pool, &log, &base, &tokenizer, &of_adapter, err));
    if (!encode.max_length)
        encode.max_length = default_length(base, of_adapter);
    if (!encode.max_length)
        encode.max_length = la_tokenizer_max_length(tokenizer);
    encode.truncate_left = la_tokenizer_cuts_left(tokenizer);
    LA_TRY_DONE(la_row_reader_open(given->data, &fields, &reader, err));
    LA_TRY_DONE(la_output_open(&out, given->out, LA_OUTPUT_STREAM, err));
    LA_TRY_DONE(tokenize_rows(reader, tokenizer, &encode, out.stream, err));
    LA_TRY_DONE(la_output_commit(&out, err));
done:
    la_output_discard(&out);
    la_row_reader_close(reader);
    la_tokenizer_close(tokenizer);
    la_pool_free(&pool);
    return status;
}

static int run(const void *given) {
    la_error err = {0};
    (void)tokenize(given, &err);
    return la_cli_exit(&err);
}

const la_command la_command_tokenize = {
    .name = "tokenize",
    .summary = "token ids of the rows, as fit and predict see them",
    .usage = "--base DIR --data FILE [--adapter DIR] [--out FILE] [OPTION]...",
    .groups = {LA_GROUP(options, 0), LA_GROUP(la_text_rows, offsetof(tokenize_given, text)),
               LA_GROUP(la_common_rows, offsetof(tokenize_given, common))},
    .size = sizeof(tokenize_given),
    .run = run,
};

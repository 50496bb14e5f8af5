#include "support/faults.h"
#include "support/process.h"
#include "support/tensors.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OLDER "an older output, which must stay as it is"
enum { WORDS = 60, LINE = 8192 };

char *in_case(const char *folder, const char *file) {
    static char paths[8][4096];
    static int next;
    next = (next + 1) % 8;
    snprintf(paths[next], sizeof paths[next], "%s/%s", folder, file);
    return paths[next];
}

const char *open_case(const char *fixture_name) {
    static char folder[4096];
    static int number;
    char name[64], from[256];
    snprintf(name, sizeof name, "case-%d", number++);
    snprintf(folder, sizeof folder, "%s", scratch(name));
    snprintf(from, sizeof from, "parity/%s", fixture_name ? fixture_name : "bert");
    copy_folder(fixture(from), folder);
    write_file(in_case(folder, "out"), OLDER, strlen(OLDER));
    return folder;
}

command run_line(const char *folder, const char *line, const char *input) {
    char text[LINE], *words[WORDS + 1] = {NULL}, *at = text, *end = text + sizeof text - 1;
    int n = 1;
    for (const char *c = line; *c;) {
        assert_true(n < WORDS);
        words[n++] = at;
        for (; *c && *c != ' '; c++) {
            const char *piece = *c == '@' ? folder : c;
            size_t length = *c == '@' ? strlen(folder) : 1;
            assert_true(at + length < end);
            memcpy(at, piece, length);
            at += length;
        }
        *at++ = 0;
        if (!strcmp(words[n - 1], "''"))
            *words[n - 1] = 0;
        c += strspn(c, " ");
    }
    return run_command((const char *const *)words, input);
}

command run_shell(const char *folder, const char *script) {
    char path[4096], text[8192];
    if (!realpath(program(), path))
        fail_msg("%s: %s", program(), strerror(errno));
    snprintf(text, sizeof text, "L='%s'; D='%s'; %s", path, folder, script);
    const char *argv[] = {"bash", "-c", text, NULL};
    return run_command(argv, NULL);
}

void check_script(const char *folder, const char *script) {
    command done = run_shell(folder, script);
    if (done.code)
        fail_msg("exit code %d: %.300s", done.code, done.err);
    command_free(&done);
}

const char *open_case_with_rows(const char *fixture_name, int copies) {
    const char *folder = open_case(fixture_name);
    size_t length;
    char *rows = read_file(in_case(folder, "calib.jsonl"), &length);
    FILE *file = fopen(in_case(folder, "rows.jsonl"), "wb");
    assert_non_null(file);
    for (int i = 0; i < copies; i++)
        fwrite(rows, 1, length, file);
    fclose(file);
    free(rows);
    return folder;
}

void fit_case(const char *folder) {
    command done = run_line(folder,
                            "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out "
                            "@/posterior --quiet",
                            NULL);
    if (done.code)
        fail_msg("the healthy case does not fit: %s", done.err);
    command_free(&done);
}

void check_message(const command *done, int code, const char *const *pieces, int n_pieces) {
    static const char start[] = "laplora: error: ";
    if (done->code != code)
        fail_msg("exit code %d, expected %d; stderr: %.600s", done->code, code, done->err);
    const char *line_end = strchr(done->err, '\n');
    if (strncmp(done->err, start, strlen(start)) || !line_end || line_end[1])
        fail_msg("stderr is not one line of error: %.600s", done->err);
    for (const char *c = done->err; c < line_end; c++)
        if ((unsigned char)*c < ' ')
            fail_msg("a control character in the message: %.600s", done->err);
    for (int i = 0; i < n_pieces && pieces[i]; i++)
        if (!strstr(done->err, pieces[i]))
            fail_msg("the message does not say \"%s\": %.600s", pieces[i], done->err);
}

void check_nothing_written(const char *folder) {
    size_t length;
    char *data = read_file(in_case(folder, "out"), &length);
    bool same = length == strlen(OLDER) && !memcmp(data, OLDER, length);
    free(data);
    if (!same)
        fail_msg("the older output file changed");
    DIR *list = opendir(folder);
    struct dirent *entry;
    char left[256] = "";
    while ((entry = readdir(list)))
        if (strstr(entry->d_name, ".tmp.") || strstr(entry->d_name, "laplora-tmp"))
            snprintf(left, sizeof left, "%.255s", entry->d_name);
    closedir(list);
    if (*left)
        fail_msg("%s is left", left);
}

static void check_works(const command *done, const fault *f) {
    if (done->code)
        fail_msg("exit code %d, expected 0; stderr: %.600s", done->code, done->err);
    for (int i = 0; i < 4 && f->pieces[i]; i++)
        if (!strstr(done->err, f->pieces[i]) && !strstr(done->out, f->pieces[i]))
            fail_msg("neither output says \"%s\": %.600s%.600s", f->pieces[i], done->out,
                     done->err);
}

static void run_fault(void **state) {
    const fault *f = *state;
    const char *line = f->command ? f->command : FIT;
    const char *folder = open_case(f->fixture);
    if (strstr(line, "@/posterior"))
        fit_case(folder);
    if (f->damage)
        f->damage(f, folder);
    command done = run_line(folder, line, f->input);
    if (f->code) {
        check_message(&done, f->code, f->pieces, 4);
        check_nothing_written(folder);
        print_message("    %s", done.err);
    } else {
        check_works(&done, f);
    }
    command_free(&done);
}

int run_faults(const char *group, const fault *faults, size_t n) {
    struct CMUnitTest *tests = calloc(n, sizeof *tests);
    for (size_t i = 0; i < n; i++)
        tests[i] = (struct CMUnitTest){.name = faults[i].name,
                                       .test_func = run_fault,
                                       .initial_state = (void *)(uintptr_t)&faults[i]};
    int failed = _cmocka_run_group_tests(group, tests, n, NULL, NULL);
    free(tests);
    return failed;
}

/* ---- damage ---- */

void put_file(const fault *f, const char *folder) {
    write_file(in_case(folder, f->file), f->a, strlen(f->a));
}

void append_text(const fault *f, const char *folder) {
    FILE *file = fopen(in_case(folder, f->file), "ab");
    fputs(f->a, file);
    fclose(file);
}

void cut_file(const fault *f, const char *folder) {
    const char *path = in_case(folder, f->file);
    struct stat info;
    off_t size = atol(f->a);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(truncate(path, size < 0 ? info.st_size + size : size), 0);
}

void remove_file(const fault *f, const char *folder) {
    assert_int_equal(unlink(in_case(folder, f->file)), 0);
}

void rename_file(const fault *f, const char *folder) {
    assert_int_equal(rename(in_case(folder, f->file), in_case(folder, f->a)), 0);
}

void copy_other(const fault *f, const char *folder) {
    size_t length;
    char *data = read_file(fixture(f->a), &length);
    write_file(in_case(folder, f->file), data, length);
    free(data);
}

void set_key(const fault *f, const char *folder) {
    const char *path = in_case(folder, f->file);
    json_t *root = load_json(path);
    if (f->b) {
        json_t *value = json_loads(f->b, JSON_DECODE_ANY, NULL);
        assert_non_null(value);
        json_object_set_new(root, f->a, value);
    } else {
        json_object_del(root, f->a);
    }
    json_dump_file(root, path, 0);
    json_decref(root);
}

void replace_text(const fault *f, const char *folder) {
    size_t length, from = strlen(f->a), to = strlen(f->b);
    char *data = read_file(in_case(folder, f->file), &length);
    char *at = strstr(data, f->a);
    assert_non_null(at);
    char *out = malloc(length + to + 1);
    size_t before = (size_t)(at - data);
    memcpy(out, data, before);
    memcpy(out + before, f->b, to);
    memcpy(out + before + to, at + from, length - before - from);
    write_file(in_case(folder, f->file), out, length - from + to);
    free(out);
    free(data);
}

static char *deep_text(void) {
    enum { DEPTH = 5000 };
    char *text = malloc(2 * DEPTH + 16);
    strcpy(text, "{\"a\":");
    memset(text + 5, '[', DEPTH);
    memset(text + 5 + DEPTH, ']', DEPTH);
    strcpy(text + 5 + 2 * DEPTH, "}");
    return text;
}

void nest_deeply(const fault *f, const char *folder) {
    char *text = deep_text();
    write_file(in_case(folder, f->file), text, strlen(text));
    free(text);
}

void set_header(const fault *f, const char *folder) {
    tensors_set_header(in_case(folder, f->file), f->a, strlen(f->a));
}

void nest_header(const fault *f, const char *folder) {
    char *text = deep_text();
    tensors_set_header(in_case(folder, f->file), text, strlen(text));
    free(text);
}

void header_length_is(const fault *f, const char *folder) {
    FILE *file = fopen(in_case(folder, f->file), "r+b");
    uint64_t length = strtoull(f->a, NULL, 10);
    for (int i = 0; i < 8; i++)
        fputc((int)(length >> 8 * i & 255), file);
    fclose(file);
}

static const char *full_name(const json_t *header, const char *ending) {
    const char *name;
    json_t *entry;
    size_t tail = strlen(ending);
    json_object_foreach((json_t *)(uintptr_t)header, name, entry) {
        size_t length = strlen(name);
        if (length >= tail && !strcmp(name + length - tail, ending))
            return name;
    }
    fail_msg("no tensor ends with %s", ending);
    return NULL;
}

void merge_entry(const fault *f, const char *folder) {
    const char *path = in_case(folder, f->file);
    json_t *header = tensors_header(path), *change = json_loads(f->b, 0, NULL);
    assert_non_null(change);
    json_object_update(json_object_get(header, full_name(header, f->a)), change);
    char *text = json_dumps(header, JSON_COMPACT);
    tensors_set_header(path, text, strlen(text));
    free(text);
    json_decref(change);
    json_decref(header);
}

void repeat_entry(const fault *f, const char *folder) {
    const char *path = in_case(folder, f->file);
    json_t *header = tensors_header(path);
    const char *name = full_name(header, f->a);
    char *entry = json_dumps(json_object_get(header, name), JSON_COMPACT);
    char *text = json_dumps(header, JSON_COMPACT);
    size_t length = strlen(text);
    text = realloc(text, length + strlen(name) + strlen(entry) + 16);
    sprintf(text + length - 1, ",\"%s\":%s}", name, entry);
    tensors_set_header(path, text, strlen(text));
    free(entry);
    free(text);
    json_decref(header);
}

void drop_tensor(const fault *f, const char *folder) {
    const char *path = in_case(folder, f->file);
    tensor_file file = tensors_read(path);
    tensors_drop(&file, f->a);
    tensors_write(&file, path);
    tensors_free(&file);
}

void rename_tensor(const fault *f, const char *folder) {
    const char *path = in_case(folder, f->file);
    tensor_file file = tensors_read(path);
    tensor_bytes *tensor = tensors_find(&file, f->a);
    free(tensor->name);
    tensor->name = strdup(f->b);
    tensors_write(&file, path);
    tensors_free(&file);
}

void reshape_tensor(const fault *f, const char *folder) {
    const char *path = in_case(folder, f->file);
    tensor_file file = tensors_read(path);
    tensor_bytes *tensor = tensors_find(&file, f->a);
    size_t count = 4; /* all are F32 in the fixtures used */
    json_decref(tensor->shape);
    tensor->shape = json_loads(f->b, 0, NULL);
    for (size_t i = 0; i < json_array_size(tensor->shape); i++)
        count *= (size_t)json_integer_value(json_array_get(tensor->shape, i));
    tensor->data = realloc(tensor->data, count + 1);
    if (count > tensor->length)
        memset(tensor->data + tensor->length, 0, count - tensor->length);
    tensor->length = count;
    tensors_write(&file, path);
    tensors_free(&file);
}

void poison_tensor(const fault *f, const char *folder) {
    const char *path = in_case(folder, f->file);
    tensor_file file = tensors_read(path);
    float value = strtof(f->b, NULL);
    memcpy(tensors_find(&file, f->a)->data + 5 * sizeof value, &value, sizeof value);
    tensors_write(&file, path);
    tensors_free(&file);
}

#define SPECIAL(id, token)                                                                         \
    "{\"id\":" #id ",\"content\":\"" token                                                         \
    "\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,"             \
    "\"special\":true}"

static const char small_tokenizer[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_"
    "tokens\":[" SPECIAL(0, "[PAD]") "," SPECIAL(1, "[UNK]") "," SPECIAL(2, "[CLS]") "," SPECIAL(
        3, "[SEP]") "],"
                    "\"normalizer\":{\"type\":"
                    "\"BertNormalizer\",\"clean_text\":"
                    "true,\"handle_chinese_chars\":true,"
                    "\"strip_accents\":null,\"lowercase\":"
                    "true},"
                    "\"pre_tokenizer\":{\"type\":"
                    "\"BertPreTokenizer\"},"
                    "\"post_processor\":{\"type\":"
                    "\"TemplateProcessing\",\"single\":["
                    "{\"SpecialToken\":{\"id\":\"[CLS]\","
                    "\"type_id\":0}},{\"Sequence\":{"
                    "\"id\":\"A\",\"type_id\":0}},"
                    "{\"SpecialToken\":{\"id\":\"[SEP]\","
                    "\"type_id\":0}}],\"pair\":["
                    "{\"SpecialToken\":{\"id\":\"[CLS]\","
                    "\"type_id\":0}},{\"Sequence\":{"
                    "\"id\":\"A\",\"type_id\":0}},"
                    "{\"SpecialToken\":{\"id\":\"[SEP]\","
                    "\"type_id\":0}},{\"Sequence\":{"
                    "\"id\":\"B\",\"type_id\":1}},"
                    "{\"SpecialToken\":{\"id\":\"[SEP]\","
                    "\"type_id\":1}}],\"special_tokens\":{"
                    "\"[CLS]\":{\"id\":\"[CLS]\",\"ids\":["
                    "2],\"tokens\":[\"[CLS]\"]},"
                    "\"[SEP]\":{\"id\":\"[SEP]\",\"ids\":["
                    "3],\"tokens\":[\"[SEP]\"]}}},"
                    "\"decoder\":{\"type\":\"WordPiece\","
                    "\"prefix\":\"##\",\"cleanup\":true},"
                    "\"model\":{\"type\":\"WordPiece\","
                    "\"unk_token\":\"[UNK]\",\"continuing_"
                    "subword_prefix\":\"##\","
                    "\"max_input_chars_per_word\":100,"
                    "\"vocab\":{\"[PAD]\":0,\"[UNK]\":1,"
                    "\"[CLS]\":2,\"[SEP]\":3,"
                    "\"good\":4,\"bad\":5,\"film\":6,"
                    "\"a\":7,\"##s\":8,\"very\":9,\"yes\":"
                    "10,\"no\":11,\"##b\":12}}}";

static const char text_rows[] = "{\"text\":\"a very good film\",\"label\":0}\n"
                                "{\"text\":\"a very bad film\",\"label\":1}\n"
                                "{\"text\":\"films\",\"label\":2}\n"
                                "{\"text\":\"good good bad\",\"label\":0}\n";

void use_tokenizer(const fault *f, const char *folder) {
    (void)f;
    write_file(in_case(folder, "base/tokenizer.json"), small_tokenizer, strlen(small_tokenizer));
    write_file(in_case(folder, "calib.jsonl"), text_rows, strlen(text_rows));
    write_file(in_case(folder, "test.jsonl"), text_rows, strlen(text_rows));
}

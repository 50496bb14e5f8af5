/* Facts that info prints of a user's file, in every form; files of other programs are named. */
#include "support/faults.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROW(id) "{\"index\":0,\"id\":" id ",\"label\":1,\"probs\":[0.25,0.75]}\n"
#define BYTES(text) text, sizeof(text) - 1

static command info(const char *folder, const char *name, const char *bytes, size_t length) {
    char line[300];
    write_file(in_case(folder, name), bytes, length);
    snprintf(line, sizeof line, "info --json @/%s", name);
    return run_line(folder, line, NULL);
}

static void kinds(void **state) {
    (void)state;
    static const struct {
        const char *name, *bytes;
        size_t length;
        const char *expected; /* behind the path */
    } list[] = {
        {"a.jsonl", BYTES("{\"text\":\"a\",\"label\":1}\n\n{\"text\":\"b\"}\n"),
         "\"kind\":\"data\",\"form\":\"JSON\",\"fields\":[\"text\",\"label\"],\"n_rows\":2"},
        {"a.json", BYTES("[{\"utterance\":\"a\"}]"),
         "\"kind\":\"data\",\"form\":\"JSON\",\"fields\":[\"utterance\"],\"n_rows\":1"},
        {"b.json", BYTES("{\n \"text\": \"a\"\n}\n{\n \"text\": \"b\"\n}\n"),
         "\"kind\":\"data\",\"form\":\"JSON\",\"fields\":[\"text\"],\"n_rows\":2"},
        {"c.jsonl", BYTES("{\"tokens\":[\"a\"],\"tags\":[\"O\"]}\n"),
         "\"kind\":\"data\",\"form\":\"JSON\",\"fields\":[\"tokens\",\"tags\"],\"n_rows\":1"},
        {"a.CSV", BYTES("text,label\na,1\n"),
         "\"kind\":\"data\",\"form\":\"table\",\"fields\":[\"text\",\"label\"],\"n_rows\":1"},
        {"list.json", BYTES("[{\"probs\":[0,1]},\n {\"probs\":[0,1],\"label\":0}]\n"),
         "\"kind\":\"predictions\",\"confidence_kind\":\"\",\"n_labelled\":1,\"n_unlabelled\":1"},
        {"wide.json", BYTES("{\n\"probs\": [\n0,\n1\n]\n}\n{\n\"probs\": [0,1]\n}"),
         "\"kind\":\"predictions\",\"confidence_kind\":\"\",\"n_labelled\":0,\"n_unlabelled\":2"},
        {"p.jsonl", BYTES(ROW("18446744073709551615") ROW("1")),
         "\"kind\":\"predictions\",\"confidence_kind\":\"\",\"n_labelled\":2"},
        {"p16", BYTES("\xff\xfe{\0\"\0p\0r\0o\0b\0s\0\"\0:\0[\0001\0,\0000\0]\0}\0"),
         "\"kind\":\"predictions\",\"confidence_kind\":\"\",\"n_labelled\":0,\"n_unlabelled\":1"},
        {"tokens", BYTES("{\"index\":0,\"tokens\":[{\"token\":1,\"label\":0,\"probs\":[1,0]}]}\n"),
         "\"kind\":\"predictions\",\"confidence_kind\":\"\",\"n_labelled\":1"},
        {"gauss", BYTES("{\"label\":1,\"prediction\":1,\"variance\":2}\n"),
         "\"kind\":\"predictions\",\"task\":\"regression\""},
        {"errors", BYTES("{\"index\":0,\"error\":\"no text\"}\n"), "\"n_errors\":1"},
        {"prompt.txt", BYTES("Is this {text}?\r\nyes or no:"),
         "\"kind\":\"prompt\",\"field\":\"text\",\"lines\":2"},
        {"brace.txt", BYTES("{text} or not"), "\"kind\":\"prompt\",\"field\":\"text\",\"lines\":1"},
        {"two.txt", BYTES("{a}{b}\n"), "\"kind\":\"prompt\",\"lines\":1"},
        {"plain.txt", BYTES("one\ntwo\n"), "\"kind\":\"text\",\"lines\":2"},
    };
    const char *folder = open_case("bert");
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        command done = info(folder, list[i].name, list[i].bytes, list[i].length);
        if (done.code || !strstr(done.out, list[i].expected))
            fail_msg("%s: code %d, %s%s", list[i].name, done.code, done.out, done.err);
        command_free(&done);
    }
}

static void refused(void **state) {
    (void)state;
    static const struct {
        const char *name, *bytes;
        size_t length;
        int code;
        const char *piece;
    } list[] = {
        {"x.parquet", BYTES("PAR1\0\1"), 4, "is a Parquet file"},
        {"x.pdf", BYTES("%PDF-1.4\n"), 4, "is a PDF"},
        {"x.zip", BYTES("PK\3\4 a"), 4, "is a zip archive"},
        {"x.weights", BYTES("\x0a\0\0\0\0\0\0\0{\"a\": 1}  "), 4, "is a safetensors file"},
        {"x.gguf", BYTES("GGUF\3\0\0\0"), 4, "is a GGUF file"},
        {"nul.bin", BYTES("ab\0c"), 3, "is no text"},
        {"latin.txt", BYTES("caf\xe9\n"), 3, "not valid UTF-8"},
        {"empty", BYTES(" \n"), 3, "is empty"},
        {"header.csv", BYTES("text,label\n"), 3, "has no rows"},
        {"a.json", BYTES("{\n \"peft_type\": \"LORA\"\n}"), 3, "is an adapter's configuration"},
        {"b.json", BYTES("{\"model_type\":\"bert\"}"), 3, "is a model's configuration"},
        {"bad.jsonl", BYTES("{\"text\":\"a\"}\n{oops\n"), 3, ":2:"},
    };
    const char *folder = open_case("bert");
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        const char *pieces[] = {list[i].name, list[i].piece};
        command done = info(folder, list[i].name, list[i].bytes, list[i].length);
        check_message(&done, list[i].code, pieces, 2);
        command_free(&done);
    }
}

/* report: the numbers are those of the same rows in plain UTF-8, from a file or a pipe. */
static void reports(void **state) {
    (void)state;
    static const char script[] =
        "cd $D; printf '%s\\n' '{\"id\":123456789012345678901,\"label\":1,\"probs\":[0.25,0.75]}'"
        " '{\"id\":\"b\",\"label\":0,\"probs\":[0.4,0.6]}' > plain; gzip -c plain > packed;"
        "sed 's/$/\\r/; 1s/^/\\xef\\xbb\\xbf/' plain > crlf; tr '\\n' '\\r' < plain > cr;"
        "iconv -f UTF-8 -t UTF-16 plain > wide; (echo '['; sed '1s/$/,/' plain; echo ']') > list;"
        "sed 's/,/,\\n/g' plain > pretty;"
        /* without the file's name and digest */
        "said() { \"$L\" report \"$1\" --json | sed '/\"predictions\":/d; /\"xxh3\":/d'; };"
        "said plain > expected; grep -q '\"n\": 2' expected || exit 1;"
        "for f in packed crlf cr wide list pretty; do said $f | cmp - expected || exit 2; done;"
        "for f in plain packed wide list; do cat $f | said - | cmp - expected || exit 3; done";
    command done = run_shell(open_case("bert"), script);
    if (done.code)
        fail_msg("code %d: %s%s", done.code, done.out, done.err);
    command_free(&done);
}

static void other_kinds_for_report(void **state) {
    (void)state;
    static const struct {
        const char *line, *name, *bytes;
        size_t length;
        const char *piece;
    } list[] = {
        {"report @/x", "x", BYTES("PAR1\0\1"), "is a Parquet file, expected a prediction file"},
        {"report @/x", "x", BYTES("SQLite format 3\0\0"), "is an SQLite database"},
        {"report @/p --baseline @/x --max-regression ece=1", "x", BYTES("\xff\xfe{\0}\0"),
         "is in UTF-16, expected JSON"},
        {"report @/p --baseline @/x --max-regression ece=1", "x", BYTES("\x1f\x8b\x08\0"),
         "is compressed by gzip, expected JSON"},
        {FIT, "adapter/adapter_config.json", BYTES("{\0\"\0r\0\"\0"), "is in UTF-16"},
        {FIT, "base/config.json", BYTES("PK\3\4 a"), "is a zip archive"},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        const char *folder = open_case("bert"), *pieces[] = {list[i].name, list[i].piece};
        write_file(in_case(folder, "p"), ROW("1"), strlen(ROW("1")));
        write_file(in_case(folder, list[i].name), list[i].bytes, list[i].length);
        command done = run_line(folder, list[i].line, NULL);
        check_message(&done, 4, pieces, 2);
        command_free(&done);
    }
}

/* A path in another encoding is shown, in JSON too, and not left out. */
static void paths_of_bytes(void **state) {
    (void)state;
    static const char script[] =
        "cd $D; b=$'b\\xff'; a=$'a\\xfe'; mv base $b; mv adapter $a;"
        "\"$L\" fit --base $b --adapter $a --data calib.jsonl --out fitted --quiet || exit 1;"
        "\"$L\" info fitted --json";
    command done = run_shell(open_case("bert"), script);
    json_t *said = json_loads(done.out, 0, NULL);
    if (done.code || !said)
        fail_msg("code %d: %s%s", done.code, done.out, done.err);
    const char *base = json_string_value(json_object_get(said, "base"));
    const char *adapter = json_string_value(json_object_get(said, "adapter"));
    assert_true(base && strstr(base, "b\\xff"));
    assert_true(adapter && strstr(adapter, "a\\xfe"));
    json_decref(said);
    command_free(&done);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds),          cmocka_unit_test(refused),
        cmocka_unit_test(reports),        cmocka_unit_test(other_kinds_for_report),
        cmocka_unit_test(paths_of_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Outputs: what --out may name, what stays as it was, what is left behind. */
#include "base/output_file.h"
#include "support/faults.h"
#include "support/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Every command that writes, up to its --out. */
#define WRITERS                                                                                    \
    "predict() { timeout 60 \"$L\" predict --posterior $D/posterior --data $D/test.jsonl "         \
    "--samples 10 --threads 1 --quiet \"$@\"; };"                                                  \
    "tokenize() { timeout 60 \"$L\" tokenize --base $D/base --data $D/test.jsonl --quiet "         \
    "\"$@\"; };"                                                                                   \
    "report() { timeout 60 \"$L\" report $D/p.jsonl --format json --quiet \"$@\"; };"              \
    "fit() { timeout 60 \"$L\" fit --base $D/base --adapter $D/adapter --data $D/calib.jsonl "     \
    "--prior 1 --threads 1 --quiet \"$@\"; };"                                                     \
    "bad() { echo \"$@\" >&2; exit 9; };"

/* A case with a posterior and predictions, texts and a tokenizer. */
static const char *open_written(void) {
    const char *folder = open_case("bert");
    use_tokenizer(NULL, folder);
    fit_case(folder);
    command done = run_line(folder,
                            "predict --posterior @/posterior --data @/calib.jsonl --samples 10 "
                            "--out @/p.jsonl --quiet",
                            NULL);
    assert_int_equal(done.code, 0);
    command_free(&done);
    return folder;
}

static void run_script(const char *folder, const char *script) {
    char text[8000];
    snprintf(text, sizeof text, WRITERS "%s", script);
    command done = run_shell(folder, text);
    if (done.code)
        fail_msg("exit code %d of the script; stderr: %.600s", done.code, done.err);
    command_free(&done);
    check_nothing_written(folder);
}

#define SCRIPT(name, script)                                                                       \
    static void name(void **state) {                                                               \
        (void)state;                                                                               \
        run_script(open_written(), script);                                                        \
    }

/* ---- written through ---- */

SCRIPT(through_fifo, "mkfifo $D/fifo || exit 8;"
                     "for c in predict tokenize report fit; do"
                     "  $c --out $D/plain || bad $c;"
                     "  timeout 60 cat $D/fifo > $D/got & r=$!;"
                     "  $c --out $D/fifo || bad $c fails;"
                     "  [ -p $D/fifo ] || bad $c replaced the FIFO; wait $r;"
                     "  if [ $c = fit ]; then \"$L\" info $D/got > /dev/null || bad fit half;"
                     "  else cmp $D/plain $D/got || bad $c; fi;"
                     "done")

/* /dev/stdout itself is named through links alone: a wrong program run by root would replace it.
 * The descriptors that the caller opened keep their place in the file: what was written before them
 * stays, what comes later follows. */
SCRIPT(through_descriptors,
       "predict > $D/plain || exit 8; ln -s /dev/stdout $D/link; ln -s /proc/self/fd/3 $D/third;"
       "(echo head; cat $D/plain; echo tail) > $D/want;"
       "for out in /dev/fd/1 /proc/self/fd/1 /proc/thread-self/fd/1 $D/link; do"
       "  { echo head; predict --out $out || bad $out; echo tail; } > $D/got;"
       "  cmp $D/want $D/got || bad $out;"
       "  predict --out $out | cmp $D/plain - || bad $out to a pipe;"
       "done;"
       "[ -L $D/link ] || bad link replaced;"
       "for out in /dev/fd/3 $D/third; do"
       "  { echo head; predict --out $out || bad $out; echo tail; } 3> $D/got >&3;"
       "  cmp $D/want $D/got || bad $out; done;"
       "fit --out $D/link > $D/got || bad fit; \"$L\" info $D/got > /dev/null || bad fit half;"
       "predict --out /dev/fd/7 2> $D/err && bad closed descriptor; grep -q 'not open' $D/err || "
       "bad said; predict --out /dev/fd/0 < $D/want && bad read-only; cmp -s $D/want $D/want")

/* Links stand for devices, which a wrong program run by root would replace. */
SCRIPT(through_devices,
       "ln -s /dev/null $D/null; ln -s /dev/full $D/full;"
       "for c in predict tokenize report fit; do"
       "  $c --out $D/null || bad $c null; [ -c $D/null ] || bad $c replaced the device;"
       "  [ -L $D/null ] || bad $c replaced the link;"
       "  $c --out $D/full 2> $D/err; [ $? = 5 ] || bad $c full: $?;"
       "  grep -q 'No space' $D/err || bad $c: $(cat $D/err);"
       "  [ -c $D/full ] || bad $c replaced the full device;"
       "done; [ -c /dev/null ] && [ -c /dev/full ] || bad device gone;"
       "if mknod $D/made c 1 3 2> /dev/null; then for c in predict fit; do $c --out $D/made || bad "
       "made; [ -c $D/made ] || bad replaced; done; fi")

/* A reader that goes away. */
SCRIPT(through_closed,
       "mkfifo $D/fifo; for c in predict fit; do"
       "  (exec 3< $D/fifo; sleep 0.2) & $c --out $D/fifo 2> $D/err; code=$?; wait;"
       "  [ $code = 0 ] || [ $code = 5 ] || bad $c: $code; [ -p $D/fifo ] || bad replaced; done")

static void through_socket(void **state) {
    (void)state;
    const char *folder = open_written();
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length =
        snprintf(address.sun_path, sizeof address.sun_path, "%s", in_case(folder, "socket"));
    assert_true(length < (int)sizeof address.sun_path);
    int server = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(server, (const struct sockaddr *)&address, sizeof address), 0);
    command deaf = run_line(folder,
                            "predict --posterior @/posterior --data @/test.jsonl --samples 10 "
                            "--out @/socket --quiet",
                            NULL);
    const char *pieces[] = {"socket"};
    check_message(&deaf, 5, pieces, 1);
    command_free(&deaf);
    assert_int_equal(listen(server, 1), 0);
    command done = run_line(folder,
                            "predict --posterior @/posterior --data @/test.jsonl --samples 10 "
                            "--out @/socket --quiet",
                            NULL);
    if (done.code)
        fail_msg("%s", done.err);
    command_free(&done);
    struct stat info;
    assert_int_equal(stat(address.sun_path, &info), 0);
    assert_true(S_ISSOCK(info.st_mode));
    int client = accept(server, NULL, NULL);
    char buffer[4096];
    int lines = 0;
    for (ssize_t got; (got = read(client, buffer, sizeof buffer)) > 0;)
        for (ssize_t i = 0; i < got; i++)
            lines += buffer[i] == '\n';
    close(client);
    close(server);
    assert_true(lines > 1);
    check_nothing_written(folder);
}

/* ---- links ---- */

SCRIPT(
    links_stay,
    "mkdir $D/far; echo old > $D/far/target; chmod 604 $D/far/target;"
    "ln -s far/target $D/link; ln -s $D/link $D/link2; ln -s far $D/near;"
    "for c in predict tokenize report fit; do"
    "  $c --out $D/plain || exit 8;"
    "  for out in $D/link $D/link2 $D/near/target; do"
    "    echo old > $D/far/target; $c --out $out || bad $c $out;"
    "    [ -L $D/link ] && [ -L $D/link2 ] && [ -L $D/near ] || bad $c replaced a link;"
    "    if [ $c = fit ]; then \"$L\" info $D/far/target > /dev/null || bad fit;"
    "    else cmp $D/plain $D/far/target || bad $c $out; fi;"
    "    [ $(stat -c %a $D/far/target) = 604 ] || bad mode; done; done;"
    "ln -s far/made $D/dangling; predict --out $D/dangling || bad dangling;"
    "[ -L $D/dangling ] && [ -f $D/far/made ] || bad dangling target;"
    "ln -s nowhere/x $D/lost; predict --out $D/lost 2> /dev/null; [ $? = 5 ] || bad lost;"
    "ln -s ring2 $D/ring1; ln -s ring1 $D/ring2; predict --out $D/ring1 2> $D/err; [ $? = 5 ] || "
    "bad ring; grep -q 'ring1' $D/err || bad said; [ -L $D/ring1 ] || bad ring replaced;"
    "[ $(ls -A $D/far | wc -l) = 2 ] || bad left: $(ls -A $D/far);"
    "predict --out $D/far/ 2> /dev/null; [ $? = 5 ] || bad slash;"
    "predict --out $D/near 2> /dev/null; [ $? = 5 ] || bad folder")

/* A file with several names: the one given is of the new file, the others of the old one. */
SCRIPT(hard_links, "echo old > $D/one; ln $D/one $D/two; predict --out $D/one || exit 8;"
                   "[ \"$(cat $D/two)\" = old ] || bad other name; grep -q probs $D/one || bad one")

/* ---- modes, owners ---- */

SCRIPT(modes, "for c in predict fit; do for m in 022:644 027:640 077:600 002:664; do"
              "  rm -f $D/new; (umask ${m%:*}; $c --out $D/new) || exit 8;"
              "  [ $(stat -c %a $D/new) = ${m#*:} ] || bad $c $m $(stat -c %a $D/new); done;"
              "for m in 600 640 666 604 755; do echo old > $D/new; chmod $m $D/new;"
              "  (umask 077; $c --out $D/new) || exit 8;"
              "  [ $(stat -c %a $D/new) = $m ] || bad $c kept $m $(stat -c %a $D/new); done; done;"
              "if [ $(id -u) = 0 ]; then echo old > $D/new; chown 1234:4321 $D/new; predict --out "
              "$D/new || exit 8; [ $(stat -c %u:%g $D/new) = 1234:4321 ] || bad owner; fi")

/* Somebody foresees a name beside the output and lays a link there. */
SCRIPT(planted_links,
       "echo precious > $D/victim;"
       "for c in 'predict --posterior $D/posterior --data $D/test.jsonl' 'fit --base $D/base "
       "--adapter $D/adapter --data $D/calib.jsonl'; do"
       "  (rm -f $D/new*; for s in tmp temp part new; do ln -s victim $D/new.$s; ln -s victim "
       "$D/new.$s.$BASHPID; ln -s victim $D/.new.$s; done; eval exec '\"$L\"' $c --quiet --out "
       "$D/new) || exit 8;"
       "  [ \"$(cat $D/victim)\" = precious ] || bad written over; rm -f $D/new.*; done;"
       "rm -f $D/.new*;"
       "if [ $(id -u) = 0 ]; then mkdir $D/open; chmod 1777 $D/open; ln -s ../victim $D/open/out;"
       "  chown -h 1234 $D/open/out; predict --out $D/open/out 2> /dev/null; [ $? = 5 ] || bad "
       "followed; [ \"$(cat $D/victim)\" = precious ] || bad victim; fi")

/* ---- what a crash leaves ---- */

static bool exists(const char *folder, const char *name) {
    struct stat info;
    return !lstat(in_case(folder, name), &info);
}

static void predict_to(const char *folder, const char *name) {
    char line[256];
    snprintf(line, sizeof line,
             "predict --posterior @/posterior --data @/test.jsonl --samples 10 --out @/%s --quiet",
             name);
    command done = run_line(folder, line, NULL);
    if (done.code)
        fail_msg("%s", done.err);
    command_free(&done);
}

#define LEFT ".new.0123456789abcdef.laplora-tmp"
#define USED ".new.0123456789abcde0.laplora-tmp"
#define OTHER ".old.0123456789abcdef.laplora-tmp"
#define SHORT ".new.0123456789abcde.laplora-tmp"
#define LINK ".new.0123456789abcde1.laplora-tmp"

/* The next run of the same output removes it, recognised by its free lock. */
static void crashes_are_cleaned(void **state) {
    (void)state;
    const char *folder = open_written();
    static const char *const names[] = {LEFT, USED, OTHER, SHORT, "new.tmp", "victim"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        write_file(in_case(folder, names[i]), "left", 4);
    assert_int_equal(symlink("victim", in_case(folder, LINK)), 0);
    int used = open(in_case(folder, USED), O_RDWR);
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    assert_int_equal(fcntl(used, F_OFD_SETLK, &all), 0);
    predict_to(folder, "new");
    assert_false(exists(folder, LEFT));
    for (size_t i = 1; i < sizeof names / sizeof *names; i++)
        if (!exists(folder, names[i]))
            fail_msg("%s was removed", names[i]);
    assert_true(exists(folder, LINK));
    close(used);
    predict_to(folder, "new");
    assert_false(exists(folder, USED));
    for (size_t i = 2; i < sizeof names / sizeof *names; i++)
        unlink(in_case(folder, names[i]));
    unlink(in_case(folder, LINK));
    check_nothing_written(folder);
}

static int count_hidden(const char *folder) {
    DIR *list = opendir(folder);
    int n = 0;
    for (struct dirent *entry; (entry = readdir(list));)
        n += strstr(entry->d_name, "laplora-tmp") != NULL;
    closedir(list);
    return n;
}

/* Two outputs of one name at a time, and one whose process is gone. */
static void temporaries_in_use(void **state) {
    (void)state;
    const char *folder = scratch("temporaries");
    mkdir(folder, 0777);
    la_error err = {0};
    la_output_file one, two, lost;
    for (int kind = LA_OUTPUT_SEEKABLE; kind <= LA_OUTPUT_STREAM; kind++) {
        pid_t child = fork();
        if (!child) {
            int failed = la_output_open(&lost, in_case(folder, "x"), LA_OUTPUT_SEEKABLE, &err);
            _exit(failed != 0);
        }
        int status;
        process gone = {.pid = child};
        status = process_finish(&gone, 20);
        assert_int_equal(status, 0);
        assert_int_equal(count_hidden(folder), 1);
        assert_int_equal(la_output_open(&one, in_case(folder, "x"), kind, &err), LA_OK);
        assert_int_equal(la_output_open(&two, in_case(folder, "x"), kind, &err), LA_OK);
        /* the lost one is gone, the others are there */
        assert_int_equal(count_hidden(folder), kind == LA_OUTPUT_SEEKABLE ? 2 : 0);
        fputs("one", one.stream);
        fputs("two", two.stream);
        assert_int_equal(la_output_commit(&two, &err), LA_OK);
        assert_int_equal(la_output_commit(&one, &err), LA_OK);
        assert_int_equal(count_hidden(folder), 0);
        size_t length;
        char *text = read_file(in_case(folder, "x"), &length);
        assert_int_equal(length, 3);
        assert_memory_equal(text, "one", 3);
        free(text);
    }
    /* a stop */
    assert_int_equal(la_output_open(&one, in_case(folder, "x"), LA_OUTPUT_SEEKABLE, &err), LA_OK);
    assert_int_equal(count_hidden(folder), 1);
    la_output_abandon();
    assert_int_equal(count_hidden(folder), 0);
    la_output_discard(&one);
    /* the longest name that a file can have */
    char longest[300];
    memset(longest, 'n', 255);
    longest[255] = 0;
    assert_int_equal(la_output_open(&one, in_case(folder, longest), LA_OUTPUT_SEEKABLE, &err),
                     LA_OK);
    assert_int_equal(la_output_commit(&one, &err), LA_OK);
    assert_true(exists(folder, longest));
}

/* ---- outputs that are inputs ---- */

SCRIPT(
    never_an_input,
    "cp $D/posterior $D/h5; ln -s calib.jsonl $D/same; ln $D/calib.jsonl $D/hard;"
    "no() { sum=$(cat $D/*.jsonl $D/base/* $D/adapter/* $D/h5 | cksum); \"$@\" 2> $D/err;"
    "  [ $? = 2 ] || bad \"$@\": $(cat $D/err);"
    "  [ \"$sum\" = \"$(cat $D/*.jsonl $D/base/* $D/adapter/* $D/h5 | cksum)\" ] || bad lost; };"
    "for out in $D/calib.jsonl $D/same $D/hard $D/base/model.safetensors $D/base/config.json "
    "$D/base/tokenizer.json $D/adapter/adapter_config.json $D/adapter/adapter_model.safetensors; "
    "do no fit --out $out; done; no fit --val $D/test.jsonl --out $D/test.jsonl;"
    "for out in $D/test.jsonl $D/h5 $D/base/config.json $D/adapter/adapter_config.json; do"
    "  no predict --posterior $D/h5 --out $out; done;"
    "no tokenize --out $D/test.jsonl; no report --out $D/p.jsonl;"
    "cp $D/p.jsonl $D/b.jsonl; no report --baseline $D/b.jsonl --max-regression ece=1 --out "
    "$D/b.jsonl; predict >> $D/test.jsonl 2> /dev/null; [ $? = 2 ] || bad appended;"
    "for t in test calib; do no \"$L\" compare --base $D/base --adapter $D/adapter --calib "
    "$D/calib.jsonl --test $D/test.jsonl --out $D/$t.jsonl; done")

/* Found out before the work: the base is not even there. */
SCRIPT(refused_first,
       "[ $(id -u) = 0 ] || { mkdir $D/shut; echo old > $D/shut/out; chmod 555 $D/shut;"
       "  \"$L\" fit --base x --adapter x --data x --out $D/shut/out 2> $D/err; [ $? = 5 ] || bad "
       "shut; grep -q writable $D/err || bad said; echo old > $D/mine; chmod 444 $D/mine;"
       "  \"$L\" fit --base x --adapter x --data x --out $D/mine 2> $D/err; [ $? = 5 ] || bad "
       "read-only; [ \"$(cat $D/mine)\" = old ] || bad lost; };"
       "\"$L\" fit --base x --adapter x --data x --out /proc/x.h5 2> $D/err; [ $? = 5 ] || bad "
       "/proc; grep -q /proc/x.h5 $D/err || bad said")

/* ---- tables ---- */

/* The report of rows is the same, whether they are JSON lines or a table; bad rows are in both. */
static void tables(void **state) {
    static const char *const fixtures[][2] = {
        {"bert", ""}, {"bert-regression", ""}, {"bert-token", "--flat"}, {"bert-multilabel", ""}};
    (void)state;
    for (size_t i = 0; i < sizeof fixtures / sizeof *fixtures; i++) {
        const char *folder = open_case(fixtures[i][0]);
        char script[2000];
        fit_case(folder);
        snprintf(script, sizeof script,
                 WRITERS "echo '{\"input_ids\":[]}' >>$D/test.jsonl;"
                         "predict --skip-bad --out $D/p.jsonl %s || bad jsonl;"
                         "predict --skip-bad --out $D/p.csv %s || bad csv;"
                         "predict --skip-bad --format csv %s | cmp - $D/p.csv || bad stdout;"
                         "! cmp -s $D/p.jsonl $D/p.csv || bad extension;"
                         "report | grep -vE '\"(predictions|xxh3)\"' >$D/a || bad report;"
                         "\"$L\" report $D/p.csv --format json --quiet |"
                         " grep -vE '\"(predictions|xxh3)\"' >$D/b;"
                         "cmp $D/a $D/b || bad another report; grep -q '\"n_errors\": 1' $D/b ||"
                         " bad errors",
                 fixtures[i][1], fixtures[i][1], fixtures[i][1]);
        command done = run_shell(folder, script);
        if (done.code)
            fail_msg("%s: exit code %d of the script; stderr: %.600s", fixtures[i][0], done.code,
                     done.err);
        command_free(&done);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(through_fifo),       cmocka_unit_test(through_descriptors),
        cmocka_unit_test(through_devices),    cmocka_unit_test(through_closed),
        cmocka_unit_test(through_socket),     cmocka_unit_test(links_stay),
        cmocka_unit_test(hard_links),         cmocka_unit_test(modes),
        cmocka_unit_test(planted_links),      cmocka_unit_test(crashes_are_cleaned),
        cmocka_unit_test(temporaries_in_use), cmocka_unit_test(never_an_input),
        cmocka_unit_test(refused_first),      cmocka_unit_test(tables),
    };
    return cmocka_run_group_tests_name("outputs", tests, NULL, NULL);
}

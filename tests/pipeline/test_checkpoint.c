/* Fits with a checkpoint: killed at any moment and gone on with, stopped by signals, refused. */
#include "base/digest.h"
#include "base/machine.h"
#include "pipeline/sums_image.h"
#include "support/faults.h"
#include "support/process.h"

#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE = 60, COPIES = 8, KILLS = 3 };

static const char *open_rows(void) {
    return open_case_with_rows("bert-all-linear", COPIES);
}

#define BEGIN "fit --base @/base --adapter @/adapter --data @/rows.jsonl --threads 1 "
#define OFTEN "--checkpoint @/ck --checkpoint-every 0.001 --batch-tokens 64 "

/* Rows of the fit, told on standard error. */
static process start(const char *folder, const char *curvature, const char *out) {
    char base[512], adapter[512], data[512], to[512], ck[512];
    const char *argv[] = {
        "laplora",        "fit", "--base",    base, "--adapter",          adapter,
        "--data",         data,  "--out",     to,   "--curvature",        curvature,
        "--checkpoint",   ck,    "--threads", "1",  "--checkpoint-every", "0.001",
        "--batch-tokens", "64",  "--resume",  NULL};
    snprintf(base, sizeof base, "%s/base", folder);
    snprintf(adapter, sizeof adapter, "%s/adapter", folder);
    snprintf(data, sizeof data, "%s/rows.jsonl", folder);
    snprintf(to, sizeof to, "%s/%s", folder, out);
    snprintf(ck, sizeof ck, "%s/ck", folder);
    return process_start(argv);
}

/* Number and time of the file with that name; zeros: none. */
typedef struct version {
    ino_t number;
    struct timespec time;
} version;

static version version_of(const char *path) {
    struct stat info;
    return stat(path, &info) ? (version){0} : (version){info.st_ino, info.st_ctim};
}

static bool has_ended(const process *p) {
    siginfo_t info = {0};
    return !waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT) && info.si_pid;
}

/* Until the checkpoint is another file than `before`, or the process has ended. */
static void wait_for_checkpoint(const char *folder, const process *p, version before) {
    char path[512];
    snprintf(path, sizeof path, "%s", in_case(folder, "ck"));
    for (int i = 0; i < PATIENCE * 1000; i++) {
        version now = version_of(path);
        bool same = now.number == before.number && now.time.tv_sec == before.time.tv_sec &&
                    now.time.tv_nsec == before.time.tv_nsec;
        if ((now.number && !same) || has_ended(p))
            return;
        wait_ms(1);
    }
    fail_msg("no checkpoint was written");
}

static bool said(const process *p, const char *piece) {
    size_t length;
    char *text = read_file(p->err, &length);
    bool found = strstr(text, piece) != NULL;
    free(text);
    return found;
}

static void check_runs(const char *folder, const char *line, const char *piece) {
    command done = run_line(folder, line, NULL);
    if (done.code || (piece && !strstr(done.err, piece)))
        fail_msg("exit code %d, expected 0 and \"%s\": %.500s", done.code, piece ? piece : "",
                 done.err);
    command_free(&done);
}

static void check_same(const char *folder, const char *a, const char *b) {
    size_t n, m;
    char *x = read_file(in_case(folder, a), &n), *y = read_file(in_case(folder, b), &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

static void check_gone(const char *folder) {
    assert_int_equal(access(in_case(folder, "ck"), F_OK), -1);
    assert_int_equal(access(in_case(folder, "ck.1"), F_OK), -1);
    DIR *list = opendir(folder);
    for (struct dirent *entry; (entry = readdir(list));)
        if (strstr(entry->d_name, "laplora-tmp"))
            fail_msg("%s is left", entry->d_name);
    closedir(list);
}

/* ---- the same bytes ---- */

/* A fit that is begun again and again and killed while it works, and ends at last. */
static void kill_and_resume(const char *curvature, const char *folder, const char *whole) {
    int resumed = 0;
    for (int i = 0; i < KILLS; i++) {
        version before = version_of(in_case(folder, "ck"));
        process p = start(folder, curvature, "part");
        wait_for_checkpoint(folder, &p, before);
        wait_ms(7 * i);
        kill(p.pid, SIGKILL);
        int code = process_finish(&p, PATIENCE);
        assert_true(code == 128 + SIGKILL || code == 0);
        resumed += said(&p, "goes on with row");
        process_close(&p);
    }
    process p = start(folder, curvature, "part");
    assert_int_equal(process_finish(&p, PATIENCE), 0);
    resumed += said(&p, "goes on with row");
    process_close(&p);
    assert_true(resumed > 0);
    check_same(folder, whole, "part");
    check_gone(folder);
}

static void killed(void **state) {
    (void)state;
    static const char *const kinds[] = {"kron", "ekfac", "diag", "exact", "last-layer"};
    const char *folder = open_rows();
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char line[512];
        snprintf(line, sizeof line,
                 BEGIN "--out @/whole-%s --curvature %s --batch-tokens 64 --quiet", kinds[i],
                 kinds[i]);
        check_runs(folder, line, NULL);
        snprintf(line, sizeof line, "whole-%s", kinds[i]);
        kill_and_resume(kinds[i], folder, line);
    }
}

/* States for distances are of another pass where there is a checkpoint. */
static void with_distances(void **state) {
    (void)state;
    const char *folder = open_rows();
    check_runs(folder, BEGIN "--out @/a --ood --quiet", NULL);
    check_runs(folder, BEGIN "--out @/b --ood --quiet --checkpoint @/ck", NULL);
    check_same(folder, "a", "b");
    check_gone(folder);
}

/* ---- signals ---- */

static void stop_and_resume(const char *folder, int number) {
    version before = version_of(in_case(folder, "ck"));
    process p = start(folder, "ekfac", "part");
    wait_for_checkpoint(folder, &p, before);
    double from = la_seconds();
    kill(p.pid, number);
    int code = process_finish(&p, PATIENCE);
    print_message("    ended %.2f s after signal %d\n", la_seconds() - from, number);
    assert_true(code == 128 + number || code == 0);
    process_close(&p);
    if (code)
        assert_int_equal(access(in_case(folder, "ck"), F_OK), 0);
    p = start(folder, "ekfac", "part");
    assert_int_equal(process_finish(&p, PATIENCE), 0);
    assert_true(!code || said(&p, "goes on with row"));
    process_close(&p);
    check_same(folder, "whole", "part");
    check_gone(folder);
}

static void stopped(void **state) {
    (void)state;
    const char *folder = open_rows();
    check_runs(folder, BEGIN "--out @/whole --curvature ekfac --batch-tokens 64 --quiet", NULL);
    stop_and_resume(folder, SIGTERM);
    stop_and_resume(folder, SIGINT);
}

/* Within a batch that lasts longer than the program may: the handler writes what there was before
 * it. One row of many tokens again and again, in a batch of 256 of them. */
static void stopped_within_a_batch(void **state) {
    (void)state;
    const char *folder = open_case("bert-all-linear");
    FILE *file = fopen(in_case(folder, "rows.jsonl"), "wb");
    for (int i = 0; i < 256 * 4; i++) {
        fprintf(file, "{\"label\":%d,\"input_ids\":[%d", i % 4, 5 + i % 90);
        for (int j = 1; j < 48; j++)
            fprintf(file, ",%d", 5 + (i * 7 + j * j) % 90);
        fprintf(file, "]}\n");
    }
    fclose(file);
    command done = run_shell(
        folder, "\"$L\" fit --base $D/base --adapter $D/adapter --data $D/rows.jsonl --out $D/o "
                "--threads 1 --batch-tokens 1000000 --checkpoint $D/ck 2> $D/err & p=$!;"
                "sleep 1; kill -TERM $p; wait $p; echo $? > $D/code");
    command_free(&done);
    size_t length;
    char *code = read_file(in_case(folder, "code"), &length);
    bool interrupted = !strcmp(code, "143\n");
    assert_true(interrupted || !strcmp(code, "0\n"));
    free(code);
    if (interrupted)
        assert_int_equal(access(in_case(folder, "ck"), F_OK), 0);
}

/* While the first checkpoint is on its way to a slow disk: there is nothing else to go on with. */
static void stopped_within_the_first_write(void **state) {
    (void)state;
    if (SANITIZED) {
        print_message("    skipped: a sanitizer wants to be the first library\n");
        skip();
    }
    const char *folder = open_rows();
    char script[PROGRAM_PATH + 2048], library[PROGRAM_PATH];
    beside_this_program("slow_disk.so", library);
    snprintf(
        script, sizeof script,
        "set -e; fit() { \"$L\" fit --base $D/base --adapter $D/adapter --data $D/rows.jsonl "
        "--threads 1 --batch-tokens 64 \"$@\"; }; fit --quiet --out $D/whole;"
        "LAPLORA_SLOW_DISK=$D/slow LD_PRELOAD='%s' \"$L\" fit --base $D/base "
        "--adapter $D/adapter --data $D/rows.jsonl --threads 1 --batch-tokens 64 --out $D/part "
        "--checkpoint $D/ck --checkpoint-every 0.001 2> $D/err & p=$!;"
        "for i in $(seq 600); do [ -e $D/slow ] && break; sleep 0.1; done;"
        "kill -TERM $p; c=0; wait $p || c=$?; [ $c = 143 ]; [ -e $D/ck ];"
        "fit --checkpoint $D/ck --resume --out $D/part 2> $D/err;"
        "grep -q 'goes on with row' $D/err; cmp $D/whole $D/part",
        library);
    command done = run_shell(folder, script);
    if (done.code)
        fail_msg("exit code %d: %.500s", done.code, done.err);
    command_free(&done);
}

/* ---- which checkpoint is taken ---- */

/* Stops the process where both files are there; else it goes on. The newer one is away for a moment
 * while it is replaced. */
static bool holds_both(const char *folder, const process *p) {
    siginfo_t info = {0};
    kill(p->pid, SIGSTOP);
    waitid(P_PID, (id_t)p->pid, &info, WSTOPPED | WEXITED | WNOWAIT);
    bool both = !access(in_case(folder, "ck"), F_OK) && !access(in_case(folder, "ck.1"), F_OK);
    if (!both)
        kill(p->pid, SIGCONT);
    return both || info.si_code == CLD_EXITED;
}

/* Leaves a checkpoint, and the one before it, of a fit that is killed. */
static const char *open_killed(void) {
    const char *folder = open_rows();
    version before = version_of(in_case(folder, "ck"));
    process p = start(folder, "kron", "o");
    wait_for_checkpoint(folder, &p, before);
    for (int i = 0; i < PATIENCE * 1000 && !holds_both(folder, &p); i++)
        wait_ms(1);
    kill(p.pid, SIGKILL);
    int code = process_finish(&p, PATIENCE);
    process_close(&p);
    if (!code)
        fail_msg("the fit had ended");
    assert_int_equal(access(in_case(folder, "ck"), F_OK), 0);
    assert_int_equal(access(in_case(folder, "ck.1"), F_OK), 0);
    return folder;
}

static void copy(const char *folder, const char *from, const char *to) {
    size_t length;
    char *data = read_file(in_case(folder, from), &length);
    write_file(in_case(folder, to), data, length);
    free(data);
}

static void check_refused(const char *folder, int code, const char *options, const char *piece) {
    char line[1024];
    const char *pieces[] = {piece};
    snprintf(line, sizeof line, BEGIN "--out @/out --quiet %s", options);
    command done = run_line(folder, line, NULL);
    check_message(&done, code, pieces, 1);
    command_free(&done);
    check_nothing_written(folder);
}

/* What a checkpoint is, and what becomes of it. */
static void told(const char *folder) {
    static const struct {
        const char *line, *piece;
        int code;
    } list[] = {
        {"info @/ck", "--resume", 0},
        {"predict --posterior @/ck --data @/test.jsonl", "is no posterior but the check", 3},
        {"report @/ck", "is a checkpoint of laplora fit, expected a prediction file", 4},
        {"merge @/ck --out @/out", "is no part but the checkpoint", 3}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        command done = run_line(folder, list[i].line, NULL);
        if (done.code != list[i].code || !strstr(done.code ? done.err : done.out, list[i].piece))
            fail_msg("%s: %d %s%s", list[i].line, done.code, done.out, done.err);
        command_free(&done);
    }
}

static void of_another_fit(void **state) {
    (void)state;
    const char *folder = open_killed();
    told(folder);
    static const struct {
        const char *options, *field;
    } rows[] = {{"--kron reduce", "--kron is expand there, reduce here"},
                {"--curvature diag", "--curvature is kron there, diag here"},
                {"--rank 3", "--rank"},
                {"--params lora+head", "--params"},
                {"--max-length 7", "--max-length is 48 there, 7 here"},
                {"--prior 3", "--prior"},
                {"--select none", "--select"},
                {"--heldout", "--heldout is not given there, given here"},
                {"--adue", "--adue"},
                {"--labels a,b,c,d", "--labels"},
                {"--base-quant int8", "--base"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char options[256];
        snprintf(options, sizeof options, "%s --resume " OFTEN, rows[i].options);
        check_refused(folder, 7, options, rows[i].field);
    }
    check_refused(folder, 7, "--resume --checkpoint @/ck --batch-tokens 77",
                  "--batch-tokens is 64 there, 77 here");
    char *rows_before = in_case(folder, "rows.jsonl");
    FILE *file = fopen(rows_before, "ab");
    fprintf(file, "{\"input_ids\":[5,6],\"label\":1}\n");
    fclose(file);
    check_refused(folder, 7, "--resume " OFTEN, "--data");
}

static void flip(const char *folder, const char *name, long at) {
    size_t length;
    char *data = read_file(in_case(folder, name), &length);
    data[at < 0 ? (long)length + at : at] ^= 1;
    write_file(in_case(folder, name), data, length);
    free(data);
}

static void damaged(void **state) {
    (void)state;
    const char *folder = open_killed();
    check_runs(folder, BEGIN "--out @/whole --batch-tokens 64 --quiet", NULL);
    copy(folder, "ck", "new");
    copy(folder, "ck.1", "old");
    /* the older one is taken: after a bit has changed anywhere, half a file, none */
    for (int i = 0; i < 5; i++) {
        copy(folder, "new", "ck");
        copy(folder, "old", "ck.1");
        if (i < 3)
            flip(folder, "ck", i == 0 ? 3 : i == 1 ? 5000 : -1);
        else if (i == 3)
            assert_int_equal(truncate(in_case(folder, "ck"), 4000), 0);
        else
            unlink(in_case(folder, "ck"));
        check_runs(folder, BEGIN "--out @/part --resume " OFTEN, "goes on with the older");
        check_same(folder, "whole", "part");
        check_gone(folder);
    }
    copy(folder, "new", "ck");
    write_file(in_case(folder, "ck.1"), "", 0);
    check_runs(folder, BEGIN "--out @/part --resume " OFTEN, "goes on with row");
    check_same(folder, "whole", "part");
    /* none is whole */
    copy(folder, "new", "ck");
    flip(folder, "ck", 5000);
    check_refused(folder, 3, "--resume " OFTEN, "do not have its digest");
    copy(folder, "ck", "ck.1");
    check_refused(folder, 3, "--resume " OFTEN, "do not have its digest");
    unlink(in_case(folder, "ck"));
    check_refused(folder, 3, "--resume " OFTEN, "ck.1");
}

/* Changes 8 bytes and gives the file a digest that fits. */
static void forge(const char *folder, size_t at, const void *bytes, size_t cut) {
    size_t length;
    char *data = read_file(in_case(folder, "new"), &length);
    memcpy(data + at, bytes, 8);
    length -= cut;
    uint64_t digest = la_hash64(data, length - 8);
    memcpy(data + length - 8, &digest, 8);
    write_file(in_case(folder, "ck"), data, length);
    free(data);
}

static void forged(void **state) {
    (void)state;
    const char *folder = open_killed();
    size_t length, name = offsetof(la_image_header, identity);
    copy(folder, "ck", "new");
    unlink(in_case(folder, "ck.1"));
    char *data = read_file(in_case(folder, "new"), &length);
    la_image_header header;
    memcpy(&header, data, sizeof header);
    size_t section = sizeof header + ((header.identity + 7) & ~(size_t)7);
    size_t totals = section + sizeof(la_image_section) + sizeof(la_image_array);
    assert_string_equal(data + section + sizeof(la_image_section), "totals");
    free(data);
    const double infinite = HUGE_VAL, many = 1e300;
    const int64_t below = -1, most = INT64_MAX, none = 0;
    const struct {
        size_t at;
        const void *bytes;
        size_t cut;
        int code;
        const char *piece;
    } rows[] = {
        {offsetof(la_image_header, bytes), &most, 0, 3, "not as long as it says"},
        {name, &most, 0, 3, "header makes no sense"},
        {name, &below, 0, 3, "header makes no sense"},
        {offsetof(la_image_header, sections), &most, 0, 3, "header makes no sense"},
        {offsetof(la_image_header, sections), &none, 0, 3, "more than its sections"},
        {section + offsetof(la_image_section, bytes), &most, 0, 3, "a section has no such length"},
        {section + offsetof(la_image_section, bytes), &none, 0, 3, "a section has no such length"},
        {section + offsetof(la_image_section, at), &below, 0, 3, "do not follow each other"},
        {section + offsetof(la_image_section, at), &most, 0, 3, "do not follow each other"},
        {section + offsetof(la_image_section, to), &most, 0, 7, "its pass ends before row"},
        {section + offsetof(la_image_section, pass), &most, 0, 3, "do not follow each other"},
        {section + sizeof(la_image_section), "another", 0, 7, "its sums are not those of totals"},
        {totals - 16, &most, 0, 7, "its sums are not those of totals"},
        {totals, &many, 0, 3, "totals"},
        {totals + 8, &many, 0, 3, "totals"},
        {totals + 16, &infinite, 0, 3, "not finite"},
        {sizeof header, "--nobody", 0, 7, "version of laplora"},
        {section, &none, 800, 3, "not as long as it says"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        forge(folder, rows[i].at, rows[i].bytes, rows[i].cut);
        check_refused(folder, rows[i].code, "--resume " OFTEN, rows[i].piece);
    }
    write_file(in_case(folder, "ck"), "", 0);
    check_refused(folder, 3, "--resume " OFTEN, "shorter than a checkpoint");
    unlink(in_case(folder, "ck"));
    mkdir(in_case(folder, "ck"), 0700);
    check_refused(folder, 5, "--resume " OFTEN, "directory");
}

/* ---- where there is none, or something else ---- */

static void begun_anew(void **state) {
    (void)state;
    const char *folder = open_killed();
    copy(folder, "ck", "kept");
    check_runs(folder, BEGIN "--out @/o --kron reduce " OFTEN, "will be replaced");
    check_gone(folder);
    check_runs(folder, BEGIN "--out @/o --resume " OFTEN, "starts from the beginning");
    check_gone(folder);
}

static void refused(void **state) {
    (void)state;
    const char *folder = open_rows();
    check_refused(folder, 2, "--checkpoint @/rows.jsonl", "would replace --data");
    check_refused(folder, 2, "--checkpoint @/base/config.json", "would replace a file of --base");
    check_refused(folder, 2, "--checkpoint @/calib.jsonl", "is no checkpoint");
    check_refused(folder, 2, "--checkpoint @/out", "is --out too");
    check_refused(folder, 2, "--checkpoint /dev/null", "is no regular file");
    check_refused(folder, 5, "--checkpoint @/nowhere/ck", "nowhere");
    check_refused(folder, 2, "--resume", "--resume needs --checkpoint");
    check_refused(folder, 2, "--checkpoint-every 3", "--checkpoint-every needs --checkpoint");
    check_refused(folder, 2, "--checkpoint @/ck --checkpoint-every 0", "--checkpoint-every");
    write_file(in_case(folder, "ck.1"), "mine", 4);
    check_refused(folder, 2, "--checkpoint @/ck", "ck.1: is no checkpoint");
    unlink(in_case(folder, "ck.1"));
    check_gone(folder);
    /* what begins with zeros may be somebody's; a file of zeros holds nothing */
    char video[100000] = "\0\0\0\030ftyp";
    write_file(in_case(folder, "video"), video, sizeof video);
    check_refused(folder, 2, "--checkpoint @/video", "video: is no checkpoint");
    memset(video, 0, sizeof video);
    video[sizeof video - 1] = 1;
    write_file(in_case(folder, "video"), video, sizeof video);
    check_refused(folder, 2, "--checkpoint @/video", "video: is no checkpoint");
    assert_int_equal(access(in_case(folder, "video"), F_OK), 0);
    video[sizeof video - 1] = 0;
    write_file(in_case(folder, "ck"), video, sizeof video);
    check_runs(folder, BEGIN "--out @/o --checkpoint @/ck --quiet", NULL);
    check_gone(folder);
}

/* A disk that takes no more, here a folder that is removed: the fit goes on. */
static void without_room(void **state) {
    (void)state;
    const char *folder = open_rows();
    check_script(folder, "mkdir $D/gone; \"$L\" fit --base $D/base --adapter $D/adapter "
                         "--data $D/rows.jsonl --out $D/o --threads 1 --checkpoint $D/gone/ck "
                         "--checkpoint-every 0.001 --batch-tokens 64 2> $D/err & p=$!;"
                         "while ! rm $D/gone/ck 2> /dev/null; do :; done;"
                         "while [ -e $D/gone ]; do rm -rf $D/gone 2> /dev/null; done;"
                         "wait $p || exit; grep -q 'cannot write a checkpoint' $D/err");
    check_gone(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed),
        cmocka_unit_test(with_distances),
        cmocka_unit_test(stopped),
        cmocka_unit_test(stopped_within_a_batch),
        cmocka_unit_test(stopped_within_the_first_write),
        cmocka_unit_test(of_another_fit),
        cmocka_unit_test(damaged),
        cmocka_unit_test(forged),
        cmocka_unit_test(begun_anew),
        cmocka_unit_test(refused),
        cmocka_unit_test(without_room),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}

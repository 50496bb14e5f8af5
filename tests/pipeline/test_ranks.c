/* Several processes under mpirun, where it and the module are installed. */
#include "support/faults.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* $M: mpirun with so many processes. It is never waited for longer than a minute. */
#define MPIRUN "M='timeout 60 mpirun --oversubscribe --allow-run-as-root -n'; "
#define FIT_LINE                                                                                   \
    " \"$L\" fit --base $D/base --adapter $D/adapter --data $D/rows.jsonl --threads 1 --quiet "

static void check(const char *folder, const char *script) {
    char all[4096];
    snprintf(all, sizeof all, MPIRUN "%s", script);
    command done = run_shell(folder, all);
    if (done.code)
        fail_msg("exit code %d: %.900s", done.code, done.err);
    command_free(&done);
}

static void need_mpi(void) {
    const char *folder = open_case(NULL);
    command done = run_shell(
        folder, "command -v mpirun > /dev/null && [ -e \"$(dirname \"$L\")/liblaplora_mpi.so\" ]");
    bool there = !done.code;
    command_free(&done);
    if (!there) {
        print_message("    skipped: no mpirun, or laplora was built without MPI\n");
        skip();
    }
}

/* Largest difference of probabilities. */
static double difference(const char *folder, const char *a, const char *b) {
    json_t *x = load_lines(in_case(folder, a)), *y = load_lines(in_case(folder, b));
    double worst = 0;
    assert_int_equal(json_array_size(x), json_array_size(y));
    for (size_t i = 0; i < json_array_size(x); i++) {
        json_t *p = json_object_get(json_array_get(x, i), "probs"),
               *q = json_object_get(json_array_get(y, i), "probs");
        for (size_t c = 0; c < json_array_size(p); c++)
            worst = fmax(worst, fabs(json_real_value(json_array_get(p, c)) -
                                     json_real_value(json_array_get(q, c))));
    }
    json_decref(x);
    json_decref(y);
    return worst;
}

/* A fit of 1, 2 and 3 processes: equal to rounding, and the same bytes each time. */
static void fitted(void **state) {
    (void)state;
    need_mpi();
    static const char *const kinds[] = {"kron", "ekfac", "diag"};
    const char *folder = open_case_with_rows("bert-all-linear", 2);
    double worst = 0;
    for (int i = 0; i < 3; i++) {
        char script[2048];
        snprintf(script, sizeof script,
                 "set -e; A='--curvature %s'; for n in 1 2 3; do $M $n" FIT_LINE
                 "$A --out $D/p$n; done; $M 3" FIT_LINE "$A --out $D/again;"
                 "cmp $D/p3 $D/again; for n in 1 2 3; do \"$L\" predict --posterior $D/p$n --quiet "
                 "--predictive probit --data $D/test.jsonl --out $D/o$n.jsonl; done",
                 kinds[i]);
        check(folder, script);
        worst = fmax(worst, difference(folder, "o1.jsonl", "o2.jsonl"));
        worst = fmax(worst, difference(folder, "o1.jsonl", "o3.jsonl"));
    }
    check_within("probabilities of fits of 2 and 3 processes against 1", worst, 8e-8);
}

/* More processes than rows. */
static void few_rows(void **state) {
    (void)state;
    need_mpi();
    const char *folder = open_case_with_rows("bert-all-linear", 1);
    check(folder, "head -n 2 $D/calib.jsonl > $D/rows.jsonl; $M 3" FIT_LINE
                  "--prior 1 --out $D/p && [ -s $D/p ]");
}

static void predicted(void **state) {
    (void)state;
    need_mpi();
    const char *folder = open_case_with_rows("bert-all-linear", 3);
    check(folder, "set -e; \"$L\" fit --base $D/base --adapter $D/adapter --data $D/calib.jsonl "
                  "--threads 1 --quiet --prior 1 --out $D/p;"
                  "A='predict --posterior '$D'/p --data '$D'/rows.jsonl --quiet --threads 1 "
                  "--batch-tokens 100 --emit logits'; \"$L\" $A --out $D/o1;"
                  "for n in 2 3; do $M $n \"$L\" $A --out $D/o$n; cmp $D/o1 $D/o$n; done;"
                  "$M 2 \"$L\" $A --format csv > $D/csv; \"$L\" $A --format csv > $D/csv1;"
                  "cmp $D/csv $D/csv1");
}

/* Exit code, one line of ours, within ten seconds (and a start of some). */
#define FAILS(processes, code, piece)                                                              \
    processes " 2> $D/err < /dev/null; [ $? = " code " ] || { cat $D/err >&2; exit 1; };"          \
              "grep 'laplora: error: ' $D/err | grep -q -- '" piece "' || { cat $D/err >&2; exit " \
              "1; };"

static void refused(void **state) {
    (void)state;
    need_mpi();
    const char *folder = open_case_with_rows("bert-all-linear", 4);
    check(folder,
          FAILS("$M 2" FIT_LINE "--out $D/p --curvature exact", "4", "keeps rows")
              FAILS("$M 2 \"$L\" fit --base $D/base --adapter $D/adapter --data $D/none.jsonl "
                    "--out $D/p",
                    "3", "none.jsonl")
                  FAILS("$M 2 \"$L\" fit --base $D/base --adapter $D/adapter --data - --out "
                        "$D/p",
                        "2", "standard input"));
    check(folder, FAILS("$M 1" FIT_LINE "--out $D/p : -n 1" FIT_LINE "--out $D/p --kron reduce",
                        "7", "--kron is expand there, reduce here") "[ ! -e $D/p ]");
    check(folder,
          "cp \"$L\" $D/alone;" FAILS("$M 2 $D/alone fit --base $D/base --adapter $D/adapter "
                                      "--data $D/rows.jsonl --out $D/p",
                                      "4", "built without it") "[ ! -e $D/p ];"
                                                               "LAPLORA_MPI=none $M 1 $D/alone "
                                                               "--version > /dev/null");
}

/* All are killed at some moment, each with a checkpoint of its own, and begun again: the same
 * bytes. The second time one of the checkpoints is lost. */
static void resumed(void **state) {
    (void)state;
    need_mpi();
    static const char *const kinds[] = {"kron", "ekfac"};
    const char *folder = open_case_with_rows("bert-all-linear", 30);
    for (int i = 0; i < 2; i++) {
        char script[2048];
        snprintf(
            script, sizeof script,
            "set -e; A='--batch-tokens 64 --curvature %s'; rm -f $D/ck.* $D/part; $M 2" FIT_LINE
            "$A --out $D/whole; for time in 1 2 3; do $M 2" FIT_LINE
            "$A --out $D/part --checkpoint $D/ck --checkpoint-every 0.001 --resume 2> $D/err & "
            "p=$!;"
            "for k in $(seq 3000); do [ -e $D/ck.1-of-2 ] && [ -e $D/ck.2-of-2 ] && break;"
            "sleep 0.01; done; sleep 0.0$time; pkill -9 -f -- \"--out $D/part\"; wait $p && exit 9;"
            "[ $time != 2 ] || rm -f $D/ck.2-of-2*; done; [ ! -e $D/part ];"
            "$M 2 \"$L\" fit --base $D/base --adapter $D/adapter --data $D/rows.jsonl --threads 1 "
            "$A --out $D/part --checkpoint $D/ck --resume 2> $D/err; cmp $D/whole $D/part;"
            "grep -q 'ck.1-of-2: goes on with row' $D/err; ls $D/ck.* 2> /dev/null && exit 8; true",
            kinds[i]);
        check(folder, script);
    }
}

/* One of three is killed: the others end, and nothing is written. */
static void killed(void **state) {
    (void)state;
    need_mpi();
    const char *folder = open_case_with_rows("bert-all-linear", 2000);
    check(
        folder,
        "$M 3 bash -c 'echo $$ > '$D'/pid.$OMPI_COMM_WORLD_RANK; exec \"$0\" \"$@\"'" FIT_LINE
        "--out $D/p --checkpoint $D/kept --checkpoint-every 0.1 2> $D/err & p=$!;"
        "for i in $(seq 500); do [ -e $D/kept.3-of-3 ] && break; sleep 0.1; done;"
        "kill -9 $(cat $D/pid.2);"
        "for i in $(seq 100); do kill -0 $p 2> /dev/null || break; sleep 0.1; done;"
        "kill -0 $p 2> /dev/null && exit 9; wait $p && exit 8;"
        "alive() { for r in 0 1; do ps -o stat= -p $(cat $D/pid.$r) | grep -q '^[^Z]' && return 0;"
        "done; return 1; };"
        "for i in $(seq 50); do alive || break; sleep 0.1; done; alive && exit 7;"
        "[ ! -e $D/p ] && [ $(grep -c 'laplora: ' $D/err) -le 1 ]");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fitted),  cmocka_unit_test(few_rows), cmocka_unit_test(predicted),
        cmocka_unit_test(refused), cmocka_unit_test(resumed),  cmocka_unit_test(killed),
    };
    return cmocka_run_group_tests_name("ranks", tests, NULL, NULL);
}

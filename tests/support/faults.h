/* One fault a row: a healthy tiny checkpoint, the damage done to it, the command, and how it must
 * fail. Checked each time: the exit code; that stderr is one line "laplora: error: ..." with all
 * the given pieces; that an older output file is as it was; that no temporary file is left. */
#ifndef LA_TESTS_FAULTS_H
#define LA_TESTS_FAULTS_H

#include "support/support.h"

typedef struct fault fault;
struct fault {
    const char *name;
    int code; /* expected; 0: a case that must work, the pieces are then in stdout or stderr */
    const char *pieces[4]; /* parts that the message must have */
    /* Blank-separated; "@" is the folder of the case. NULL: FIT of a classifier. */
    const char *command;
    void (*damage)(const fault *, const char *folder);
    const char *file; /* the file that is damaged, in the folder */
    const char *a, *b;
    const char *fixture; /* name in tests/fixtures/parity; default bert */
    const char *input;   /* standard input */
};

#define FIT "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/out --quiet"
#define FIT_CHOICES FIT " --choice-ids 37,76,92,95"
/* @/posterior is fitted before the damage is done */
#define PREDICT "predict --posterior @/posterior --data @/test.jsonl --out @/out --quiet"

int run_faults(const char *group, const fault *faults, size_t n);

/* A copy of a parity fixture in a scratch folder that is emptied first; a static buffer. With
 * `older` in the file out. */
const char *open_case(const char *fixture_name);
/* Fits @/posterior. */
void fit_case(const char *folder);
/* Runs a blank-separated command, "@" being the folder. "''" is an empty argument. */
command run_line(const char *folder, const char *line, const char *input);
/* A copy of a fixture with rows.jsonl, its calibration rows so many times over: a fit that takes
 * some time. */
const char *open_case_with_rows(const char *fixture_name, int copies);
/* Runs a script of bash: $L is the program, $D the folder. */
command run_shell(const char *folder, const char *script);
/* Likewise; fails unless it ends with 0. */
void check_script(const char *folder, const char *script);
/* Fails unless stderr is one good line with all pieces (NULL ends them). */
void check_message(const command *done, int code, const char *const *pieces, int n_pieces);
/* Fails when the older output changed or a temporary file lies in the folder. */
void check_nothing_written(const char *folder);
char *in_case(const char *folder, const char *file);

/* ---- damage ---- */

void put_file(const fault *f, const char *folder);    /* file := a */
void append_text(const fault *f, const char *folder); /* file += a */
void cut_file(const fault *f, const char *folder);    /* to a bytes, or by -a bytes */
void remove_file(const fault *f, const char *folder); /* file */
void rename_file(const fault *f, const char *folder); /* file to a */
void copy_other(const fault *f, const char *folder);  /* file := tests/fixtures/a */
void set_key(const fault *f, const char *folder);     /* in a JSON file, key a := JSON b, or gone */
void replace_text(const fault *f, const char *folder); /* first a := b */
void nest_deeply(const fault *f, const char *folder);  /* file := 5,000 open brackets in {"a": */
void set_header(const fault *f, const char *folder);   /* header of a safetensors file := a */
void nest_header(const fault *f, const char *folder);
void header_length_is(const fault *f, const char *folder); /* a in decimal */
void merge_entry(const fault *f,
                 const char *folder); /* tensor ending in a: header entry += JSON b */
void repeat_entry(const fault *f, const char *folder);  /* the entry of tensor a twice */
void drop_tensor(const fault *f, const char *folder);   /* tensor ending in a */
void rename_tensor(const fault *f, const char *folder); /* tensor ending in a, to b */
void reshape_tensor(const fault *f,
                    const char *folder); /* a, to shape b, data cut or padded with zeros */
void poison_tensor(const fault *f, const char *folder); /* a, element 5 := b */
void use_tokenizer(const fault *f, const char *folder); /* a small WordPiece, and rows with text */

#endif

/* A child process that a test talks to, stops or waits for. */
#ifndef LA_TESTS_PROCESS_H
#define LA_TESTS_PROCESS_H

#include "support/support.h"

#include <sys/types.h>

typedef struct process {
    pid_t pid;
    int in, out;    /* ends of its standard input and output; in may be closed and set to -1 */
    char err[4096]; /* file with its standard error */
} process;

/* The program under test: LAPLORA, default build/laplora. */
const char *program(void);
/* Starts it with pipes as standard input and output. */
process process_start(const char *const *argv);
/* The same, with a signal ignored, as nohup does. */
process process_start_ignoring(const char *const *argv, int ignored);
/* Its exit code, or 128 + signal; 124 when it had to be killed after the seconds. */
int process_finish(process *p, int seconds);
void process_close(process *p);
void wait_ms(long ms);

#endif

#include "base/stop.h"
#include "base/output_file.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

/* From the signal to the end: long enough for any piece of work between two questions that is not
 * within one call of a library, and an answer within a second. */
enum { GRACE_MS = 400, AGAIN_MS = 50, AGAIN_MOST = 6, FIRST_MOST = 100 };

static _Atomic int stop_signal;
static atomic_flag ending = ATOMIC_FLAG_INIT, reported = ATOMIC_FLAG_INIT;
static bool on_terminal;
static _Thread_local la_stop host;
static const la_stop_saver *_Atomic saver;
static _Atomic int saving; /* handlers that may look at the saver */

/* Everything below is called in signal handlers: system calls and atomics alone. */

/* A reader that takes nothing must not hold up the end. */
static void say(const char *text) {
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&out, 1, 0) != 1 || !(out.revents & POLLOUT))
        return;
    ssize_t ignored = write(STDERR_FILENO, text, strlen(text));
    (void)ignored;
}

/* "laplora: error: interrupted by signal 15; ...", as la_check_interrupt words it. */
#define STOPPED_BY "interrupted by signal "
#define LEFT_BEHIND "; an output file is as it was, or whole"

#define NO_MEMORY "laplora: error: out of memory" LEFT_BEHIND "\n"

static void end(int number) {
    char text[160] = "\nlaplora: error: " STOPPED_BY, digits[] = {0, 0, 0};
    if (atomic_flag_test_and_set(&ending))
        return;
    la_output_abandon();
    if (atomic_flag_test_and_set(&reported))
        _exit(128 + number);
    digits[0] = (char)('0' + number / 10 % 10);
    digits[1] = (char)('0' + number % 10);
    strcat(text, *digits == '0' ? digits + 1 : digits);
    strcat(text, LEFT_BEHIND "\n");
    say(on_terminal ? text : text + 1); /* a terminal may show a progress bar, or "^C" */
    _exit(128 + number);
}

static la_saved save(void) {
    atomic_fetch_add(&saving, 1);
    const la_stop_saver *s = atomic_load(&saver);
    la_saved saved = s ? s->save(s->user) : LA_SAVED;
    atomic_fetch_sub(&saving, 1);
    return saved;
}

static void end_after(int ms) {
    struct itimerval grace = {.it_value.tv_usec = ms * 1000};
    setitimer(ITIMER_REAL, &grace, NULL);
}

static void on_stop(int number) {
    int none = 0, code = errno;
    if (!atomic_compare_exchange_strong(&stop_signal, &none, number)) {
        (void)save();
        end(number); /* the second one */
    }
    end_after(GRACE_MS);
    errno = code;
}

static void on_deadline(int number) {
    static _Atomic int again;
    int code = errno;
    (void)number;
    if (!atomic_load(&stop_signal))
        return;
    la_saved saved = save();
    int most = saved == LA_SAVE_FIRST ? FIRST_MOST : AGAIN_MOST;
    if (saved == LA_SAVED || atomic_fetch_add(&again, 1) >= most)
        end(atomic_load(&stop_signal));
    end_after(AGAIN_MS);
    errno = code;
}

static void on_bus_error(int number) {
    (void)number;
    la_output_abandon();
    say("laplora: error: an input file became shorter while it was being read (or its disk "
        "failed); expected it to stay unchanged; run again\n");
    _exit(LA_RESOURCE);
}

void *la_malloc_or_end(size_t size) {
    void *p = malloc(size);
    if (p)
        return p;
    if (!atomic_flag_test_and_set(&ending)) {
        la_output_abandon();
        if (!atomic_flag_test_and_set(&reported))
            say(on_terminal ? "\n" NO_MEMORY : NO_MEMORY);
        _exit(atomic_load(&stop_signal) ? 128 + atomic_load(&stop_signal) : LA_RESOURCE);
    }
    for (;;)
        pause(); /* another thread is ending the process */
}

void la_stop_install(void) {
    static const int stops[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action, old;
    sigset_t deadline;
    on_terminal = isatty(STDERR_FILENO);
    memset(&action, 0, sizeof action);
    action.sa_handler = on_deadline;
    sigaction(SIGALRM, &action, NULL);
    sigemptyset(&deadline);
    sigaddset(&deadline, SIGALRM);
    sigprocmask(SIG_UNBLOCK, &deadline, NULL);
    action.sa_handler = on_stop;
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++)
        if (!sigaction(stops[i], NULL, &old) && old.sa_handler != SIG_IGN)
            sigaction(stops[i], &action, NULL);
    action.sa_handler = on_bus_error;
    sigaction(SIGBUS, &action, NULL);
    action.sa_handler = SIG_IGN;
    /* writes then fail with EPIPE or EFBIG, and are reported like any other */
    sigaction(SIGPIPE, &action, NULL);
    sigaction(SIGXFSZ, &action, NULL);
}

void la_stop_save(const la_stop_saver *to) {
    atomic_store(&saver, to);
    while (!to && atomic_load(&saving))
        sched_yield(); /* the process is about to end, or it was not the moment to save */
}

bool la_stop_first_report(void) {
    return !atomic_flag_test_and_set(&reported);
}

int la_interrupted(void) {
    return atomic_load(&stop_signal);
}

la_stop la_stop_current(void) {
    return host;
}

la_stop la_stop_set(la_stop stop) {
    la_stop before = host;
    host = stop;
    return before;
}

la_status la_check_interrupt(la_error *err) {
    if (la_interrupted())
        return la_fail(err, LA_INTERRUPTED, STOPPED_BY "%d" LEFT_BEHIND, la_interrupted());
    if (host.asked && host.asked(host.user))
        return la_fail(err, LA_INTERRUPTED, "stopped by the host program" LEFT_BEHIND);
    return LA_OK;
}

#include "base/threads.h"
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static const la_command *const commands[] = {&la_command_fit,      &la_command_predict,
                                             &la_command_report,   &la_command_info,
                                             &la_command_tokenize, &la_command_compare};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void usage(FILE *stream) {
    fprintf(stream,
            "laplora %s: honest confidence for fine-tuned language models\n\n"
            "usage: laplora COMMAND [OPTION]...\n\n",
            LAPLORA_VERSION);
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(stream, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(stream,
            "\nlaplora COMMAND --help tells a command's options.\n"
            "Exit codes: 0 done, 1 a gate failed, 2 usage, 3 bad input, 4 unsupported, 5 I/O or\n"
            "resources, 6 numerical, 7 posterior of another model, 130/143 interrupted.\n");
}

static int usage_error(const char *format, const char *what) {
    la_error err = {0};
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    la_fail(&err, LA_USAGE, format, what);
#pragma GCC diagnostic pop
    return la_cli_exit(&err);
}

static int dispatch(int argc, char **argv) {
    if (argc < 2) {
        usage(stderr);
        return usage_error("no command given%s", "; see laplora --help");
    }
    if (!strcmp(argv[1], "--version")) {
        printf("laplora %s\n", LAPLORA_VERSION);
        return 0;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        usage(stdout);
        return 0;
    }
    for (int i = 0; i < N_COMMANDS; i++) {
        if (strcmp(commands[i]->name, argv[1]))
            continue;
        la_cli cli;
        la_error err = {0};
        if (la_cli_parse(commands[i], argc - 1, argv + 1, &cli, &err) != LA_OK)
            return la_cli_exit(&err);
        if (cli.help) {
            la_cli_help(commands[i], stdout);
            return 0;
        }
        return commands[i]->run(&cli);
    }
    return usage_error("no command \"%s\"; see laplora --help", argv[1]);
}

/* A file that we open must never get the number of a standard stream that our caller closed. */
static void fill_standard_streams(void) {
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
}

int main(int argc, char **argv) {
    bool closed = fcntl(STDOUT_FILENO, F_GETFD) < 0;
    fill_standard_streams();
    la_signals_install();
    /* what must go to a closed standard output fails; what goes to a file does not */
    if (closed && !freopen("/dev/full", "w", stdout))
        return LA_RESOURCE;
    int code = dispatch(argc, argv);
    /* a full disk or a closed pipe shows here at the latest */
    if (fclose(stdout) && !code) {
        la_error err = {0};
        la_fail(&err, LA_RESOURCE, "standard output: cannot write: %s", la_errno_text(errno));
        code = la_cli_exit(&err);
    }
    return code;
}

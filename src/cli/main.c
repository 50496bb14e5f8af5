#include "base/kernels.h"
#include "base/memory.h"
#include "base/stop.h"
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const la_command *const la_commands[LA_COMMANDS] = {
#define LA_COMMAND(name) &la_command_##name,
#include "cli/commands.def"
};

static void usage(FILE *stream) {
    fprintf(stream,
            "laplora %s: honest confidence for fine-tuned language models\n\n"
            "usage: laplora COMMAND [OPTION]...\n\n",
            LAPLORA_VERSION);
    for (int i = 0; i < LA_COMMANDS; i++)
        fprintf(stream, "  %-10s %s\n", la_commands[i]->name, la_commands[i]->summary);
    fprintf(stream,
            "\nlaplora COMMAND --help tells a command's options.\n"
            "Exit codes: 0 done, 1 a gate failed, 2 usage, 3 bad input, 4 unsupported, 5 I/O or\n"
            "resources, 6 numerical, 7 posterior of another model, 129/130/143 stopped.\n");
}

/* NULL: there is no such command; err says so. */
static const la_command *find_command(const char *name, la_error *err) {
    const char *near = la_command_near(name);
    for (int i = 0; i < LA_COMMANDS; i++)
        if (!strcmp(la_commands[i]->name, name))
            return la_commands[i];
    if (*name == '-')
        (void)la_fail(err, LA_USAGE,
                      "no command given, options follow one: \"%s\"; see laplora --help", name);
    else
        (void)la_fail(err, LA_USAGE, "no command \"%s\"%s%s%s; see laplora --help", name,
                      near ? ", did you mean " : "", near ? near : "", near ? "?" : "");
    return NULL;
}

static int run_command(const la_command *command, int argc, char **argv, la_error *err) {
    void *given = la_alloc(1, command->size, err);
    int code = 0;
    if (!given || la_options_parse(command, argc, argv, given, err) != LA_OK)
        code = la_cli_exit(err);
    else if (((la_common *)given)->help)
        la_options_help(command, stdout);
    else
        code = command->run(given);
    free(given);
    return code;
}

static int dispatch(int argc, char **argv) {
    la_error err = {0};
    const char *first = argc > 1 ? argv[1] : NULL, *second = argc > 2 ? argv[2] : NULL;
    if (!first) {
        usage(stderr);
        (void)la_fail(&err, LA_USAGE, "no command given; see laplora --help");
        return la_cli_exit(&err);
    }
    bool version = !strcmp(first, "--version");
    bool help = !strcmp(first, "--help") || !strcmp(first, "-h") || !strcmp(first, "help");
    if ((version && second) || (help && argc > 3)) {
        (void)la_fail(&err, LA_USAGE, "%s: \"%s\" has no meaning behind it; see laplora --help",
                      first, argv[help ? 3 : 2]);
        return la_cli_exit(&err);
    }
    if (version) {
        printf("laplora %s\n", LAPLORA_VERSION);
        return 0;
    }
    if (help && !second) {
        usage(stdout);
        return 0;
    }
    const la_command *command = find_command(help ? second : first, &err);
    if (!command)
        return la_cli_exit(&err);
    if (help) {
        la_options_help(command, stdout);
        return 0;
    }
    return run_command(command, argc - 1, argv + 1, &err);
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

/* Within this process where the library can, else by starting it once more. */
static void take_kernels(char *const *argv) {
    la_kernels_choose();
    if (la_kernels_missing())
        la_kernels_restart(la_kernels_missing(), argv);
}

int main(int argc, char **argv) {
    take_kernels(argv);
    bool closed = fcntl(STDOUT_FILENO, F_GETFD) < 0;
    fill_standard_streams();
    la_stop_install();
    /* output to a closed standard output fails; output to a file does not */
    if (closed && !freopen("/dev/full", "w", stdout))
        return LA_RESOURCE;
    json_set_alloc_funcs(la_malloc_or_end, free);
    int code = dispatch(argc, argv);
    /* a full disk or a closed pipe shows here at the latest */
    if (fclose(stdout) && !code) {
        la_error err = {0};
        (void)la_fail(&err, LA_RESOURCE, "standard output: cannot write: %s", la_errno_text(errno));
        code = la_cli_exit(&err);
    }
    return code;
}

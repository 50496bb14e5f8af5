#include "support/support.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char *slot(void) {
    static char buffers[8][4096];
    static int next;
    next = (next + 1) % 8;
    return buffers[next];
}

const char *fixture(const char *name) {
    const char *root = getenv("LA_FIXTURES");
    char *path = slot();
    snprintf(path, 4096, "%s/%s", root ? root : "tests/fixtures", name);
    return path;
}

static char scratch_folder[64];

static void remove_tree(const char *path) {
    DIR *folder = opendir(path);
    struct dirent *entry;
    while (folder && (entry = readdir(folder))) {
        char inner[4096];
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        if (entry->d_type == DT_DIR)
            remove_tree(inner);
        else
            unlink(inner);
    }
    if (folder)
        closedir(folder);
    rmdir(path);
}

static void remove_scratch(void) {
    remove_tree(scratch_folder);
}

const char *scratch(const char *name) {
    if (!*scratch_folder) {
        const char *root = getenv("TMPDIR");
        snprintf(scratch_folder, sizeof scratch_folder, "%.40s/laplora.XXXXXX",
                 root ? root : "/tmp");
        if (!mkdtemp(scratch_folder))
            fail_msg("cannot make a folder: %s", strerror(errno));
        atexit(remove_scratch);
    }
    char *path = slot();
    snprintf(path, 4096, "%s/%s", scratch_folder, name);
    return path;
}

json_t *load_json(const char *path) {
    json_error_t where;
    json_t *root = json_load_file(path, 0, &where);
    if (!root)
        fail_msg("%s:%d: %s", path, where.line, where.text);
    return root;
}

json_t *load_lines(const char *path) {
    json_t *lines = json_array();
    char *line = NULL;
    size_t capacity = 0;
    FILE *file = fopen(path, "r");
    if (!file)
        fail_msg("%s: %s", path, strerror(errno));
    while (getline(&line, &capacity, file) > 0) {
        json_t *one = json_loads(line, JSON_ALLOW_NUL, NULL);
        if (!one)
            fail_msg("%s: line %zu is no JSON", path, json_array_size(lines) + 1);
        json_array_append_new(lines, one);
    }
    free(line);
    fclose(file);
    return lines;
}

const json_t *at(const json_t *root, const char *path) {
    char key[512];
    while (*path && root) {
        size_t length = strcspn(path, "/");
        snprintf(key, sizeof key, "%.*s", (int)length, path);
        root = json_is_array(root) ? json_array_get(root, (size_t)atoi(key))
                                   : json_object_get(root, key);
        path += length + (path[length] == '/');
    }
    return root;
}

double number_at(const json_t *root, const char *path) {
    const json_t *value = at(root, path);
    if (!json_is_number(value))
        fail_msg("no number at %s", path);
    return json_number_value(value);
}

double relative(double a, double b, double floor) {
    double scale = fabs(b) > floor ? fabs(b) : floor;
    return fabs(a - b) / scale;
}

void check_within(const char *what, double worst, double limit) {
    print_message("    %-46s %.3g (at most %.3g)\n", what, worst, limit);
    /* a NaN must not pass */
    if (!(worst <= limit))
        fail_msg("%s: %g, expected at most %g", what, worst, limit);
}

static char *read_all(int fd, char *text, size_t *used) {
    for (;;) {
        text = realloc(text, *used + 65537);
        ssize_t got = text ? read(fd, text + *used, 65536) : 0;
        if (got <= 0)
            break;
        *used += (size_t)got;
    }
    if (text)
        text[*used] = 0;
    return text;
}

command run_command(const char *const *argv, const char *input) {
    const char *list[64];
    int n = 0, in[2], out[2];
    char err_path[4096];
    snprintf(err_path, sizeof err_path, "%s", scratch("stderr.txt"));
    for (; argv[n] || !n; n++)
        list[n] = argv[n];
    list[n] = NULL;
    if (!list[0])
        list[0] = getenv("LAPLORA") ? getenv("LAPLORA") : "build/laplora";
    if (pipe(in) || pipe(out))
        fail_msg("pipe: %s", strerror(errno));
    pid_t child = fork();
    if (!child) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        if (!freopen(err_path, "w", stderr))
            _exit(126);
        close(in[0]), close(in[1]), close(out[0]), close(out[1]);
        execvp(list[0], (char *const *)(uintptr_t)list);
        _exit(127);
    }
    close(in[0]), close(out[1]);
    signal(SIGPIPE, SIG_IGN);
    for (size_t done = 0, length = input ? strlen(input) : 0; done < length;) {
        ssize_t wrote = write(in[1], input + done, length - done);
        if (wrote <= 0)
            break;
        done += (size_t)wrote;
    }
    close(in[1]);
    command result = {0};
    size_t used = 0;
    result.out = read_all(out[0], NULL, &used);
    close(out[0]);
    int status;
    waitpid(child, &status, 0);
    result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    result.err = read_file(err_path, &used);
    return result;
}

void command_free(command *done) {
    free(done->out);
    free(done->err);
    *done = (command){0};
}

void write_file(const char *path, const void *data, size_t length) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, length, file) != length || fclose(file))
        fail_msg("%s: %s", path, strerror(errno));
}

char *read_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("%s: %s", path, strerror(errno));
    size_t used = 0, capacity = 65536;
    char *data = malloc(capacity + 1);
    for (size_t got; (got = fread(data + used, 1, capacity - used, file)) > 0;) {
        used += got;
        if (used == capacity)
            data = realloc(data, (capacity *= 2) + 1);
    }
    fclose(file);
    data[used] = 0;
    *length = used;
    return data;
}

void copy_folder(const char *from, const char *to) {
    char a[4096], b[4096], source[2048], target[2048];
    snprintf(source, sizeof source, "%s", from);
    snprintf(target, sizeof target, "%s", to);
    mkdir(target, 0777);
    DIR *folder = opendir(source);
    if (!folder)
        fail_msg("%s: %s", source, strerror(errno));
    struct dirent *entry;
    while ((entry = readdir(folder))) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(a, sizeof a, "%s/%s", source, entry->d_name);
        snprintf(b, sizeof b, "%s/%s", target, entry->d_name);
        struct stat info;
        stat(a, &info);
        if (S_ISDIR(info.st_mode)) {
            copy_folder(a, b);
        } else {
            size_t length;
            char *data = read_file(a, &length);
            write_file(b, data, length);
            free(data);
        }
    }
    closedir(folder);
}

void beside_this_program(const char *name, char path[PROGRAM_PATH]) {
    ssize_t length = readlink("/proc/self/exe", path, PROGRAM_PATH - 256);
    if (length <= 0)
        fail_msg("/proc/self/exe cannot be read");
    path[length] = 0;
    if (!*name)
        return;
    snprintf(strrchr(path, '/') + 1, 255, "%s", name);
    if (access(path, R_OK))
        fail_msg("%s is missing: make builds it with this program", path);
}

#include "pipeline/part_number.h"
#include "base/numbers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PARTS_MOST = 1 << 24 };

/* Variables of a launcher. */
typedef struct launcher {
    const char *name, *rank, *size; /* rank from 0, or from `first` in steps */
    const char *first, *step;       /* NULL: 0 and 1 */
} launcher;

/* Processes that are started together; the first that is there counts: a launcher within another
 * one's allocation knows better. */
static const launcher processes[] = {
    {"OpenMPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", NULL, NULL},
    {"torchrun", "RANK", "WORLD_SIZE", NULL, NULL},
    {"PMI", "PMI_RANK", "PMI_SIZE", NULL, NULL},
    {"Slurm", "SLURM_PROCID", "SLURM_NTASKS", NULL, NULL},
};
/* Jobs that run by themselves. */
static const launcher jobs[] = {
    {"a Slurm array", "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN",
     "SLURM_ARRAY_TASK_STEP"},
    {"an indexed job", "JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", NULL, NULL},
};
enum { PROCESSES = sizeof processes / sizeof *processes, JOBS = sizeof jobs / sizeof *jobs };

/* Place among `size`, from 0; size 0: not said. */
typedef struct place {
    const launcher *of; /* NULL: none */
    int64_t rank, size;
} place;

static const char *variable(const char *name) {
    const char *value = name ? getenv(name) : NULL;
    return value && *value ? value : NULL;
}

/* A number of a variable; `absent` where it is not set. */
static la_status read_number(const char *name, int64_t absent, int64_t *value, la_error *err) {
    const char *text = variable(name);
    *value = absent;
    if (text && (!la_integer_parse(text, value) || *value < 0 || *value > INT32_MAX))
        return la_fail(err, LA_USAGE,
                       "--shard auto: %s is \"%s\", expected a number; give --shard I/N", name,
                       text);
    return LA_OK;
}

static la_status read_place(const launcher *list, int n, place *out, la_error *err) {
    int i = 0;
    int64_t first, step;
    while (i < n && !variable(list[i].rank))
        i++;
    *out = (place){.size = 1};
    if (i == n)
        return LA_OK;
    const launcher *l = out->of = &list[i];
    LA_TRY(read_number(l->rank, 0, &out->rank, err));
    LA_TRY(read_number(l->size, 0, &out->size, err));
    LA_TRY(read_number(l->first, 0, &first, err));
    LA_TRY(read_number(l->step, 1, &step, err));
    out->rank -= first;
    if (step < 1 || out->rank < 0 || out->rank % step ||
        (out->size && out->rank / step >= out->size))
        return la_fail(err, LA_USAGE,
                       "--shard auto: %s=%s is no place among %s=%s; give --shard I/N", l->rank,
                       getenv(l->rank), l->size, variable(l->size) ? getenv(l->size) : "");
    out->rank /= step;
    return LA_OK;
}

static la_status find(int64_t given, la_part_number *part, la_error *err) {
    place process, job;
    LA_TRY(read_place(processes, PROCESSES, &process, err));
    LA_TRY(read_place(jobs, JOBS, &job, err));
    if (!process.of && !job.of)
        return la_fail(err, LA_USAGE,
                       "--shard auto: none of OMPI_COMM_WORLD_RANK, RANK, PMI_RANK, SLURM_PROCID, "
                       "SLURM_ARRAY_TASK_ID and JOB_COMPLETION_INDEX is set; give --shard I/N");
    if (!process.size)
        return la_fail(err, LA_USAGE, "--shard auto: %s is set and %s is not; give --shard I/N",
                       process.of->rank, process.of->size);
    if (!job.size && given)
        job.size = given / process.size;
    if (!job.size)
        return la_fail(err, LA_USAGE,
                       "--shard auto: %s is set and %s is not; give --shard auto/N with the number "
                       "of parts",
                       job.of->rank, job.of->size);
    part->n = job.size * process.size;
    part->number = job.rank * process.size + process.rank + 1;
    if (given && given != part->n)
        return la_fail(
            err, LA_USAGE, "--shard auto/%lld: %s says that there are %lld parts; give --shard I/N",
            (long long)given, process.of ? process.of->name : job.of->name, (long long)part->n);
    return LA_OK;
}

/* "N" of a text; *ok: it is one. */
static int64_t count_of(const char *text, bool *ok) {
    int64_t n = 0;
    *ok = *text >= '0' && *text <= '9' && la_integer_parse(text, &n) && n >= 1 && n <= PARTS_MOST;
    return n;
}

la_status la_part_number_parse(const char *text, la_part_number *part, la_error *err) {
    const char *slash = strchr(text, '/');
    size_t length = slash ? (size_t)(slash - text) : strlen(text);
    char before[32];
    bool ok = true;
    int64_t given = slash ? count_of(slash + 1, &ok) : 0;
    snprintf(before, sizeof before, "%.*s", (int)(length < sizeof before ? length : 0), text);
    if (ok && !strcmp(before, "auto")) {
        LA_TRY(find(given, part, err));
    } else {
        *part = (la_part_number){.n = given};
        if (ok)
            part->number = count_of(before, &ok);
        if (!ok || !slash)
            return la_fail(err, LA_USAGE,
                           "--shard \"%s\": expected I/N with 1 <= I <= N, auto or auto/N", text);
    }
    if (part->number < 1 || part->number > part->n || part->n > PARTS_MOST)
        return la_fail(err, LA_USAGE, "--shard %s: part %lld of %lld; expected 1 <= I <= N <= %d",
                       text, (long long)part->number, (long long)part->n, PARTS_MOST);
    return LA_OK;
}

#include "base/kernels.h"
#include "laplora.h"

#include <cblas.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* The library's variable: read when it is loaded, and when it is asked to choose again. */
#define VARIABLE "OPENBLAS_CORETYPE"
/* Set beside it for the program that is started again. */
#define RESTARTED "LAPLORA_KERNELS_RESTARTED"

/* Every name that the library gives to kernels of x86 processors, best first. */
static const struct {
    la_kernel_level level;
    int n_asked; /* first names, which suit any processor of the level: those to ask for */
    const char *names[18];
} kernels[] = {
    {LA_KERNELS_AVX512, 1, {"SkylakeX", "Cooperlake", "SapphireRapids"}},
    {LA_KERNELS_FMA, 2, {"Haswell", "Zen", "Excavator"}},
    {LA_KERNELS_AVX, 1, {"Sandybridge", "Steamroller", "Piledriver", "Bulldozer"}},
    {LA_KERNELS_SSE42, 1, {"Nehalem"}},
    {LA_KERNELS_SSE2,
     0,
     {"Dunnington", "Penryn", "Core2", "Prescott", "Northwood", "Banias", "Atom", "Nano",
      "Barcelona", "Bobcat", "Opteron_SSE3", "Opteron", "Athlon", "Coppermine", "Katmai"}},
};
enum { N_LEVELS = sizeof kernels / sizeof *kernels };

la_processor la_processor_here(void) {
    la_processor here = {0};
#if defined(__x86_64__) || defined(__i386__)
    /* asks the system too, which has to save the wider registers */
    __builtin_cpu_init();
    here.sse2 = __builtin_cpu_supports("sse2");
    here.sse42 = __builtin_cpu_supports("sse4.2");
    here.avx = __builtin_cpu_supports("avx");
    here.avx2 = __builtin_cpu_supports("avx2");
    here.fma = __builtin_cpu_supports("fma");
    here.avx512f = __builtin_cpu_supports("avx512f");
    here.avx512cd = __builtin_cpu_supports("avx512cd");
    here.avx512bw = __builtin_cpu_supports("avx512bw");
    here.avx512dq = __builtin_cpu_supports("avx512dq");
    here.avx512vl = __builtin_cpu_supports("avx512vl");
#endif
    return here;
}

la_kernel_level la_processor_level(const la_processor *p) {
    if (!p->sse2)
        return LA_KERNELS_UNKNOWN;
    if (!p->sse42)
        return LA_KERNELS_SSE2;
    if (!p->avx)
        return LA_KERNELS_SSE42;
    if (!p->avx2 || !p->fma)
        return LA_KERNELS_AVX;
    if (!p->avx512f || !p->avx512cd || !p->avx512bw || !p->avx512dq || !p->avx512vl)
        return LA_KERNELS_FMA;
    return LA_KERNELS_AVX512;
}

la_kernel_level la_kernels_level(const char *name) {
    for (int i = 0; i < N_LEVELS; i++)
        for (const char *const *one = kernels[i].names; *one; one++)
            if (!strcasecmp(*one, name))
                return kernels[i].level;
    return LA_KERNELS_UNKNOWN;
}

void la_kernels_better(const la_processor *processor, const char *in_use,
                       const char *names[LA_KERNELS_NAMES]) {
    la_kernel_level most = la_processor_level(processor), least = la_kernels_level(in_use);
    int n = 0;
    for (int i = 0; i < N_LEVELS; i++)
        if (least != LA_KERNELS_UNKNOWN && kernels[i].level > least && kernels[i].level <= most)
            for (int j = 0; j < kernels[i].n_asked && n < LA_KERNELS_NAMES - 1; j++)
                names[n++] = kernels[i].names[j];
    names[n] = NULL;
}

const char *la_kernels_name(void) {
    return openblas_get_corename();
}

const char *la_kernels_config(void) {
    return openblas_get_config();
}

/* Origin of the kernels in use. */
static struct {
    bool restarted;
    char own[32];        /* the library's own choice, where it is not the best */
    const char *missing; /* see la_kernels_missing */
} chosen;

/* Calls of the library that its header does not declare; absent from some builds. */
static bool call(const char *name) {
    void *address = dlsym(RTLD_DEFAULT, name);
    void (*function)(void);
    if (!address)
        return false;
    memcpy(&function, &address, sizeof function);
    function();
    return true;
}

static bool offers_switch(void) {
    return dlsym(RTLD_DEFAULT, "gotoblas_dynamic_quit") &&
           dlsym(RTLD_DEFAULT, "gotoblas_dynamic_init");
}

/* Has the library choose again under a value of its variable, which then is as it was: a program
 * started by this one makes its own choice. */
static bool choose_again(const char *value) {
    const char *before = getenv(VARIABLE);
    char *kept = before ? strdup(before) : NULL;
    bool ready = (!before || kept) && offers_switch() &&
                 !(value ? setenv(VARIABLE, value, 1) : unsetenv(VARIABLE));
    if (ready) {
        call("gotoblas_dynamic_quit");
        call("gotoblas_dynamic_init");
    }
    /* neither takes more memory than the variable had */
    if (kept)
        setenv(VARIABLE, kept, 1);
    else if (!before)
        unsetenv(VARIABLE);
    free(kept);
    return ready;
}

bool la_kernels_switch(const char *name) {
    char before[32];
    snprintf(before, sizeof before, "%s", la_kernels_name());
    if (!choose_again(name))
        return false;
    if (!name || !strcasecmp(la_kernels_name(), name))
        return true;
    /* a name unknown to the library makes it choose by itself */
    choose_again(before);
    return false;
}

/* True when a person set the variable, and the library followed. */
static bool set_by_hand(void) {
    const char *value = getenv(VARIABLE);
    return value && !strcasecmp(value, la_kernels_name());
}

la_kernel_level la_kernels_instructions(void) {
    la_processor here = la_processor_here();
    la_kernel_level most = la_processor_level(&here);
    la_kernel_level named = set_by_hand() ? la_kernels_level(la_kernels_name()) : most;
    return named < most ? named : most;
}

const char *la_kernels_choose(void) {
    if (getenv(RESTARTED)) {
        chosen.restarted = true;
        unsetenv(RESTARTED);
        unsetenv(VARIABLE);
    } else if (!chosen.restarted && !set_by_hand()) {
        la_processor here = la_processor_here();
        const char *names[LA_KERNELS_NAMES];
        la_kernels_better(&here, la_kernels_name(), names);
        snprintf(chosen.own, sizeof chosen.own, "%s", names[0] ? la_kernels_name() : "");
        int i = 0;
        while (names[i] && !la_kernels_switch(names[i]))
            i++;
        /* a build for a single processor has no others, whenever it is asked */
        chosen.missing = names[0] && !names[i] && !offers_switch() &&
                                 strstr(openblas_get_config(), "DYNAMIC_ARCH")
                             ? names[0]
                             : NULL;
    }
    return la_kernels_name();
}

const char *la_kernels_missing(void) {
    return chosen.missing;
}

void la_kernels_restart(const char *name, char *const *argv) {
    if (chosen.restarted || setenv(RESTARTED, "1", 1))
        return;
    const char *before = getenv(VARIABLE);
    char *kept = before ? strdup(before) : NULL;
    if ((!before || kept) && !setenv(VARIABLE, name, 1))
        execv("/proc/self/exe", argv);
    if (kept)
        setenv(VARIABLE, kept, 1);
    else
        unsetenv(VARIABLE);
    unsetenv(RESTARTED);
    free(kept);
}

void la_kernels_describe(char *text, size_t size) {
    const char *name = la_kernels_name();
    la_processor here = la_processor_here();
    const char *better[LA_KERNELS_NAMES];
    la_kernels_better(&here, name, better);
    char more[160] = "";
    if (better[0])
        snprintf(more, sizeof more, "; the processor could run %s", better[0]);
    else if (getenv(VARIABLE) && *getenv(VARIABLE) && !set_by_hand())
        snprintf(more, sizeof more, "; it has none of the name that " VARIABLE " says");
    if (set_by_hand())
        snprintf(text, size, "kernels: OpenBLAS %s, as " VARIABLE " says%s", name, more);
    else if (chosen.restarted)
        snprintf(text, size, "kernels: OpenBLAS %s, by a second start%s", name, more);
    else if (*chosen.own && strcasecmp(chosen.own, name))
        snprintf(text, size, "kernels: OpenBLAS %s, in place of its own choice, %s%s", name,
                 chosen.own, more);
    else
        snprintf(text, size, "kernels: OpenBLAS %s, its own choice%s", name, more);
}

/* Kernels that OpenBLAS computes with. The library picks them by the processor's model number, and
 * falls back to kernels of 2004 where it does not know it; here they are picked by instructions. */
#ifndef LA_BASE_KERNELS_H
#define LA_BASE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

/* Instructions that matter to products, of those that the processor has and the system lets a
 * program use. All false on processors other than x86. */
typedef struct la_processor {
    bool sse2, sse42, avx, avx2, fma;
    bool avx512f, avx512cd, avx512bw, avx512dq, avx512vl;
} la_processor;

/* Instructions that kernels need, each level with those before it. */
typedef enum la_kernel_level {
    LA_KERNELS_UNKNOWN, /* another kind of processor, or kernels of a name that is not known here */
    LA_KERNELS_SSE2,
    LA_KERNELS_SSE42,
    LA_KERNELS_AVX,
    LA_KERNELS_FMA, /* AVX2 and FMA */
    LA_KERNELS_AVX512
} la_kernel_level;

/* Instructions of this machine. */
la_processor la_processor_here(void);
/* The highest level that a processor can run. */
la_kernel_level la_processor_level(const la_processor *processor);
/* The level of kernels by the library's name for them, in any case. */
la_kernel_level la_kernels_level(const char *name);

/* Names of kernels to ask for in place of those in use, best first, NULL after the last: none where
 * those in use need all that the processor has, or where either is unknown. */
enum { LA_KERNELS_NAMES = 8 };
void la_kernels_better(const la_processor *processor, const char *in_use,
                       const char *names[LA_KERNELS_NAMES]);

/* Takes kernels by name within this process (or, NULL, the library's own choice). False, and what
 * was in use stays, where the library has no such kernels or does not offer the switch. Not while
 * another thread is in a product or reads the environment. */
bool la_kernels_switch(const char *name);

/* The level that this program's own operations may use: the processor's, or that of the kernels
 * which OPENBLAS_CORETYPE names, where a person set it and it asks for less. */
la_kernel_level la_kernels_instructions(void);

/* Name of the kernels that the processor allows and la_kernels_choose could not take within this
 * process, or NULL. */
const char *la_kernels_missing(void);
/* Starts the program again under OPENBLAS_CORETYPE=name, once: returns where that was done before,
 * or cannot be done. la_kernels_choose then takes the variable out of the environment. Called by
 * main only, before it reads or opens anything. */
void la_kernels_restart(const char *name, char *const *argv);

/* Version, options and kernels of the library, as it says them: "OpenBLAS 0.3.21 ... SkylakeX
 * MAX_THREADS=64". */
const char *la_kernels_config(void);
/* A line for people: the kernels in use, and who chose them. */
void la_kernels_describe(char *text, size_t size);

#endif

/* Mutator of the fuzz targets: it knows where a posterior file keeps its counts and addresses, and
 * puts a good digest in front of the result. */
#ifndef LA_TESTS_FUZZ_MUTATE_H
#define LA_TESTS_FUZZ_MUTATE_H

#include <stddef.h>
#include <stdint.h>

/* libFuzzer's names */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

/* Fails the run unless the posterior is one, or the message is. */
struct la_posterior;
void check_outcome(int status, struct la_posterior *posterior, const char *message,
                   const char *name);

#endif

/* What a test computes on: the operations of the host for one set of instructions after the other,
 * or a device. */
#ifndef LA_SUPPORT_DEVICES_H
#define LA_SUPPORT_DEVICES_H

#include "backend/cpu.h"
#include "base/kernels.h"
#include "support/support.h"

/* The host with the operations under test, and the most that these may use; run_each_level sets
 * both. */
extern la_backend cpu_at_level;
extern la_kernel_level cpu_level;
/* Fails where an operation has failed. */
void check_fault(void);
/* Runs the tests for every table of operations that this machine can run; returns how many
 * failed. */
int run_each_level(const struct CMUnitTest *tests, size_t n);

/* Skips the test where no device, real or emulated, can be opened; else prints its name. */
void need_device(void);

#endif

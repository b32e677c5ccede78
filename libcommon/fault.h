/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named crash points, compiled in only with -DDOCFLEET_FAULTS (test builds).
 * DOCFLEET_CRASH_AT=claim.after_commit:3 kills the process with SIGKILL the third time it passes;
 * DOCFLEET_STOP_AT stops it in the same way, until someone sends SIGCONT.
 */
#pragma once

#ifdef DOCFLEET_FAULTS
void fault_point(const char *name);
#else
#define fault_point(name) ((void)0)
#endif

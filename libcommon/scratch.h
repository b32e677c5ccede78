/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Temporary files that have no name: they are gone with their last descriptor, whatever happens to
 * the process.
 */
#pragma once

#include "libcommon/err.h"

/* An empty file in dir, open for reading and writing. */
int scratch_open(const char *dir, int *ret_fd, struct err *err) WARN_UNUSED;

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQL migrations of proto-schemas/postgres, inside the program, in order.
 */
#pragma once

#include <stddef.h>

struct migration {
    int version;
    const char *name;
    const char *sql; /* NUL-terminated */
};

extern const struct migration migrations[];
extern const size_t migration_count;

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two files of model_check share: the comparison (model_check.c) and the operations
 * (model_check_ops.c).
 */
#pragma once

#include "tests/sim/model.h"

#define FAR_MS 3600000
#define USERS 4
#define DATASET "d0000000-0000-7000-8000-000000000001"

extern struct db *db;
extern struct model m;
extern char step_name[200]; /* what is being done, for messages */

void differs(const char *fmt, ...) PRINTF(1, 2);
/* Ends the program after an error that no test asks for. */
void must(int r, const struct err *err);
void same(const char *what, int64_t real, int64_t model);

/* One random operation on both. */
void one_step(long n);

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of model_check share: the comparison (model_check.c), the operations
 * (model_check_ops.c), and those of workers (model_check_work.c).
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

#define step(...) snprintf(step_name, sizeof(step_name), __VA_ARGS__)

/* model_check_ops.c */
extern const char *const stage_names[8];
struct task_key key_of(const struct m_task *t);
/* Some task in one of these states (bits), or NULL. */
struct m_task *some_task(unsigned states);
/* One random operation on both. */
void one_step(long n);

/* model_check_work.c */
void do_claim(void);
void do_end(void);
void do_back(void);
void do_renew(void);
void do_hand_back(void);
void do_workers(void);

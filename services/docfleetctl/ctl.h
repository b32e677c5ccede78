/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of users and operators. Each command is one function; the table in main.c is
 * the only list of them.
 * Invariant: results go to stdout, everything else to stderr; exit 0 done, 1 failed, 2 wrong usage.
 */
#pragma once

#include "libcommon/service.h"

struct ctl_options {
    char *url; /* of the gateway */
    char *api_key;
    char *admin_key;
};

struct ctl {
    struct service service; /* settings; connected only by commands that need the servers */
    struct ctl_options options;
    int argc; /* arguments after the command's words */
    char **argv;
};

/* Operators, straight to the servers. */
int ctl_migrate(struct ctl *ctl, struct err *err);
int ctl_bucket_create(struct ctl *ctl, struct err *err);
int ctl_user_create(struct ctl *ctl, struct err *err);
int ctl_key_create(struct ctl *ctl, struct err *err);
int ctl_stages_pause(struct ctl *ctl, struct err *err);
int ctl_stages_resume(struct ctl *ctl, struct err *err);
int ctl_ledger(struct ctl *ctl, struct err *err);
/* Connects ctl->service.db, for the commands above. */
int ctl_open_db(struct ctl *ctl, struct err *err) WARN_UNUSED;

/* Users, over the API. */
int ctl_dataset_create(struct ctl *ctl, struct err *err);
int ctl_dataset_list(struct ctl *ctl, struct err *err);
int ctl_upload(struct ctl *ctl, struct err *err);
int ctl_status(struct ctl *ctl, struct err *err);
int ctl_record(struct ctl *ctl, struct err *err);
int ctl_text(struct ctl *ctl, struct err *err);
int ctl_batch_cancel(struct ctl *ctl, struct err *err);
int ctl_batch_retry(struct ctl *ctl, struct err *err);
int ctl_receipt(struct ctl *ctl, struct err *err);
int ctl_receipt_check(struct ctl *ctl, struct err *err);

/* Operators, over the API. */
int ctl_stages_list(struct ctl *ctl, struct err *err);
int ctl_users_list(struct ctl *ctl, struct err *err);
int ctl_users_weight(struct ctl *ctl, struct err *err);
int ctl_dead_list(struct ctl *ctl, struct err *err);
int ctl_dead_show(struct ctl *ctl, struct err *err);
int ctl_dead_replay(struct ctl *ctl, struct err *err);
int ctl_dead_discard(struct ctl *ctl, struct err *err);

/* Takes "--name VALUE" out of the arguments; NULL when absent. */
const char *ctl_option(struct ctl *ctl, const char *name);
/* Takes "--name" out; true when it was there. */
bool ctl_flag(struct ctl *ctl, const char *name);
/* ERR_PERMANENT "usage" when arguments other than `positional` ones are left. */
int ctl_expect(const struct ctl *ctl, int min, int max, const char *usage_line,
               struct err *err) WARN_UNUSED;

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In the place of the commands, where only their tables are tried.
 */
#include "services/docfleetctl/ctl.h"

#define COMMAND(name)                                                                              \
    int name(struct ctl *ctl, struct err *err)                                                     \
    {                                                                                              \
        (void)ctl, (void)err;                                                                      \
        abort();                                                                                   \
    }

COMMAND(ctl_receipt_check)
COMMAND(ctl_migrate)
COMMAND(ctl_bucket_create)
COMMAND(ctl_backup)
COMMAND(ctl_restore)
COMMAND(ctl_verify)
COMMAND(ctl_user_create)
COMMAND(ctl_user_password)
COMMAND(ctl_user_role)
COMMAND(ctl_user_disable)
COMMAND(ctl_user_enable)
COMMAND(ctl_user_link)
COMMAND(ctl_user_unlink)
COMMAND(ctl_key_create)
COMMAND(ctl_key_list)
COMMAND(ctl_key_revoke)
COMMAND(ctl_audit_verify)
COMMAND(ctl_audit_prune)
COMMAND(ctl_ledger)
COMMAND(ctl_doctor)
COMMAND(ctl_dataset_create)
COMMAND(ctl_dataset_list)
COMMAND(ctl_upload)
COMMAND(ctl_status)
COMMAND(ctl_record)
COMMAND(ctl_text)
COMMAND(ctl_batch_cancel)
COMMAND(ctl_batch_retry)
COMMAND(ctl_receipt)
COMMAND(ctl_export_records)
COMMAND(ctl_export_files)
COMMAND(ctl_download)
COMMAND(ctl_retry)
COMMAND(ctl_whoami)
COMMAND(ctl_keys_list)
COMMAND(ctl_keys_create)
COMMAND(ctl_keys_revoke)
COMMAND(ctl_stages_list)
COMMAND(ctl_stages_pause)
COMMAND(ctl_stages_resume)
COMMAND(ctl_audit_list)
COMMAND(ctl_users_list)
COMMAND(ctl_users_create)
COMMAND(ctl_users_weight)
COMMAND(ctl_import_create)
COMMAND(ctl_import_list)
COMMAND(ctl_import_run)
COMMAND(ctl_import_runs)
COMMAND(ctl_import_rollback)
COMMAND(ctl_import_pause)
COMMAND(ctl_import_resume)
COMMAND(ctl_dead_list)
COMMAND(ctl_dead_groups)
COMMAND(ctl_dead_show)
COMMAND(ctl_dead_replay)
COMMAND(ctl_dead_discard)

const struct option_def ctl_option_defs[] = {
    {"URL", OPTION_STRING, 0, "", 0, 0, NULL, "address of the gateway"},
    {"API_KEY", OPTION_SECRET, 0, "", 0, 0, NULL, "key"},
};
const size_t ctl_option_count = ARRAY_LEN(ctl_option_defs);

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The function of every command, one a line, to be declared (ctl.h) and to be stood in for where
 * only the tables are tried (tests/unit/ctl_stubs.c).
 */
#pragma once

/* clang-format off */
#define CTL_COMMANDS(X) \
    X(ctl_receipt_check) \
    X(ctl_migrate) \
    X(ctl_bucket_create) \
    X(ctl_backup) \
    X(ctl_restore) \
    X(ctl_verify) \
    X(ctl_user_create) \
    X(ctl_user_password) \
    X(ctl_user_role) \
    X(ctl_user_disable) \
    X(ctl_user_enable) \
    X(ctl_user_link) \
    X(ctl_user_unlink) \
    X(ctl_key_create) \
    X(ctl_key_list) \
    X(ctl_key_revoke) \
    X(ctl_audit_verify) \
    X(ctl_audit_prune) \
    X(ctl_ledger) \
    X(ctl_doctor) \
    X(ctl_dataset_create) \
    X(ctl_dataset_list) \
    X(ctl_upload) \
    X(ctl_status) \
    X(ctl_record) \
    X(ctl_text) \
    X(ctl_batch_cancel) \
    X(ctl_batch_retry) \
    X(ctl_receipt) \
    X(ctl_export_records) \
    X(ctl_export_files) \
    X(ctl_download) \
    X(ctl_retry) \
    X(ctl_whoami) \
    X(ctl_keys_list) \
    X(ctl_keys_create) \
    X(ctl_keys_revoke) \
    X(ctl_share_create) \
    X(ctl_share_list) \
    X(ctl_share_revoke) \
    X(ctl_canary) \
    X(ctl_stages_list) \
    X(ctl_stages_pause) \
    X(ctl_stages_resume) \
    X(ctl_audit_list) \
    X(ctl_users_list) \
    X(ctl_users_create) \
    X(ctl_users_weight) \
    X(ctl_users_quota) \
    X(ctl_own_usage) \
    X(ctl_import_create) \
    X(ctl_import_list) \
    X(ctl_import_run) \
    X(ctl_import_runs) \
    X(ctl_import_rollback) \
    X(ctl_import_pause) \
    X(ctl_import_resume) \
    X(ctl_dead_list) \
    X(ctl_dead_groups) \
    X(ctl_dead_show) \
    X(ctl_dead_replay) \
    X(ctl_dead_discard)
/* clang-format on */

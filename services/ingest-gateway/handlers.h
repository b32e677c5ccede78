/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handlers behind routes.c, by file. Each answers one route; contracts are in openapi.yaml.
 * Invariant: every statement they run is limited to the account of the request, except those of
 * admin.c and dead_letters.c.
 */
#pragma once

#include "services/ingest-gateway/request.h"

/* account.c */
int key_create(struct request *req, struct reply *reply, struct err *err);
int key_list(struct request *req, struct reply *reply, struct err *err);
int key_revoke(struct request *req, struct reply *reply, struct err *err);

/* login.c */
int auth_me(struct request *req, struct reply *reply, struct err *err);
int auth_methods(struct request *req, struct reply *reply, struct err *err);
int auth_login(struct request *req, struct reply *reply, struct err *err);
int auth_logout(struct request *req, struct reply *reply, struct err *err);
int auth_logout_all(struct request *req, struct reply *reply, struct err *err);
int auth_password(struct request *req, struct reply *reply, struct err *err);
int session_list(struct request *req, struct reply *reply, struct err *err);
int session_revoke(struct request *req, struct reply *reply, struct err *err);
int user_password(struct request *req, struct reply *reply, struct err *err);
int user_sessions_end(struct request *req, struct reply *reply, struct err *err);
/* ["read", ...] */
json_t *scopes_json(unsigned scopes);

/* oidc.c */
int oidc_start(struct request *req, struct reply *reply, struct err *err);
int oidc_callback(struct request *req, struct reply *reply, struct err *err);

/* audit.c */
int audit_list(struct request *req, struct reply *reply, struct err *err);

/* admin.c */
int user_create(struct request *req, struct reply *reply, struct err *err);
int user_list(struct request *req, struct reply *reply, struct err *err);
int user_patch(struct request *req, struct reply *reply, struct err *err);

/* quotas.c */
int usage_get(struct request *req, struct reply *reply, struct err *err);
int quota_get(struct request *req, struct reply *reply, struct err *err);
int quota_put(struct request *req, struct reply *reply, struct err *err);
int quota_default_get(struct request *req, struct reply *reply, struct err *err);
int quota_default_put(struct request *req, struct reply *reply, struct err *err);
int stage_list(struct request *req, struct reply *reply, struct err *err);
int stage_pause(struct request *req, struct reply *reply, struct err *err);
int stage_resume(struct request *req, struct reply *reply, struct err *err);

/* batches.c */
int batch_get(struct request *req, struct reply *reply, struct err *err);
int batch_summary(struct request *req, struct reply *reply, struct err *err);
int batch_cancel(struct request *req, struct reply *reply, struct err *err);
int batch_retry(struct request *req, struct reply *reply, struct err *err);

/* shares.c */
int share_create(struct request *req, struct reply *reply, struct err *err);
int share_list(struct request *req, struct reply *reply, struct err *err);
int share_list_file(struct request *req, struct reply *reply, struct err *err);
int share_revoke(struct request *req, struct reply *reply, struct err *err);

/* share_public.c */
int share_get(struct request *req, struct reply *reply, struct err *err);
int share_unlock_post(struct request *req, struct reply *reply, struct err *err);
int share_download(struct request *req, struct reply *reply, struct err *err);

/* quarantine.c */
int quarantine_list(struct request *req, struct reply *reply, struct err *err);
int quarantine_release(struct request *req, struct reply *reply, struct err *err);

/* receipt.c */
int batch_receipt(struct request *req, struct reply *reply, struct err *err);

/* console_files.c */
int console_file(struct request *req, struct reply *reply, struct err *err);
/* One of the console's pages under another address and with this status; never cached. */
int console_page(struct request *req, const char *name, unsigned status, struct reply *reply,
                 struct err *err);
int openapi_get(struct request *req, struct reply *reply, struct err *err);

/* datasets.c */
int dataset_create(struct request *req, struct reply *reply, struct err *err);
int dataset_list(struct request *req, struct reply *reply, struct err *err);
int dataset_get(struct request *req, struct reply *reply, struct err *err);
int dataset_patch(struct request *req, struct reply *reply, struct err *err);
int dataset_schema(struct request *req, struct reply *reply, struct err *err);
int dataset_delete(struct request *req, struct reply *reply, struct err *err);

/* dead_letters.c */
int dead_letter_list(struct request *req, struct reply *reply, struct err *err);
int dead_letter_get(struct request *req, struct reply *reply, struct err *err);
int dead_letter_groups(struct request *req, struct reply *reply, struct err *err);
int dead_letter_replay(struct request *req, struct reply *reply, struct err *err);
int dead_letter_discard(struct request *req, struct reply *reply, struct err *err);
int failure_list(struct request *req, struct reply *reply, struct err *err);

/* events.c */
int events_get(struct request *req, struct reply *reply, struct err *err);

/* holds.c */
int hold_put(struct request *req, struct reply *reply, struct err *err);
int hold_delete(struct request *req, struct reply *reply, struct err *err);

/* imports.c */
int import_create(struct request *req, struct reply *reply, struct err *err);
int import_list(struct request *req, struct reply *reply, struct err *err);
int import_get(struct request *req, struct reply *reply, struct err *err);
int import_patch(struct request *req, struct reply *reply, struct err *err);
int import_delete(struct request *req, struct reply *reply, struct err *err);

/* import_runs.c */
int import_run_post(struct request *req, struct reply *reply, struct err *err);
int import_run_list(struct request *req, struct reply *reply, struct err *err);
int import_run_get(struct request *req, struct reply *reply, struct err *err);
int import_rollback(struct request *req, struct reply *reply, struct err *err);

/* file_actions.c */
int file_retry(struct request *req, struct reply *reply, struct err *err);
int file_cancel(struct request *req, struct reply *reply, struct err *err);
int file_delete(struct request *req, struct reply *reply, struct err *err);
int files_remove(struct request *req, struct reply *reply, struct err *err);
int files_retry(struct request *req, struct reply *reply, struct err *err);

/* file_content.c */
int file_content(struct request *req, struct reply *reply, struct err *err);
int preview_page(struct request *req, struct reply *reply, struct err *err);
int thumbnail_get(struct request *req, struct reply *reply, struct err *err);

/* file_list.c */
int file_list(struct request *req, struct reply *reply, struct err *err);
int file_get(struct request *req, struct reply *reply, struct err *err);
int file_timeline(struct request *req, struct reply *reply, struct err *err);

/* file_text.c */
int file_text(struct request *req, struct reply *reply, struct err *err);
int file_words(struct request *req, struct reply *reply, struct err *err);
int preview_words(struct request *req, struct reply *reply, struct err *err);
int preview_get(struct request *req, struct reply *reply, struct err *err);

/* records.c */
int record_list(struct request *req, struct reply *reply, struct err *err);
int file_record(struct request *req, struct reply *reply, struct err *err);
int record_rows(struct request *req, struct reply *reply, struct err *err);

/* summary.c */
int dataset_summary(struct request *req, struct reply *reply, struct err *err);

/* upload_request.c */
int file_upload(struct request *req, struct reply *reply, struct err *err);

/* Removes the files of a dataset of this account, whatever its mark; *ret_more: the time was over
 * before all were. */
int files_remove_dataset(struct request *req, const char *dataset_id, int64_t *ret_removed,
                         bool *ret_more, struct err *err) WARN_UNUSED;

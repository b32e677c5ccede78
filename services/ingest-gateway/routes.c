/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every address the gateway answers. proto-schemas/openapi.yaml says the same; a test compares.
 */
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/router.h"

#define V1 "/api/v1"

const struct route routes[] = {
    {"GET", V1 "/openapi.json", SCOPE_NONE, BODY_NONE, openapi_get},
    {"GET", V1 "/auth/me", SCOPE_READ, BODY_NONE, auth_me},
    {"GET", V1 "/api-keys", SCOPE_READ, BODY_NONE, key_list},
    {"POST", V1 "/api-keys", SCOPE_WRITE, BODY_JSON, key_create},
    {"DELETE", V1 "/api-keys/{key}", SCOPE_WRITE, BODY_NONE, key_revoke},
    {"GET", V1 "/datasets", SCOPE_READ, BODY_NONE, dataset_list},
    {"POST", V1 "/datasets", SCOPE_WRITE, BODY_JSON, dataset_create},
    {"GET", V1 "/datasets/{id}", SCOPE_READ, BODY_NONE, dataset_get},
    {"PATCH", V1 "/datasets/{id}", SCOPE_WRITE, BODY_JSON, dataset_patch},
    {"DELETE", V1 "/datasets/{id}", SCOPE_WRITE, BODY_NONE, dataset_delete},
    {"PUT", V1 "/datasets/{id}/schema", SCOPE_WRITE, BODY_JSON, dataset_schema},
    {"GET", V1 "/datasets/{id}/summary", SCOPE_READ, BODY_NONE, dataset_summary},
    {"GET", V1 "/datasets/{id}/records", SCOPE_READ, BODY_NONE, record_list},
    {"GET", V1 "/datasets/{id}/files", SCOPE_READ, BODY_NONE, file_list},
    {"POST", V1 "/datasets/{id}/files", SCOPE_WRITE, BODY_STREAM, file_upload},
    {"POST", V1 "/datasets/{id}/files/remove", SCOPE_WRITE, BODY_JSON, files_remove},
    {"POST", V1 "/datasets/{id}/files/retry", SCOPE_WRITE, BODY_JSON, files_retry},
    {"GET", V1 "/files/{id}", SCOPE_READ, BODY_NONE, file_get},
    {"DELETE", V1 "/files/{id}", SCOPE_WRITE, BODY_NONE, file_delete},
    {"GET", V1 "/files/{id}/timeline", SCOPE_READ, BODY_NONE, file_timeline},
    {"GET", V1 "/files/{id}/content", SCOPE_READ, BODY_NONE, file_content},
    {"GET", V1 "/files/{id}/text", SCOPE_READ, BODY_NONE, file_text},
    {"GET", V1 "/files/{id}/words", SCOPE_READ, BODY_NONE, file_words},
    {"GET", V1 "/files/{id}/record", SCOPE_READ, BODY_NONE, file_record},
    {"GET", V1 "/files/{id}/preview", SCOPE_READ, BODY_NONE, preview_get},
    {"GET", V1 "/files/{id}/preview/{page}.webp", SCOPE_READ, BODY_NONE, preview_page},
    {"GET", V1 "/files/{id}/preview/{page}/words", SCOPE_READ, BODY_NONE, preview_words},
    {"GET", V1 "/files/{id}/thumbnail", SCOPE_READ, BODY_NONE, thumbnail_get},
    {"POST", V1 "/files/{id}/retry", SCOPE_WRITE, BODY_JSON, file_retry},
    {"POST", V1 "/files/{id}/cancel", SCOPE_WRITE, BODY_JSON, file_cancel},
    {"GET", V1 "/records/{id}/rows", SCOPE_READ, BODY_NONE, record_rows},
    {"GET", V1 "/batches/{id}", SCOPE_READ, BODY_NONE, batch_get},
    {"GET", V1 "/batches/{id}/receipt", SCOPE_READ, BODY_NONE, batch_receipt},
    {"GET", V1 "/batches/{id}/summary", SCOPE_READ, BODY_NONE, batch_summary},
    {"POST", V1 "/batches/{id}/cancel", SCOPE_WRITE, BODY_JSON, batch_cancel},
    {"POST", V1 "/batches/{id}/retry", SCOPE_WRITE, BODY_JSON, batch_retry},
    {"GET", V1 "/failures", SCOPE_READ, BODY_NONE, failure_list},
    {"GET", V1 "/events", SCOPE_READ, BODY_NONE, events_get},
    {"GET", V1 "/admin/users", SCOPE_ADMIN, BODY_NONE, user_list},
    {"PATCH", V1 "/admin/users/{id}", SCOPE_ADMIN, BODY_JSON, user_patch},
    {"POST", V1 "/admin/users", SCOPE_ADMIN, BODY_JSON, user_create},
    {"GET", V1 "/admin/stages", SCOPE_ADMIN, BODY_NONE, stage_list},
    {"POST", V1 "/admin/stages/{stage}/pause", SCOPE_ADMIN, BODY_JSON, stage_pause},
    {"POST", V1 "/admin/stages/{stage}/resume", SCOPE_ADMIN, BODY_JSON, stage_resume},
    {"GET", V1 "/admin/dead-letters", SCOPE_ADMIN, BODY_NONE, dead_letter_list},
    {"GET", V1 "/admin/dead-letters/groups", SCOPE_ADMIN, BODY_NONE, dead_letter_groups},
    {"GET", V1 "/admin/dead-letters/{id}", SCOPE_ADMIN, BODY_NONE, dead_letter_get},
    {"POST", V1 "/admin/dead-letters/replay", SCOPE_ADMIN, BODY_JSON, dead_letter_replay},
    {"POST", V1 "/admin/dead-letters/discard", SCOPE_ADMIN, BODY_JSON, dead_letter_discard},
};
const size_t n_routes = ARRAY_LEN(routes);

const struct route console_route = {"GET", "/", SCOPE_NONE, BODY_NONE, console_file};

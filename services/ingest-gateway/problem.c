/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/problem.h"

#include <string.h>

static const struct problem table[] = {
    {"bad_request", 400, "Bad request"},
    {"malformed_json", 400, "Malformed JSON"},
    {"malformed_multipart", 400, "Malformed multipart body"},
    {"body_cut", 400, "The body ended early"},
    {"unauthorized", 401, "No valid credentials"},
    {"password_required", 401, "The link has a password"},
    {"wrong_password", 401, "Wrong password"},
    {"forbidden", 403, "Not allowed"},
    {"csrf", 403, "Cross-site request refused"},
    {"quarantined", 403, "In quarantine"},
    {"quota_exceeded", 403, "Quota used up"},
    {"not_found", 404, "Not found"},
    {"method_not_allowed", 405, "Method not allowed"},
    {"not_acceptable", 406, "Not acceptable"},
    {"request_timeout", 408, "The request took too long"},
    {"conflict", 409, "Conflict"},
    {"idempotency_conflict", 409, "Idempotency key used for another request"},
    {"secret_not_kept", 409, "The secret is not kept"},
    {"legal_hold", 409, "Under a legal hold"},
    {"not_scanned", 409, "Not scanned yet"},
    {"version_gone", 409, "The version is no longer kept"},
    {"name_taken", 409, "Name already taken"},
    {"input_gone", 410, "Gone"},
    {"share_ended", 410, "The link has ended"},
    {"precondition_failed", 412, "Precondition failed"},
    {"body_too_large", 413, "Body too large"},
    {"file_too_large", 413, "File too large"},
    {"too_many_parts", 413, "Too many parts"},
    {"uri_too_long", 414, "Address too long"},
    {"unsupported_media_type", 415, "Unsupported media type"},
    {"range", 416, "Range not satisfiable"},
    {"invalid_json", 422, "Invalid value"},
    {"invalid_schema", 422, "Invalid schema"},
    {"invalid_name", 422, "Invalid name"},
    {"invalid_value", 422, "Invalid value"},
    {"weak_password", 422, "Password too weak"},
    {"empty_file", 422, "Empty file"},
    {"hash_mismatch", 422, "Hash mismatch"},
    {"no_files", 422, "No files"},
    {"headers_too_large", 431, "Headers too large"},
    {"part_header_too_large", 431, "Part header too large"},
    {"too_many_requests", 429, "Too many requests"},
    {"too_many_tries", 429, "Too many failed sign-ins"},
    {"too_many_files", 429, "Too many files in work"},
    {"search_timeout", 503, "The search took too long"},
    {"overloaded", 503, "Busy"},
    {"draining", 503, "Shutting down"},
    {"db_unavailable", 503, "Temporarily unavailable"},
    {"db_busy", 503, "Temporarily unavailable"},
    {"db_conflict", 503, "Temporarily unavailable"},
    {"store_unavailable", 503, "Temporarily unavailable"},
    {"store_denied", 503, "Temporarily unavailable"},
    {"no_memory", 503, "Temporarily unavailable"},
};

const struct problem *problem_find(const struct err *err)
{
    static const struct problem transient = {"unavailable", 503, "Temporarily unavailable"};
    static const struct problem internal = {"internal", 500, "Internal error"};

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (strcmp(table[i].code, err->code) == 0) {
            return &table[i];
        }
    }
    return err->class == ERR_TRANSIENT ? &transient : &internal;
}

void problem_reply(const struct err *err, const char *request_id, json_t *errors,
                   struct reply *ret_reply)
{
    const struct problem *p = problem_find(err);
    const char *detail = p->status >= 500 ? p->title : err->msg;
    struct reply reply = {.status = p->status, .content_type = "application/problem+json"};
    struct err ignored = ERR_INIT;

    if (strcmp(p->code, "search_timeout") == 0) {
        detail = err->msg;
    } else if (p->status == 503) {
        detail = "a system this service needs is away or busy; please try again";
    } else if (p->status == 500) {
        detail = "something went wrong on our side; the request id helps to find it";
    }
    json_t *doc = json_pack("{s:s, s:s, s:i, s:s, s:s, s:s}", "type", "about:blank", "title",
                            p->title, "status", (int)p->status, "detail", detail, "code", p->code,
                            "requestId", request_id);
    if (doc && p->status == 401 && strstr(p->code, "password")) {
        json_object_set_new(doc, "passwordRequired", json_true());
    }
    if (doc && errors && json_array_size(errors) > 0) {
        json_object_set(doc, "errors", errors);
    }
    reply.body = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
    reply.len = reply.body ? strlen(reply.body) : 0;
    json_decref(doc);
    const char *name = p->status == 401                       ? "WWW-Authenticate"
                       : p->status == 503 || p->status == 429 ? "Retry-After"
                                                              : NULL;
    if (name && reply_header(&reply, name, p->status == 401 ? "Bearer" : "5", &ignored) < 0) {
        reply.n_headers = 0;
    }
    *ret_reply = reply;
}

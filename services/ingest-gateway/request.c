/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/request.h"

#include "libcommon/jget.h"

int request_check_json(struct request *req, struct err *err)
{
    CLEANUP(json_cleanup) json_t *json = NULL;

    if (req->route->body != BODY_JSON || req->body.len == 0) {
        return 0;
    }
    if (jget_load(req->body.data, req->body.len, REQUEST_BODY_MAX, &json, err) < 0) {
        return -1;
    }
    if (!json_is_object(json)) {
        return err_set(err, ERR_PERMANENT, "invalid_json", "the body is not a JSON object");
    }
    req->json = STEAL(json);
    return 0;
}

int request_json(struct request *req, bool optional, json_t **ret_json, struct err *err)
{
    if (req->json) {
        *ret_json = json_incref(req->json);
        return 0;
    }
    if (!optional) {
        return err_set(err, ERR_PERMANENT, "malformed_json", "a JSON object is needed");
    }
    json_t *json = json_object();
    if (!json) {
        return err_nomem(err);
    }
    *ret_json = json;
    return 0;
}

bool text_plain(const char *text)
{
    for (const char *s = text; *s != '\0'; s++) {
        if ((unsigned char)*s < 0x20 || *s == 0x7F) {
            return false;
        }
    }
    return true;
}

int request_invalid(struct request *req, const char *pointer, const char *detail, struct err *err)
{
    if (!req->errors) {
        req->errors = json_array();
    }
    json_t *entry = json_pack("{s:s, s:s}", "pointer", pointer, "detail", detail);
    if (!req->errors || json_array_append_new(req->errors, entry) < 0) {
        return err_nomem(err);
    }
    return err_set(err, ERR_PERMANENT, "invalid_value", "%s: %s", pointer, detail);
}

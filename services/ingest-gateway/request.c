/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/request.h"

#include "libcommon/jget.h"

int request_json(struct request *req, bool optional, json_t **ret_json, struct err *err)
{
    CLEANUP(json_cleanup) json_t *json = NULL;

    if (req->body.len == 0 && optional) {
        json = json_object();
        if (!json) {
            return err_nomem(err);
        }
    } else if (jget_load(req->body.data ? req->body.data : "", req->body.len, REQUEST_BODY_MAX,
                         &json, err) < 0) {
        return -1;
    }
    if (!json_is_object(json)) {
        return err_set(err, ERR_PERMANENT, "invalid_json", "the body is not a JSON object");
    }
    *ret_json = STEAL(json);
    return 0;
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

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encoding and decoding of CloudEvents 1.0 in structured mode.
 */
#include "libcommon/event.h"

#include <stdio.h>
#include <string.h>

#include "libcommon/jget.h"

#define WORK_TYPE "docfleet.work.v1"

int event_encode_work(const struct work_order *order, struct buf *buf, struct err *err)
{
    /* Ids and names of ours need no escaping. */
    return buf_printf(buf, err,
                      "{\"specversion\":\"1.0\",\"type\":\"" WORK_TYPE
                      "\",\"source\":\"/docfleet/dispatcher\","
                      "\"id\":\"%s.%d.%d.%d.%d\",\"datacontenttype\":\"application/json\","
                      "\"data\":{\"userId\":\"%s\",\"fileId\":\"%s\",\"stage\":\"%s\",\"unit\":%d,"
                      "\"generation\":%d,\"dispatchSeq\":%d,\"cost\":%d,\"sentMs\":%lld}}",
                      order->key.file_id, order->key.stage, order->key.unit, order->key.generation,
                      order->dispatch_seq, order->user_id, order->key.file_id,
                      stage_name(order->key.stage), order->key.unit, order->key.generation,
                      order->dispatch_seq, order->cost, (long long)order->sent_ms);
}

static int read_data(const json_t *data, struct work_order *order, struct err *err)
{
    const char *user, *file, *stage;
    int64_t unit, generation, seq, cost;

    if (jget_str(data, "userId", UUID_TEXT - 1, &user, err) < 0 ||
        jget_str(data, "fileId", UUID_TEXT - 1, &file, err) < 0 ||
        jget_str(data, "stage", 32, &stage, err) < 0 ||
        jget_int(data, "unit", 0, INT32_MAX, &unit, err) < 0 ||
        jget_int(data, "generation", 1, INT32_MAX, &generation, err) < 0 ||
        jget_int(data, "dispatchSeq", 1, INT32_MAX, &seq, err) < 0 ||
        jget_int(data, "cost", 0, INT32_MAX, &cost, err) < 0 ||
        jget_opt_int(data, "sentMs", 0, INT64_MAX, 0, &order->sent_ms, err) < 0) {
        return -1;
    }
    order->key.stage = stage_parse(stage);
    if (order->key.stage == STAGE_NONE || !uuid_valid(user) || !uuid_valid(file)) {
        return err_set(err, ERR_PERMANENT, "bad_record", "no such stage, or ids are not UUIDs");
    }
    snprintf(order->user_id, sizeof(order->user_id), "%s", user);
    snprintf(order->key.file_id, sizeof(order->key.file_id), "%s", file);
    order->key.unit = (int)unit;
    order->key.generation = (int)generation;
    order->dispatch_seq = (int)seq;
    order->cost = (int)cost;
    return 0;
}

int event_decode_work(const char *value, size_t len, const char *key, size_t key_len,
                      struct work_order *ret_order, struct err *err)
{
    CLEANUP(json_cleanup) json_t *root = NULL;
    struct work_order order = {0};
    const char *type;

    if (!value || jget_load(value, len, 65536, &root, err) < 0 ||
        jget_str(root, "type", 128, &type, err) < 0) {
        return err_set(err, ERR_PERMANENT, "bad_record", "not a CloudEvent");
    }
    if (strcmp(type, WORK_TYPE) != 0) {
        return err_set(err, ERR_PERMANENT, "bad_record", "unknown type or version");
    }
    if (read_data(json_object_get(root, "data"), &order, err) < 0) {
        err->class = ERR_PERMANENT;
        snprintf(err->code, sizeof(err->code), "bad_record");
        return -1;
    }
    if (!key || key_len != strlen(order.user_id) || memcmp(key, order.user_id, key_len) != 0) {
        return err_set(err, ERR_PERMANENT, "bad_record", "the key is not the user");
    }
    *ret_order = order;
    return 0;
}

int event_encode(const struct event_row *row, struct buf *buf, struct err *err)
{
    CLEANUP(json_cleanup) json_t *data = NULL;
    CLEANUP(json_cleanup) json_t *root = NULL;
    char id[32], type[64];

    if (!row->body || strlen(row->body) > EVENT_MAX - 512 ||
        jget_load(row->body, strlen(row->body), EVENT_MAX, &data, NULL) < 0 ||
        !json_is_object(data)) {
        json_decref(data);
        data = json_object();
    }
    json_object_set_new(data, "pos", json_integer((json_int_t)row->pos));
    json_object_set_new(data, "userId", json_string(row->user_id));
    if (row->file_id) {
        json_object_set_new(data, "fileId", json_string(row->file_id));
    }
    if (row->stage) {
        json_object_set_new(data, "stage", json_string(stage_name(row->stage)));
    }
    snprintf(id, sizeof(id), "%lld", (long long)row->pos);
    snprintf(type, sizeof(type), "docfleet.%s.v1", row->kind);
    root = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:O}", "specversion", "1.0", "type", type,
                     "source", "/docfleet/dispatcher", "id", id, "time", row->at, "datacontenttype",
                     "application/json", "data", data);
    CLEANUP(free_cleanup) char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    return text ? buf_puts(buf, text, err) : err_nomem(err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "libcommon/intake.h"

#include <stdio.h>
#include <string.h>

void intake_begin(struct intake *in, struct store *store, const char *user_id, const char *name,
                  uint64_t max)
{
    *in = (struct intake){.store = store, .user_id = user_id, .name = name, .max = max};
    uuid_v7(in->id);
}

/* The first bytes are there: the kind is known, the object can begin. */
static int begin_object(struct intake *in, struct err *err)
{
    struct filetype type;
    char name[96];

    filetype_detect(in->head, in->head_len, in->name, &type);
    in->type = filetype_of(type.kind);
    name_for_key(in->name, name, sizeof(name));
    snprintf(in->key, sizeof(in->key), "uploads/%s/%s/1-%s", in->user_id, in->id, name);
    if (store_upload_begin(in->store, in->key, in->type->mime, in->max, &in->up, err) < 0) {
        return -1;
    }
    return store_upload_write(in->up, in->head, in->head_len, err);
}

int intake_data(struct intake *in, const char *data, size_t len, struct err *err)
{
    in->size += len;
    if (in->size > in->max) {
        intake_done(in);
        return err_set(err, ERR_PERMANENT, "file_too_large", "a file may have at most %llu bytes",
                       (unsigned long long)in->max);
    }
    if (!in->up) {
        size_t n = min_size(len, sizeof(in->head) - in->head_len);
        memcpy(in->head + in->head_len, data, n);
        in->head_len += n;
        data += n;
        len -= n;
        if (in->head_len < sizeof(in->head)) {
            return 0;
        }
        if (begin_object(in, err) < 0) {
            return -1;
        }
    }
    return len > 0 ? store_upload_write(in->up, data, len, err) : 0;
}

int intake_end(struct intake *in, struct err *err)
{
    struct store_stored stored;

    if (in->size == 0) {
        return err_set(err, ERR_PERMANENT, "empty_file", "the file has no bytes");
    }
    if ((!in->up && begin_object(in, err) < 0) || store_upload_commit(in->up, &stored, err) < 0) {
        return -1;
    }
    memcpy(in->sha256, stored.sha256, sizeof(in->sha256));
    memcpy(in->etag, stored.etag, sizeof(in->etag));
    intake_done(in);
    return 0;
}

void intake_done(struct intake *in)
{
    store_upload_free(in->up);
    in->up = NULL;
}

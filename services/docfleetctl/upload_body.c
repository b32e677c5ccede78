/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The multipart body of one batch, streamed from disk. The manifest lets the gateway refuse a file
 * whose bytes are not those that were looked at.
 */
#include "services/docfleetctl/upload.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MANIFEST_BYTES_MAX ((size_t)1000 * 1024)

void body_rewind(struct body *body)
{
    fd_cleanup(&body->fd);
    body->fd = -1;
    body->at = 0;
    body->head_done = 0;
    body->file_done = 0;
    atomic_fetch_sub(body->sent, body->mine);
    body->mine = 0;
}

void body_done(struct body *body)
{
    fd_cleanup(&body->fd);
    for (size_t i = 0; body->batch && i < body->batch->n; i++) {
        free(body->heads[i]);
    }
    free(body->manifest);
    *body = (struct body){.fd = -1};
}

/* A quoted string of a header: line ends as browsers write them. */
static int put_name(struct buf *buf, const char *name, struct err *err)
{
    for (const char *s = name; *s; s++) {
        int rc = *s == '\n'                ? buf_puts(buf, "%0A", err)
                 : *s == '\r'              ? buf_puts(buf, "%0D", err)
                 : *s == '"' || *s == '\\' ? buf_printf(buf, err, "\\%c", *s)
                                           : buf_append(buf, s, 1, err);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

/* Names that a header has to escape, or that are no UTF-8, are not in the manifest. */
static bool plain(const char *name)
{
    CLEANUP(json_cleanup) json_t *text = json_string(name);

    for (const char *s = name; *s; s++) {
        if ((unsigned char)*s < 0x20 || *s == 0x7f || *s == '"' || *s == '\\') {
            return false;
        }
    }
    return text != NULL;
}

static int make_manifest(struct body *body, struct err *err)
{
    CLEANUP(json_cleanup) json_t *list = json_array();

    for (size_t i = 0; i < body->batch->n; i++) {
        const struct walk_file *file = body->batch->files[i];
        if (plain(file->name) &&
            json_array_append_new(list, json_pack("{s:s, s:I, s:s}", "name", file->name, "size",
                                                  (json_int_t)file->size, "sha256",
                                                  body->batch->sha256[i])) < 0) {
            return err_nomem(err);
        }
    }
    body->manifest = json_dumps(list, JSON_COMPACT);
    return body->manifest ? 0 : err_nomem(err);
}

static int add_head(struct body *body, size_t i, struct err *err)
{
    CLEANUP(buf_done) struct buf head;

    buf_init(&head, MANIFEST_BYTES_MAX + 16384);
    if (i == 0 && strlen(body->manifest) <= MANIFEST_BYTES_MAX &&
        buf_printf(&head, err,
                   "--%s\r\nContent-Disposition: form-data; name=\"manifest\"\r\n"
                   "Content-Type: application/json\r\n\r\n%s\r\n",
                   body->boundary, body->manifest) < 0) {
        return -1;
    }
    if (buf_printf(&head, err,
                   "%s--%s\r\nContent-Disposition: form-data; name=\"file\"; filename=\"",
                   i > 0 ? "\r\n" : "", body->boundary) < 0 ||
        put_name(&head, body->batch->files[i]->name, err) < 0 ||
        buf_puts(&head, "\"\r\nContent-Type: application/octet-stream\r\n\r\n", err) < 0) {
        return -1;
    }
    body->head_lens[i] = head.len;
    body->heads[i] = buf_steal(&head);
    body->length += body->head_lens[i] + body->batch->files[i]->size;
    return 0;
}

int body_init(struct body *body, const struct batch *batch, atomic_ullong *sent, struct err *err)
{
    char id[UUID_TEXT];

    *body = (struct body){.batch = batch, .fd = -1, .sent = sent};
    uuid_v7(id);
    snprintf(body->boundary, sizeof(body->boundary), "docfleet-%s", id);
    snprintf(body->tail, sizeof(body->tail), "\r\n--%s--\r\n", body->boundary);
    body->length = strlen(body->tail);
    if (make_manifest(body, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < batch->n; i++) {
        if (add_head(body, i, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int open_current(struct body *body, struct err *err)
{
    const struct walk_file *file = body->batch->files[body->at];
    struct stat st;

    body->fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (body->fd < 0 || fstat(body->fd, &st) < 0) {
        return err_set(err, ERR_PERMANENT, "unreadable", "cannot read %s", api_clean(file->path));
    }
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != file->size) {
        return err_set(err, ERR_PERMANENT, "changed", "%s has changed since it was looked at",
                       api_clean(file->path));
    }
    return 0;
}

static ssize_t read_file_part(struct body *body, char *data, size_t size, struct err *err)
{
    const struct walk_file *file = body->batch->files[body->at];

    if (body->fd < 0 && open_current(body, err) < 0) {
        return -1;
    }
    ssize_t n = read(body->fd, data, min_size(size, (size_t)(file->size - body->file_done)));
    if (n <= 0) {
        return err_set(err, ERR_PERMANENT, "changed", "%s got shorter while it was read",
                       api_clean(file->path));
    }
    body->file_done += (uint64_t)n;
    return n;
}

static ssize_t read_some(struct body *body, char *data, size_t size, struct err *err)
{
    for (;;) {
        bool tail = body->at == body->batch->n;
        const char *text = tail ? body->tail : body->heads[body->at];
        size_t len = tail ? strlen(body->tail) : body->head_lens[body->at];
        if (body->head_done < len) {
            size_t n = min_size(size, len - body->head_done);
            memcpy(data, text + body->head_done, n);
            body->head_done += n;
            return (ssize_t)n;
        }
        if (tail) {
            return 0;
        }
        if (body->file_done < body->batch->files[body->at]->size) {
            return read_file_part(body, data, size, err);
        }
        fd_cleanup(&body->fd);
        body->fd = -1;
        body->at++;
        body->head_done = 0;
        body->file_done = 0;
    }
}

ssize_t body_read(void *ctx, char *data, size_t size, struct err *err)
{
    struct body *body = ctx;
    ssize_t n = read_some(body, data, size, err);

    if (n > 0) {
        body->mine += (uint64_t)n;
        atomic_fetch_add(body->sent, (unsigned long long)n);
    }
    return n;
}

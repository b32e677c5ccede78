/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The web console's built files, and the API's own description.
 * Invariant: what is opened lies below the console's folder: each segment of the path is made of
 * harmless characters, does not begin with a dot, and is opened without following links.
 */
#include "services/ingest-gateway/cond.h"
#include "services/ingest-gateway/encoding.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX ((off_t)16 << 20)
#define CONSOLE_CSP                                                                                \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "        \
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "                   \
    "frame-ancestors 'none'; require-trusted-types-for 'script'"

static const char *type_of(const char *name)
{
    static const struct {
        const char *ext;
        const char *type;
    } types[] = {
        {".html", "text/html; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".svg", "image/svg+xml"},
        {".png", "image/png"},
        {".ico", "image/x-icon"},
        {".webp", "image/webp"},
        {".woff2", "font/woff2"},
        {".json", "application/json"},
        {".txt", "text/plain; charset=utf-8"},
    };
    size_t n = strlen(name);

    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        size_t e = strlen(types[i].ext);
        if (n > e && strcmp(name + n - e, types[i].ext) == 0) {
            return types[i].type;
        }
    }
    return "application/octet-stream";
}

static int not_found(struct err *err)
{
    return err_set(err, ERR_PERMANENT, "not_found", "no such address");
}

/* Opens path segment by segment below dir. */
static int open_below(const char *dir, const char *path, int *ret_fd, struct err *err)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    CLEANUP(fd_cleanup) int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    char segment[128];

    for (int depth = 0; at >= 0 && depth < 8; depth++) {
        path += *path == '/' ? 1 : 0;
        size_t n = strcspn(path, "/");
        if (n == 0 || n >= sizeof(segment) || *path == '.' || strspn(path, plain) < n) {
            return not_found(err);
        }
        memcpy(segment, path, n);
        segment[n] = '\0';
        path += n;
        bool last = *path == '\0';
        int flags = last ? O_RDONLY | O_NONBLOCK : O_PATH | O_DIRECTORY;
        int next = openat(at, segment, flags | O_NOFOLLOW | O_CLOEXEC);
        if (last && next >= 0) {
            *ret_fd = next;
            return 0;
        }
        close(at);
        at = next;
    }
    return not_found(err);
}

static int read_whole(int fd, off_t size, struct reply *reply, struct err *err)
{
    char *data = malloc((size_t)size + 1);
    size_t len = 0;

    if (!data) {
        return err_nomem(err);
    }
    while (len < (size_t)size) {
        ssize_t n = read(fd, data + len, (size_t)size - len);
        if (n <= 0) {
            free(data);
            return err_set(err, ERR_UNKNOWN, "io", "a console file cannot be read");
        }
        len += (size_t)n;
    }
    data[len] = '\0';
    reply->own = true;
    reply->body = data;
    reply->len = len;
    return 0;
}

/* A file of the console, whatever its path is worth. */
static int open_file(const struct request *req, const char *path, int *ret_fd, struct stat *ret_st,
                     struct err *err)
{
    if (!req->gw->console_dir) {
        return not_found(err);
    }
    if (open_below(req->gw->console_dir, path, ret_fd, err) < 0) {
        return -1;
    }
    return fstat(*ret_fd, ret_st) < 0 || !S_ISREG(ret_st->st_mode) || ret_st->st_size > FILE_MAX
               ? not_found(err)
               : 0;
}

int console_page(struct request *req, const char *name, unsigned status, struct reply *reply,
                 struct err *err)
{
    CLEANUP(fd_cleanup) int fd = -1;
    struct stat st;

    if (open_file(req, name, &fd, &st, err) < 0 ||
        reply_header(reply, "Content-Security-Policy", CONSOLE_CSP, err) < 0 ||
        reply_header(reply, "X-Robots-Tag", "noindex", err) < 0 ||
        reply_header(reply, "Vary", "Accept", err) < 0) {
        return -1;
    }
    reply->status = status;
    reply->content_type = type_of(name);
    return read_whole(fd, st.st_size, reply, err);
}

int console_file(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(fd_cleanup) int fd = -1;
    struct stat st;
    char base[64];
    const char *path = strcmp(req->uri.path, "/") == 0       ? "/index.html"
                       : strcmp(req->uri.path, "/docs") == 0 ? "/docs.html"
                                                             : req->uri.path;
    bool hashed = strncmp(path, "/assets/", 8) == 0;

    if (open_file(req, path, &fd, &st, err) < 0) {
        return -1;
    }
    snprintf(base, sizeof(base), "%llx-%llx", (unsigned long long)st.st_mtim.tv_sec,
             (unsigned long long)st.st_size);
    struct etag etag = encoding_tag(base, encoding_chosen(req, type_of(path), (size_t)st.st_size));
    if (reply_header(reply, "Content-Security-Policy", CONSOLE_CSP, err) < 0 ||
        reply_header(reply, "ETag", etag.text, err) < 0 ||
        reply_header(reply, "Cache-Control",
                     hashed ? "public, max-age=31536000, immutable" : "no-cache", err) < 0) {
        return -1;
    }
    if (etag_listed(req->headers[H_IF_NONE_MATCH], etag.text)) {
        reply->status = 304;
        return encoding_varies(type_of(path), (size_t)st.st_size)
                   ? reply_header(reply, "Vary", "Accept-Encoding", err)
                   : 0;
    }
    reply->status = 200;
    reply->content_type = type_of(path);
    return read_whole(fd, st.st_size, reply, err);
}

int openapi_get(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(buf_done) struct buf buf;

    buf_init(&buf, req->gw->openapi_len + 1);
    if (!req->gw->openapi) {
        return not_found(err);
    }
    if (buf_append(&buf, req->gw->openapi, req->gw->openapi_len, err) < 0 ||
        reply_header(reply, "Access-Control-Allow-Origin", "*", err) < 0) {
        return -1;
    }
    reply_take_buf(reply, 200, "application/json", &buf);
    reply->own = true;
    return 0;
}

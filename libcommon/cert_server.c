/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What servers show: a handshake of its own that is ended as soon as the certificates are there.
 * Connections that carry work are old and would tell of a certificate that was renewed long ago;
 * and nothing here can weaken the check of theirs.
 */
#include "libcommon/cert.h"

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libcommon/dial.h"
#include "libcommon/log.h"
#include "libcommon/metrics.h"

#define STEP_MS 2000 /* connect, and each read or write */
#define AGAIN_MS 600000U
#define SERVERS_MAX 16U /* of one list */

/* Where a server is */

/* The value of an option; NULL where it has none. */
static const char *option(const PQconninfoOption *info, const char *name)
{
    for (const PQconninfoOption *o = info; o && o->keyword; o++) {
        if (strcmp(o->keyword, name) == 0) {
            return o->val && *o->val ? o->val : NULL;
        }
    }
    return NULL;
}

/* The first server of a connection URI; none where it is a local socket or TLS is switched off. */
static size_t of_postgres(const char *url, struct dial_place *ret)
{
    PQconninfoOption *info = PQconninfoParse(url, NULL);
    const char *address = option(info, "hostaddr");
    const char *host = address ? address : option(info, "host");
    const char *port = option(info, "port");
    const char *mode = option(info, "sslmode");
    bool good = host && !strchr("/@", host[0]) && (!mode || strcmp(mode, "disable") != 0);

    if (good) {
        size_t n = strcspn(host, ",");
        size_t digits = port ? strcspn(port, ",") : 0;
        good = n < sizeof(ret->host) && digits < sizeof(ret->port);
        snprintf(ret->host, sizeof(ret->host), "%.*s", (int)n, host);
        snprintf(ret->port, sizeof(ret->port), "%.*s", (int)(digits ? digits : 4),
                 digits ? port : "5432");
    }
    PQconninfoFree(info);
    return good ? 1 : 0;
}

static size_t of_list(const char *list, struct dial_place *ret, size_t max)
{
    size_t n = 0;

    for (const char *p = list; *p && n < max;) {
        p += strspn(p, ", ");
        size_t len = strcspn(p, ", ");
        n += len > 0 && dial_parse(p, len, "9092", &ret[n]) ? 1 : 0;
        p += len;
    }
    return n;
}

static size_t of_url(const char *url, struct dial_place *ret)
{
    if (strncmp(url, "https://", 8) != 0) {
        return 0;
    }
    return dial_parse(url + 8, strcspn(url + 8, "/?#"), "443", ret) ? 1 : 0;
}

/* The handshake */

/* Postgres is asked for TLS first (protocol 3.0, SSLRequest): 'S' or 'N'. */
static int ask_postgres(int fd, struct err *err)
{
    static const unsigned char request[8] = {0, 0, 0, 8, 4, 210, 22, 47};
    char answer = 0;

    if (send(fd, request, sizeof(request), MSG_NOSIGNAL) != (ssize_t)sizeof(request) ||
        recv(fd, &answer, 1, 0) != 1) {
        return err_set(err, ERR_TRANSIENT, "io", "no answer to the question for TLS");
    }
    return answer == 'S' ? 0 : err_set(err, ERR_PERMANENT, "no_tls", "the server has no TLS");
}

/* Instead of a judgement: notes the first end among what was sent. */
static int note_ends(X509_STORE_CTX *ctx, void *arg)
{
    int64_t *first = arg;
    STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(ctx);

    for (int i = 0; i < sk_X509_num(sent); i++) {
        int64_t end = cert_end(sk_X509_value(sent, i));
        if (end >= 0 && (*first < 0 || end < *first)) {
            *first = end;
        }
    }
    return 1;
}

static int shake_hands(int fd, const char *host, int64_t *ret_unix, struct err *err)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    unsigned char address[sizeof(struct in6_addr)];
    int64_t first = -1;

    if (ctx) {
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_cert_verify_callback(ctx, note_ends, &first);
    }
    SSL *ssl = ctx ? SSL_new(ctx) : NULL;
    if (ssl && SSL_set_fd(ssl, fd) == 1) {
        if (inet_pton(AF_INET, host, address) != 1 && inet_pton(AF_INET6, host, address) != 1) {
            (void)SSL_set_tlsext_host_name(ssl, host);
        }
        /* A server that wants a certificate of ours refuses us, after it has shown its own. */
        (void)SSL_connect(ssl);
    }
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    if (first < 0) {
        return err_set(err, ERR_TRANSIENT, "no_tls", "no certificate was shown");
    }
    *ret_unix = first;
    return 0;
}

int cert_shown(enum cert_server kind, const char *where, int64_t *ret_unix, struct err *err)
{
    struct dial_place places[SERVERS_MAX];
    size_t n = kind == CERT_POSTGRES  ? of_postgres(where, places)
               : kind == CERT_BROKERS ? of_list(where, places, SERVERS_MAX)
                                      : of_url(where, places);
    int64_t first = -1;

    if (n == 0) {
        return err_set(err, ERR_PERMANENT, "no_tls", "there is no server with TLS");
    }
    for (size_t i = 0; i < n; i++) {
        CLEANUP(fd_cleanup) int fd = dial_place(&places[i], STEP_MS, err);
        int64_t end = -1;
        if (fd >= 0 && (kind != CERT_POSTGRES || ask_postgres(fd, err) == 0) &&
            shake_hands(fd, places[i].host, &end, err) == 0 && (first < 0 || end < first)) {
            first = end;
        }
    }
    if (first < 0) {
        return -1;
    }
    *ret_unix = first;
    return 0;
}

/* Looks ----------------------------------------------------------------------------------------*/

void cert_look(struct cert_look *look)
{
    struct err err = ERR_INIT;
    char labels[64];
    int64_t end = 0;
    uint64_t now = clock_mono_ms();

    if (look->next_ms > now) {
        return;
    }
    look->next_ms = now + AGAIN_MS;
    if (cert_shown(look->kind, look->where, &end, &err) == 0) {
        snprintf(labels, sizeof(labels), "use=\"%s\"", look->use);
        metrics_set("docfleet_certificate_expiry_seconds", labels, (double)end);
    } else if (strcmp(err.code, "no_tls") != 0) {
        /* The last known end stays: it still tells when to look. */
        log_debug("a server's certificate was not seen", kv_str("use", look->use),
                  kv_str("reason", err.msg));
    }
}

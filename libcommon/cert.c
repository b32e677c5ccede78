/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PEM files through OpenSSL; anything else in the file (a key, text) is passed over.
 */
#include "libcommon/cert.h"

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "libcommon/log.h"
#include "libcommon/metrics.h"

#define AGAIN_MS 60000U
#define CERTS_MAX 2000 /* of one file */

int64_t cert_end(const X509 *cert)
{
    struct tm tm;

    return ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) == 1 ? (int64_t)timegm(&tm) : -1;
}

int cert_expiry(const char *path, enum cert_kind kind, int64_t *ret_unix, struct err *err)
{
    FILE *f = fopen(path, "re");
    int64_t found = -1;

    if (!f) {
        return err_from_errno(err, errno, "%s", path);
    }
    for (int i = 0; i < CERTS_MAX; i++) {
        X509 *cert = PEM_read_X509(f, NULL, NULL, NULL);
        int64_t end = cert ? cert_end(cert) : -1;
        X509_free(cert);
        if (!cert) {
            break;
        }
        if (end >= 0 && (found < 0 || (kind == CERT_OWN ? end < found : end > found))) {
            found = end;
        }
    }
    fclose(f);
    if (found < 0) {
        return err_set(err, ERR_PERMANENT, "invalid_certificate", "%s holds no certificate", path);
    }
    *ret_unix = found;
    return 0;
}

/* Watched files -------------------------------------------------------------------------------- */

struct watch {
    char use[40];
    char path[512];
    enum cert_kind kind;
    bool told; /* that it cannot be read */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct watch watches[CERT_WATCH_MAX];
static size_t n_watches;
static uint64_t read_at;

static void show(struct watch *watch)
{
    struct err err = ERR_INIT;
    char labels[64];
    int64_t end = 0;

    snprintf(labels, sizeof(labels), "use=\"%s\"", watch->use);
    if (cert_expiry(watch->path, watch->kind, &end, &err) == 0) {
        metrics_set("docfleet_certificate_expiry_seconds", labels, (double)end);
        watch->told = false;
    } else if (!watch->told) {
        /* The last known end stays: it still tells when to look. */
        log_err(LOG_WARN, "a certificate's end cannot be read", &err);
        watch->told = true;
    }
}

static void collect(void *arg)
{
    uint64_t now = clock_mono_ms();

    (void)arg;
    pthread_mutex_lock(&lock);
    if (read_at == 0 || now - read_at >= AGAIN_MS) {
        read_at = now;
        for (size_t i = 0; i < n_watches; i++) {
            show(&watches[i]);
        }
    }
    pthread_mutex_unlock(&lock);
}

void cert_watch(const char *use, const char *path, enum cert_kind kind)
{
    if (!path || !*path) {
        return;
    }
    pthread_mutex_lock(&lock);
    bool first = n_watches == 0, room = n_watches < CERT_WATCH_MAX;
    if (room) {
        struct watch *watch = &watches[n_watches++];
        *watch = (struct watch){.kind = kind};
        snprintf(watch->use, sizeof(watch->use), "%s", use);
        snprintf(watch->path, sizeof(watch->path), "%s", path);
        read_at = 0;
    }
    pthread_mutex_unlock(&lock);
    if (first && room) {
        metrics_collect(collect, NULL);
    }
}

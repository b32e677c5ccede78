/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handshakes run in the HTTP library's threads and hold what they were given until they end; a pair
 * that was replaced is therefore kept for a while, longer than the reaper lets any handshake live.
 */
#include "services/ingest-gateway/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libcommon/cert.h"
#include "libcommon/log.h"

#define CHAIN_MAX 8U
#define FILE_BYTES_MAX ((off_t)256 << 10)
#define KEPT_MS 60000U
#define KEY_ID_BYTES 32U

/* Which file a path led to. */
struct mark {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime;
};

struct pair {
    gnutls_pcert_st certs[CHAIN_MAX];
    unsigned n_certs;
    gnutls_privkey_t key;
    struct mark cert_mark, key_mark;
    uint64_t replaced_ms;
};

static struct {
    pthread_mutex_t lock; /* guards now */
    struct pair *now;
    struct pair *before; /* of tls_refresh alone, like all below */
    const char *cert_file, *key_file;
    struct mark bad_cert, bad_key; /* told about */
} tls = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void pair_free(struct pair *pair)
{
    if (!pair) {
        return;
    }
    for (unsigned i = 0; i < pair->n_certs; i++) {
        gnutls_pcert_deinit(&pair->certs[i]);
    }
    if (pair->key) {
        gnutls_privkey_deinit(pair->key);
    }
    free(pair);
}
DEFINE_CLEANUP(struct pair *, pair_cleanup, pair_free)

static int refuse(struct err *err, const char *path, const char *why)
{
    return err_set(err, ERR_FATAL, "invalid_config", "%s: %s", path, why);
}

static struct mark mark_of(const struct stat *st)
{
    return (struct mark){st->st_dev, st->st_ino, st->st_size, st->st_mtim};
}

static bool same(const struct mark *a, const struct mark *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec;
}

/* The file's bytes, malloc'd; gnutls_datum_t's size counts no terminator. */
static int read_file(const char *path, gnutls_datum_t *ret, struct mark *ret_mark, struct err *err)
{
    CLEANUP(fd_cleanup) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        return refuse(err, path, strerrordesc_np(errno));
    }
    if (!S_ISREG(st.st_mode) || st.st_size < 1 || st.st_size > FILE_BYTES_MAX) {
        return refuse(err, path, "no file of 1 to 262144 bytes");
    }
    unsigned char *data = calloc(1, (size_t)st.st_size + 1);
    if (!data) {
        return err_nomem(err);
    }
    if (read(fd, data, (size_t)st.st_size) != st.st_size) {
        free(data);
        return refuse(err, path, "cannot be read whole");
    }
    *ret = (gnutls_datum_t){data, (unsigned)st.st_size};
    *ret_mark = mark_of(&st);
    return 0;
}

static void datum_done(gnutls_datum_t *datum)
{
    if (datum->data) {
        explicit_bzero(datum->data, datum->size);
        free(datum->data);
    }
}

/* The key belongs to the first certificate. */
static bool fits(const struct pair *pair)
{
    unsigned char ours[KEY_ID_BYTES], shown[KEY_ID_BYTES];
    size_t n = sizeof(ours), m = sizeof(shown);
    gnutls_pubkey_t pub = NULL;
    bool ok =
        gnutls_pubkey_init(&pub) == 0 && gnutls_pubkey_import_privkey(pub, pair->key, 0, 0) == 0 &&
        gnutls_pubkey_get_key_id(pub, GNUTLS_KEYID_USE_SHA256, ours, &n) == 0 &&
        gnutls_pubkey_get_key_id(pair->certs[0].pubkey, GNUTLS_KEYID_USE_SHA256, shown, &m) == 0 &&
        n == m && memcmp(ours, shown, n) == 0;

    gnutls_pubkey_deinit(pub);
    return ok;
}

static int pair_read(struct pair **ret_pair, struct err *err)
{
    CLEANUP(pair_cleanup) struct pair *pair = calloc(1, sizeof(*pair));
    CLEANUP(datum_done) gnutls_datum_t cert = {NULL, 0}, key = {NULL, 0};
    unsigned n = CHAIN_MAX;

    if (!pair) {
        return err_nomem(err);
    }
    if (read_file(tls.cert_file, &cert, &pair->cert_mark, err) < 0 ||
        read_file(tls.key_file, &key, &pair->key_mark, err) < 0) {
        return -1;
    }
    int r = gnutls_pcert_list_import_x509_raw(pair->certs, &n, &cert, GNUTLS_X509_FMT_PEM,
                                              GNUTLS_X509_CRT_LIST_FAIL_IF_UNSORTED |
                                                  GNUTLS_X509_CRT_LIST_IMPORT_FAIL_IF_EXCEED);
    if (r < 0) {
        return refuse(err, tls.cert_file, gnutls_strerror(r));
    }
    pair->n_certs = n;
    r = gnutls_privkey_init(&pair->key);
    r = r < 0 ? r : gnutls_privkey_import_x509_raw(pair->key, &key, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (r < 0) {
        return refuse(err, tls.key_file, gnutls_strerror(r));
    }
    if (n == 0 || !fits(pair)) {
        return refuse(err, tls.key_file, "is not the key of the certificate");
    }
    *ret_pair = STEAL(pair);
    return 0;
}

int tls_open(const char *cert_file, const char *key_file, struct err *err)
{
    tls.cert_file = cert_file;
    tls.key_file = key_file;
    if (pair_read(&tls.now, err) < 0) {
        return -1;
    }
    cert_watch("gateway", cert_file, CERT_OWN);
    return 0;
}

void tls_refresh(void)
{
    CLEANUP(pair_cleanup) struct pair *fresh = NULL;
    struct stat cert, key;
    struct err err = ERR_INIT;

    if (!tls.now) {
        return;
    }
    if (tls.before && clock_mono_ms() - tls.before->replaced_ms > KEPT_MS) {
        pair_free(STEAL(tls.before));
    }
    /* A path that leads nowhere for a moment: files are being exchanged. */
    if (tls.before || stat(tls.cert_file, &cert) < 0 || stat(tls.key_file, &key) < 0) {
        return;
    }
    const struct mark cert_mark = mark_of(&cert), key_mark = mark_of(&key);
    if ((same(&cert_mark, &tls.now->cert_mark) && same(&key_mark, &tls.now->key_mark)) ||
        (same(&cert_mark, &tls.bad_cert) && same(&key_mark, &tls.bad_key))) {
        return;
    }
    if (pair_read(&fresh, &err) < 0) {
        tls.bad_cert = cert_mark;
        tls.bad_key = key_mark;
        log_err(LOG_WARN, "renewed certificate not taken", &err);
        return;
    }
    tls.now->replaced_ms = clock_mono_ms();
    pthread_mutex_lock(&tls.lock);
    tls.before = tls.now;
    tls.now = STEAL(fresh);
    pthread_mutex_unlock(&tls.lock);
    log_info("renewed certificate taken");
}

void tls_close(void)
{
    pair_free(STEAL(tls.now));
    pair_free(STEAL(tls.before));
}

int tls_certificate(gnutls_session_t session UNUSED, const gnutls_datum_t *ca_names UNUSED,
                    int n_ca_names UNUSED, const gnutls_pk_algorithm_t *algorithms UNUSED,
                    int n_algorithms UNUSED, gnutls_pcert_st **ret_certs, unsigned *ret_n,
                    gnutls_privkey_t *ret_key)
{
    pthread_mutex_lock(&tls.lock);
    *ret_certs = tls.now->certs;
    *ret_n = tls.now->n_certs;
    *ret_key = tls.now->key;
    pthread_mutex_unlock(&tls.lock);
    return 0;
}

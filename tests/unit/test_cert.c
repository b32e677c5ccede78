/* SPDX-License-Identifier: Apache-2.0 */
/* PKGS: libcrypto */
/*
 * When the certificates of a file end, and that the metric follows a file that is renewed.
 */
#include "libcommon/cert.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "libcommon/metrics.h"

static EVP_PKEY *key;
static char path[] = "/tmp/test-cert-XXXXXX";

static void append(FILE *f, long seconds)
{
    X509 *cert = X509_new();

    assert_non_null(cert);
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -7200);
    X509_gmtime_adj(X509_getm_notAfter(cert), seconds);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)"test", -1, -1, 0);
    X509_set_pubkey(cert, key);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    assert_int_equal(PEM_write_X509(f, cert), 1);
    X509_free(cert);
}

/* A file with a key in it, as some put both into one, and certificates with these seconds left. */
static void write_file(long first, long second)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs("some words\n", f);
    append(f, first);
    assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
    append(f, second);
    fclose(f);
}

static void near(int64_t got, long seconds)
{
    int64_t want = (int64_t)time(NULL) + seconds;

    assert_in_range(got, want - 60, want + 60);
}

static void test_the_end_of_a_file(void **state)
{
    struct err err = ERR_INIT;
    int64_t end = 0;

    (void)state;
    write_file(86400, 864000);
    assert_int_equal(cert_expiry(path, CERT_OWN, &end, &err), 0);
    near(end, 86400);
    assert_int_equal(cert_expiry(path, CERT_CA, &end, &err), 0);
    near(end, 864000);
    write_file(864000, -3600);
    assert_int_equal(cert_expiry(path, CERT_OWN, &end, &err), 0);
    near(end, -3600);
}

static void test_no_certificate(void **state)
{
    struct err err = ERR_INIT;
    int64_t end = 0;
    FILE *f = fopen(path, "w");

    (void)state;
    assert_non_null(f);
    assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(f);
    assert_int_equal(cert_expiry(path, CERT_OWN, &end, &err), -1);
    assert_string_equal(err.code, "invalid_certificate");
    assert_int_equal(cert_expiry("/nowhere/at/all.pem", CERT_OWN, &end, &err), -1);
    assert_string_equal(err.code, "io");
}

static void test_it_is_shown(void **state)
{
    CLEANUP(buf_done) struct buf buf;
    struct err err = ERR_INIT;

    (void)state;
    write_file(86400, 864000);
    cert_watch("nothing", "", CERT_OWN);
    cert_watch("gateway", path, CERT_OWN);
    cert_watch("gone", "/nowhere/at/all.pem", CERT_OWN);
    buf_init(&buf, 1U << 20);
    assert_int_equal(metrics_render(&buf, &err), 0);
    near((int64_t)metrics_get("docfleet_certificate_expiry_seconds", "use=\"gateway\""), 86400);
    assert_null(strstr(buf.data, "use=\"gone\""));
    assert_null(strstr(buf.data, "use=\"nothing\""));
}

/* What a server shows is tried against real ones in tests/service/test_tls.py. */
static void test_where_no_server_with_tls_is(void **state)
{
    static const struct {
        enum cert_server kind;
        const char *where;
        const char *code;
    } cases[] = {
        {CERT_HTTPS, "http://127.0.0.1:1", "no_tls"},
        {CERT_HTTPS, "https://", "no_tls"},
        {CERT_HTTPS, "https://127.0.0.1:1234567890/x", "no_tls"},
        {CERT_HTTPS, "https://127.0.0.1:1/path", "io"},
        {CERT_HTTPS, "https://[::1]:1", "io"},
        {CERT_HTTPS, "https://no-such-host.invalid", "dns"},
        {CERT_BROKERS, "", "no_tls"},
        {CERT_BROKERS, " , ,", "no_tls"},
        {CERT_BROKERS, "127.0.0.1:1, [::1]:1", "io"},
        {CERT_POSTGRES, "postgresql:///db?host=/run", "no_tls"},
        {CERT_POSTGRES, "postgresql://127.0.0.1:1/db?sslmode=disable", "no_tls"},
        {CERT_POSTGRES, "no uri", "no_tls"},
        {CERT_POSTGRES, "postgresql://a,b:1,2/db?hostaddr=127.0.0.1,127.0.0.2&port=1,2", "io"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = ERR_INIT;
        int64_t end = 0;
        assert_int_equal(cert_shown(cases[i].kind, cases[i].where, &end, &err), -1);
        if (strcmp(err.code, cases[i].code) != 0) {
            fail_msg("%s: %s (%s), not %s", cases[i].where, err.code, err.msg, cases[i].code);
        }
    }
}

static int make_key(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    key = EVP_EC_gen("P-256");
    return fd >= 0 && close(fd) == 0 && key ? 0 : -1;
}

static int drop_key(void **state)
{
    (void)state;
    EVP_PKEY_free(key);
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_end_of_a_file),
        cmocka_unit_test(test_no_certificate),
        cmocka_unit_test(test_it_is_shown),
        cmocka_unit_test(test_where_no_server_with_tls_is),
    };
    return cmocka_run_group_tests(tests, make_key, drop_key);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* PKGS: libcurl libssl libcrypto */
/*
 * The HTTP client and certificates: one that nobody vouches for is refused, one of a named CA file
 * is taken, one for another host is not.
 */
#include "libcommon/http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

static char ca_path[] = "/tmp/test-http-tls-XXXXXX";
static SSL_CTX *tls;
static int listener;
static int port;
static pthread_t thread;

/* A certificate for 127.0.0.1, signed by its own key. */
static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    X509_EXTENSION *alt = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "IP:127.0.0.1");

    assert_non_null(cert);
    assert_non_null(alt);
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    X509_set_pubkey(cert, key);
    X509_add_ext(cert, alt, -1);
    X509_EXTENSION_free(alt);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    return cert;
}

static void *serve(void *ctx)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nConnection: close\r\n"
                                 "Content-Length: 2\r\n\r\nok";
    char in[4096];

    (void)ctx;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) {
            return NULL;
        }
        SSL *ssl = SSL_new(tls);
        SSL_set_fd(ssl, fd);
        if (SSL_accept(ssl) == 1 && SSL_read(ssl, in, sizeof(in)) > 0) {
            SSL_write(ssl, answer, sizeof(answer) - 1);
            SSL_shutdown(ssl);
        }
        SSL_free(ssl);
        close(fd);
    }
}

static int setup(void **state)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = make_certificate(key);
    int fd = mkstemp(ca_path);
    FILE *file = fdopen(fd, "w");

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    assert_non_null(file);
    assert_int_equal(PEM_write_X509(file, cert), 1);
    fclose(file);
    tls = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(tls, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(tls, key), 1);
    X509_free(cert);
    EVP_PKEY_free(key);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
    port = ntohs(addr.sin_port);
    return pthread_create(&thread, NULL, serve, NULL);
}

static int teardown(void **state)
{
    (void)state;
    shutdown(listener, SHUT_RDWR);
    close(listener);
    pthread_join(thread, NULL);
    SSL_CTX_free(tls);
    unlink(ca_path);
    return 0;
}

static int call(const char *ca_file, const char *host, struct err *err)
{
    struct http_client_config config = {.ca_file = ca_file};
    CLEANUP(http_client_cleanup) struct http_client *client = NULL;
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    char url[64];

    snprintf(url, sizeof(url), "https://%s:%d/", host, port);
    struct http_request req = {.url = url, .timeout_ms = 10000};
    assert_int_equal(http_client_new(&config, &client, err), 0);
    int rc = http_call(client, &req, &resp, err);
    assert_true(rc < 0 || strcmp(resp.body.data, "ok") == 0);
    return rc;
}

static void assert_tls_error(const char *ca_file, const char *host)
{
    struct err err = ERR_INIT;

    assert_int_equal(call(ca_file, host, &err), -1);
    assert_string_equal(err.code, "http_tls");
    assert_int_equal(err.class, ERR_TRANSIENT);
}

static void test_named_ca(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(call(ca_path, "127.0.0.1", &err), 0);
}

static void test_unknown_ca(void **state)
{
    (void)state;
    assert_tls_error(NULL, "127.0.0.1");
}

static void test_other_host(void **state)
{
    (void)state;
    assert_tls_error(ca_path, "localhost");
}

static void test_no_ca_file(void **state)
{
    const struct http_client_config config = {.ca_file = "/nonexistent/ca.pem"};
    struct http_client *client = NULL;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(http_client_new(&config, &client, &err), -1);
    assert_int_equal(err.class, ERR_FATAL);
    assert_null(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_named_ca),
        cmocka_unit_test(test_unknown_ca),
        cmocka_unit_test(test_other_host),
        cmocka_unit_test(test_no_ca_file),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* SRCS: services/ingest-gateway/principal.c services/ingest-gateway/origin.c */
/* PKGS: libsodium */
/*
 * Who asks and from where: what roles and scopes allow, which address counts behind proxies, which
 * passwords are taken.
 */
#include "libcommon/password.h"
#include "services/ingest-gateway/origin.h"
#include "services/ingest-gateway/principal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_an_address_of_ipv6_is_its_net(void **state)
{
    static const char *const pairs[][2] = {
        {"192.0.2.7", "192.0.2.7"},
        {"::ffff:192.0.2.7", "192.0.2.7"},
        {"2001:db8:1:2::7", "2001:db8:1:2::"},
        {"2001:db8:1:2:ffff::1", "2001:db8:1:2::"},
        {"2001:db8::5", "2001:db8::"},
        {"2001:db8:0:0:1::", "2001:db8::"},
        {"::1", "::"},
        {"", ""},
        {"no address", ""},
    };
    char net[ORIGIN_ADDRESS_SIZE];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        origin_network(pairs[i][0], net);
        assert_string_equal(net, pairs[i][1]);
    }
}

static void test_a_role_cuts_scopes(void **state)
{
    (void)state;
    assert_int_equal(scopes_of("read,write,admin", ROLE_USER), SCOPE_READ | SCOPE_WRITE);
    assert_int_equal(scopes_of("admin", ROLE_OPERATOR), role_scopes(ROLE_OPERATOR));
    assert_int_equal(scopes_of("admin", ROLE_ADMIN), role_scopes(ROLE_ADMIN));
    assert_int_equal(scopes_of("operate", ROLE_ADMIN), role_scopes(ROLE_OPERATOR));
    assert_int_equal(scopes_of("read", ROLE_ADMIN), SCOPE_READ);
    assert_int_equal(scopes_of("read,write", ROLE_NONE), 0);
    assert_int_equal(scopes_of("reader,x,,", ROLE_ADMIN), 0);
    assert_int_equal(scopes_of(NULL, ROLE_ADMIN), 0);
    assert_int_equal(role_parse("root"), ROLE_NONE);
    assert_int_equal(role_parse(""), ROLE_NONE);
    assert_int_equal(role_parse(NULL), ROLE_NONE);
    for (enum role role = ROLE_USER; role <= ROLE_ADMIN; role++) {
        char text[40];
        assert_int_equal(role_parse(role_name(role)), role);
        scopes_text(role_scopes(role), text, sizeof(text));
        assert_int_equal(scopes_of(text, role), role_scopes(role));
    }
}

static const char *from(const char *trusted, const char *peer, const char *chain, const char *proto,
                        bool *ret_https)
{
    static char address[ORIGIN_ADDRESS_SIZE];
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    struct origin_rules rules;
    struct err err = ERR_INIT;
    bool is_v4 = inet_pton(AF_INET, peer, &v4.sin_addr) == 1;

    assert_true(is_v4 || inet_pton(AF_INET6, peer, &v6.sin6_addr) == 1);
    assert_int_equal(origin_rules_parse(trusted, &rules, &err), 0);
    origin_find(&rules, is_v4 ? (void *)&v4 : (void *)&v6, chain, proto, false, address, ret_https);
    return address;
}

static void test_only_trusted_proxies_are_believed(void **state)
{
    bool https = true;

    (void)state;
    assert_string_equal(from("", "198.51.100.7", "10.9.9.9", "https", &https), "198.51.100.7");
    assert_false(https);
    assert_string_equal(from("10.0.0.0/8", "10.1.2.3", "198.51.100.7", "https", &https),
                        "198.51.100.7");
    assert_true(https);
    /* The client wrote the first entry itself: what the outermost trusted proxy saw counts. */
    assert_string_equal(
        from("10.0.0.0/8", "10.1.2.3", "1.1.1.1, 198.51.100.7 , 10.4.4.4", NULL, &https),
        "198.51.100.7");
    assert_string_equal(from("10.0.0.0/8", "10.1.2.3", "198.51.100.7, nonsense", NULL, &https),
                        "10.1.2.3");
    assert_string_equal(from("10.0.0.0/8", "10.1.2.3", "", NULL, &https), "10.1.2.3");
    assert_string_equal(from("10.0.0.0/8", "11.1.2.3", "198.51.100.7", NULL, &https), "11.1.2.3");
    assert_string_equal(from("10.1.2.2/31", "10.1.2.3", "198.51.100.7", NULL, &https),
                        "198.51.100.7");
    assert_string_equal(from("10.1.2.2/31", "10.1.2.4", "198.51.100.7", NULL, &https), "10.1.2.4");
    assert_string_equal(from("2001:db8::/33", "2001:db8::1", "2001:db8:8000::5", NULL, &https),
                        "2001:db8:8000::5");
    /* A listener for both families sees IPv4 peers in IPv6 form. */
    assert_string_equal(from("10.0.0.0/8", "::ffff:10.1.2.3", "198.51.100.7", NULL, &https),
                        "198.51.100.7");
}

static void test_bad_nets_are_refused(void **state)
{
    static const char *const bad[] = {
        "10.0.0.0/33", "10.0.0.0/",   "10.0.0.0/-1", "proxy",
        "::/129",      "10.0.0.0/8 ", ",",           "10.0.0.1,,10.0.0.2"};
    struct origin_rules rules = {.n = 77};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err err = ERR_INIT;
        assert_int_equal(origin_rules_parse(bad[i], &rules, &err), -1);
        assert_string_equal(err.code, "config");
        assert_int_equal(rules.n, 77);
    }
}

static bool taken(const char *password)
{
    struct err err = ERR_INIT;
    int rc = password_check(password, 12, "somebody's name", &err);

    assert_true(rc == 0 || strcmp(err.code, "weak_password") == 0);
    return rc == 0;
}

static void test_policy(void **state)
{
    char text[PASSWORD_BYTES_MAX + 2];

    (void)state;
    assert_true(taken("twelve chars"));
    assert_false(taken("eleven char"));
    assert_true(taken("zw\xc3\xb6lf Zeichen")); /* 12 characters, 13 bytes */
    assert_false(taken("\xc3\xb6\xc3\xb6\xc3\xb6"));
    assert_false(taken("Somebody's Name"));
    assert_false(taken("abababababababab"));
    assert_false(taken("a line\nand another"));
    assert_false(taken("bad \xff bytes in it"));
    assert_false(taken("cut at the end \xc3"));
    memset(text, 'a', sizeof(text));
    memcpy(text, "bcd", 3);
    text[PASSWORD_BYTES_MAX + 1] = '\0';
    assert_false(taken(text));
    text[PASSWORD_BYTES_MAX] = '\0';
    assert_true(taken(text));
}

static void test_hashes(void **state)
{
    struct err err = ERR_INIT;
    char one[PASSWORD_HASH_SIZE];
    char two[PASSWORD_HASH_SIZE];
    bool right = false;
    bool stale = true;

    (void)state;
    assert_int_equal(password_hash("a good password", one, &err), 0);
    assert_int_equal(password_hash("a good password", two, &err), 0);
    assert_string_not_equal(one, two);
    assert_int_equal(password_verify(one, "a good password", &right, &stale, &err), 0);
    assert_true(right && !stale);
    assert_int_equal(password_verify(one, "another password", &right, NULL, &err), 0);
    assert_false(right);
    assert_int_equal(password_verify(NULL, "a good password", &right, &stale, &err), 0);
    assert_false(right || stale);
    assert_int_equal(password_verify("nonsense", "a good password", &right, NULL, &err), 0);
    assert_false(right);
}

static void *hash_one(void *arg)
{
    struct err err = ERR_INIT;
    char hash[PASSWORD_HASH_SIZE];
    bool *ok = arg;

    *ok = password_hash("a good password", hash, &err) == 0;
    assert_true(*ok || strcmp(err.code, "overloaded") == 0);
    return NULL;
}

/* Never more at once than memory was planned for: the others are told to come again. */
static void test_many_at_once(void **state)
{
    pthread_t threads[16];
    bool ok[16];
    size_t done = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, hash_one, &ok[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        pthread_join(threads[i], NULL);
        done += ok[i];
    }
    assert_in_range(done, 1, ARRAY_LEN(threads));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_address_of_ipv6_is_its_net),
        cmocka_unit_test(test_a_role_cuts_scopes),
        cmocka_unit_test(test_only_trusted_proxies_are_believed),
        cmocka_unit_test(test_bad_nets_are_refused),
        cmocka_unit_test(test_policy),
        cmocka_unit_test(test_hashes),
        cmocka_unit_test(test_many_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

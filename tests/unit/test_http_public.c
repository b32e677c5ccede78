/* SPDX-License-Identifier: Apache-2.0 */
/* PKGS: libcurl */
/*
 * Addresses that a webhook may be at: those out on the net, by no other name either.
 */
#include "libcommon/http.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static bool is_public(const char *text)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

    if (inet_pton(AF_INET, text, &in.sin_addr) == 1) {
        return http_address_public((const struct sockaddr *)&in);
    }
    assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
    return http_address_public((const struct sockaddr *)&in6);
}

static void test_inside(void **state)
{
    static const char *const inside[] = {
        "127.0.0.1",   "127.255.255.254",  "10.0.0.1",   "172.16.0.1",      "172.31.255.255",
        "192.168.1.1", "169.254.169.254",  "0.0.0.0",    "100.64.0.1",      "192.0.0.1",
        "198.18.0.1",  "224.0.0.1",        "240.0.0.1",  "255.255.255.255", "::1",
        "::",          "::ffff:127.0.0.1", "fe80::1",    "fc00::1",         "fd12:3456::1",
        "ff02::1",     "64:ff9b::a00:1",   "::10.0.0.1", "2002:7f00:1::1"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(inside); i++) {
        if (is_public(inside[i])) {
            fail_msg("%s passes", inside[i]);
        }
    }
}

static void test_outside(void **state)
{
    static const char *const outside[] = {
        "8.8.8.8",     "1.1.1.1",        "172.15.255.255",       "172.32.0.1", "192.167.0.1",
        "193.0.0.1",   "100.128.0.1",    "198.20.0.1",           "9.255.0.1",  "11.0.0.1",
        "223.255.0.1", "::ffff:8.8.8.8", "2001:4860:4860::8888", "2a00::1"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(outside); i++) {
        if (!is_public(outside[i])) {
            fail_msg("%s is refused", outside[i]);
        }
    }
}

static void test_a_call_inside_is_refused(void **state)
{
    CLEANUP(http_client_cleanup) struct http_client *client = NULL;
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(
        http_client_new(&(struct http_client_config){.public_only = true}, &client, &err), 0);
    assert_int_equal(
        http_call(client, &(struct http_request){.url = "http://localhost:9/"}, &resp, &err), -1);
    assert_string_equal(err.code, "http_connect");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inside),
        cmocka_unit_test(test_outside),
        cmocka_unit_test(test_a_call_inside_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

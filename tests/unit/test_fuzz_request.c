/* SPDX-License-Identifier: Apache-2.0 */
/* PKGS: jansson */
/* SRCS: tests/fuzz/fuzz_request.c services/ingest-gateway/uri.c services/ingest-gateway/cursor.c */
/* SRCS: services/ingest-gateway/cond.c services/ingest-gateway/multipart_header.c */
#include "tests/unit/fuzz_seeds.h"

static void test_request(void **state UNUSED)
{
    run_seeds("tests/fuzz/seeds/request");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_request)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* SRCS: tests/fuzz/fuzz_multipart.c services/ingest-gateway/multipart.c */
/* SRCS: services/ingest-gateway/multipart_header.c */
#include "tests/unit/fuzz_seeds.h"

static void test_multipart(void **state UNUSED)
{
    run_seeds("tests/fuzz/seeds/multipart");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_multipart)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* SRCS: tests/fuzz/fuzz_multipart.c services/ingest-gateway/multipart.c */
/* SRCS: services/ingest-gateway/multipart_header.c */
/*
 * The fuzz targets on their seeds, once, so that what was found stays found.
 */
#include "libcommon/base.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void test_multipart(void **state UNUSED)
{
    static const char folder[] = "tests/fuzz/seeds/multipart";
    DIR *dir = opendir(folder);
    int n = 0;

    if (!dir) {
        skip(); /* not run from the repository's root */
        return;
    }
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        char path[512];
        static uint8_t data[65536];
        snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
        FILE *file = e->d_name[0] == '.' ? NULL : fopen(path, "rb");
        if (file) {
            size_t len = fread(data, 1, sizeof(data), file);
            fclose(file);
            assert_int_equal(LLVMFuzzerTestOneInput(data, len), 0);
            n++;
        }
    }
    closedir(dir);
    assert_true(n > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_multipart)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

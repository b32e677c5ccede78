/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fuzz target on its seeds, once, so that what was found stays found.
 */
#pragma once

#include "libcommon/base.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run_seeds(const char *folder)
{
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

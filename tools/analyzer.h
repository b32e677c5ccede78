/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Included before every file by clang-tidy alone: tells its analyzer, which sees one file at a
 * time, that the functions reporting an error return -1. Without it, it walks paths on which they
 * do not.
 */
#pragma once

#include "libcommon/err.h"

UNUSED
static inline int analyzer_minus_one(int unused)
{
    (void)unused;
    return -1;
}

#define err_set(...) analyzer_minus_one(err_set(__VA_ARGS__))
#define err_wrap(...) analyzer_minus_one(err_wrap(__VA_ARGS__))
#define err_from_errno(...) analyzer_minus_one(err_from_errno(__VA_ARGS__))
#define err_nomem(...) analyzer_minus_one(err_nomem(__VA_ARGS__))

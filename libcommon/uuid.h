/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UUIDv7 (RFC 9562): ids made by the process that creates the row, ordered by time.
 * Invariant: two calls in one process never give the same id, and later calls sort later.
 */
#pragma once

#include "libcommon/base.h"

#define UUID_TEXT 37 /* 36 lower-case characters and the NUL */

void uuid_v7(char ret_text[UUID_TEXT]);
/* True for 36 characters in 8-4-4-4-12 form, hexadecimal, any case. */
bool uuid_valid(const char *text);

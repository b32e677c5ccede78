/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mail header values as text.
 * Invariant: any bytes give one line of UTF-8.
 */
#pragma once

#include "services/text-extractor/format.h"

/* Appends the decoded value to text. */
int text_header_decode(const char *s, struct buf *text, struct err *err) WARN_UNUSED;

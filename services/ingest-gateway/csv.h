/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Comma-separated values (RFC 4180) that are safe to open in a spreadsheet.
 * Invariant: text from documents never becomes a formula: a cell that begins like one gets an
 * apostrophe in front. Numbers are written as numbers.
 */
#pragma once

#include "libcommon/buf.h"

#include <jansson.h>

/* Appends one cell; text NULL is an empty one. */
int csv_text(struct buf *buf, const char *text, struct err *err) WARN_UNUSED;
/* A JSON value as a cell: objects and arrays as compact JSON text. */
int csv_json(struct buf *buf, const json_t *value, struct err *err) WARN_UNUSED;

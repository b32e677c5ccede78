/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header block of one multipart part, and the parameters of header values.
 * Invariant: works in the caller's bytes, rewriting them in place; never longer than it was given.
 * Refuses folded lines, bare CR or LF, NUL, a parameter named twice, and parts without a name.
 */
#pragma once

#include "services/ingest-gateway/multipart.h"

/* text: len bytes of CRLF-ended header lines and the empty line, followed by a NUL; changed in
 * place, *ret_part points into it. ERR_PERMANENT "malformed_multipart". */
int multipart_header_parse(char *text, size_t len, struct multipart_part *ret_part,
                           struct err *err) WARN_UNUSED;

/* Reads the next `; name=value` at *at and moves *at behind it; 1 found, 0 end, -1 malformed. name
 * gets NUL-terminated in place, a quoted value is unquoted in place. */
int header_param(char **at, char **ret_name, char **ret_value, size_t *ret_len);

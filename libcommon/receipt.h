/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The digest of a batch's receipt, as the gateway writes it and docfleetctl checks it.
 */
#pragma once

#include "libcommon/sha256.h"

#include <jansson.h>

/* SHA-256 over each line (an object) as compact JSON with sorted keys, ended by a line feed. */
int receipt_digest(const json_t *lines, char ret_hex[SHA256_HEX_SIZE], struct err *err) WARN_UNUSED;

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One picture to several small ones: it is decoded once, at the largest size, and the smaller
 * sizes are made from that.
 * Invariant: no thumbnail is larger than the picture; a size the picture does not reach still
 * gets its frame, with the picture's own width and height.
 */
#pragma once

#include "libcommon/picture/picture.h"
#include "libcommon/zygote.h"

enum { THUMB_SIZES_MAX = 8, THUMB_SIDE_MIN = 16, THUMB_SIDE_MAX = 2048 };

/* The sizes parameter, largest first, without doubles: an array of 1 to THUMB_SIZES_MAX integers
 * from THUMB_SIDE_MIN to THUMB_SIDE_MAX; absent: 64, 256 and 512. Else ERR_PERMANENT
 * "invalid_json". */
int thumb_sizes(const json_t *params, int ret_sizes[THUMB_SIZES_MAX], size_t *ret_n,
                struct err *err) WARN_UNUSED;

/* The operation "thumb". */
int thumb_run(struct jail_unit *unit, struct err *err);

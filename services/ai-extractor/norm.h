/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text as it is compared, not as it is shown: compatibility forms and case folded, white space and
 * hyphenated line ends joined, quotes and dashes made one, invisible characters dropped.
 * Invariant: every folded character knows the code point of the original it came from.
 */
#pragma once

#include "libcommon/doctext.h"

struct norm {
    uint32_t *cp;  /* folded code points; ' ' is the only white space */
    uint32_t *map; /* map[i]: code point of the original; map[n] = its length */
    size_t n;
};

/* Folds len bytes of UTF-8. */
int norm_new(const char *text, size_t len, struct norm *ret, struct err *err) WARN_UNUSED;
void norm_done(struct norm *norm);

/* Folds into short ASCII-leaning UTF-8 for keys and labels: accents dropped, letters and digits
 * kept, everything else a single space; trimmed. Cut at size - 1. Returns the length. */
size_t norm_key(const char *text, size_t len, char *ret, size_t size);

/* First position >= from of needle in hay with no letter or digit of the same word touching it,
 * or SIZE_MAX. Spaces at the needle's ends are ignored. */
size_t norm_find(const struct norm *hay, size_t from, size_t to, const struct norm *needle);

/* Best window of hay[from, to) within max_distance edits of needle (whole words at both ends);
 * writes its bounds. Returns the distance or -1. */
int norm_find_fuzzy(const struct norm *hay, size_t from, size_t to, const struct norm *needle,
                    size_t max_distance, size_t *ret_start, size_t *ret_end);

/* Edit distance, stopping above max (returns max + 1). */
size_t edit_distance(const char *a, size_t a_len, const char *b, size_t b_len, size_t max);

bool norm_is_alnum(uint32_t cp);

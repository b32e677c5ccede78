/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The little of protobuf's wire format that traces need: a writer into given memory, and finding a
 * field in a message.
 * Invariant: the writer never passes its end: it notes that it is full and writes no more. What is
 * read may be any bytes.
 */
#pragma once

#include "libcommon/base.h"

#define PB_HEAD_MAX 16U /* bytes of a field's tag and length */

struct pb {
    unsigned char *at;
    unsigned char *end;
    bool full;
};

void pb_varint(struct pb *pb, unsigned field, uint64_t value);
void pb_fixed64(struct pb *pb, unsigned field, uint64_t value);
void pb_bytes(struct pb *pb, unsigned field, const void *data, size_t len);
void pb_string(struct pb *pb, unsigned field, const char *text);
/* A message inside, at most 16,383 bytes long: what is written until pb_end with begin's answer. */
size_t pb_begin(struct pb *pb, unsigned field);
void pb_end(struct pb *pb, size_t begun);
/* Tag and length of a message whose bytes come from elsewhere; gives their size. */
size_t pb_head(unsigned char ret_head[PB_HEAD_MAX], unsigned field, size_t len);

struct pb_view {
    const unsigned char *data;
    size_t len;
};

/* The first field of that number and kind; false when there is none, or the message is broken
 * before it. */
bool pb_find_bytes(const struct pb_view *message, unsigned field, struct pb_view *ret);
bool pb_find_varint(const struct pb_view *message, unsigned field, uint64_t *ret);

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * https://protobuf.dev/programming-guides/encoding/. A message's length stands before it and is not
 * known yet: two bytes are kept free for it, of which the first says that the second counts.
 */
#include "libcommon/protobuf.h"

#include <string.h>

enum wire { WIRE_VARINT = 0, WIRE_I64 = 1, WIRE_LEN = 2, WIRE_I32 = 5 };

#define LEN_BYTES 2U
#define LEN_MAX 16383U

static void put(struct pb *pb, const void *data, size_t len)
{
    if (pb->full || (size_t)(pb->end - pb->at) < len) {
        pb->full = true;
        return;
    }
    memcpy(pb->at, data, len);
    pb->at += len;
}

static size_t varint(unsigned char *ret, uint64_t value)
{
    size_t n = 0;

    do {
        ret[n++] = (unsigned char)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
    } while (value > 0);
    return n;
}

static void put_varint(struct pb *pb, uint64_t value)
{
    unsigned char text[10];

    put(pb, text, varint(text, value));
}

static void put_tag(struct pb *pb, unsigned field, enum wire wire)
{
    put_varint(pb, (uint64_t)field << 3 | (unsigned)wire);
}

void pb_varint(struct pb *pb, unsigned field, uint64_t value)
{
    put_tag(pb, field, WIRE_VARINT);
    put_varint(pb, value);
}

void pb_fixed64(struct pb *pb, unsigned field, uint64_t value)
{
    unsigned char text[8];

    for (size_t i = 0; i < sizeof(text); i++) {
        text[i] = (unsigned char)(value >> (8 * i));
    }
    put_tag(pb, field, WIRE_I64);
    put(pb, text, sizeof(text));
}

void pb_bytes(struct pb *pb, unsigned field, const void *data, size_t len)
{
    put_tag(pb, field, WIRE_LEN);
    put_varint(pb, len);
    put(pb, data, len);
}

void pb_string(struct pb *pb, unsigned field, const char *text)
{
    pb_bytes(pb, field, text, strlen(text));
}

size_t pb_begin(struct pb *pb, unsigned field)
{
    static const unsigned char room[LEN_BYTES];

    put_tag(pb, field, WIRE_LEN);
    put(pb, room, sizeof(room));
    return (size_t)(pb->end - pb->at);
}

void pb_end(struct pb *pb, size_t begun)
{
    const size_t len = begun - (size_t)(pb->end - pb->at);

    if (pb->full || len > LEN_MAX) {
        pb->full = true;
        return;
    }
    unsigned char *head = pb->at - len - LEN_BYTES;
    head[0] = (unsigned char)((len & 0x7f) | 0x80);
    head[1] = (unsigned char)(len >> 7);
}

size_t pb_head(unsigned char ret_head[PB_HEAD_MAX], unsigned field, size_t len)
{
    const size_t n = varint(ret_head, (uint64_t)field << 3 | WIRE_LEN);

    return n + varint(ret_head + n, len);
}

/* Reading ---------------------------------------------------------------------------------------*/

static bool take_varint(struct pb_view *view, uint64_t *ret)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < 10 && i < view->len; i++) {
        value |= (uint64_t)(view->data[i] & 0x7f) << (7 * i);
        if (!(view->data[i] & 0x80)) {
            view->data += i + 1;
            view->len -= i + 1;
            *ret = value;
            return true;
        }
    }
    return false;
}

/* The next field: its number, kind, and value or bytes. */
static bool take_field(struct pb_view *view, uint64_t *ret_tag, uint64_t *ret_value,
                       struct pb_view *ret_bytes)
{
    uint64_t len = 0;

    if (!take_varint(view, ret_tag)) {
        return false;
    }
    switch (*ret_tag & 7) {
    case WIRE_VARINT:
        return take_varint(view, ret_value);
    case WIRE_I64:
        len = 8;
        break;
    case WIRE_I32:
        len = 4;
        break;
    case WIRE_LEN:
        if (!take_varint(view, &len)) {
            return false;
        }
        break;
    default:
        return false;
    }
    if (len > view->len) {
        return false;
    }
    *ret_bytes = (struct pb_view){view->data, (size_t)len};
    view->data += len;
    view->len -= (size_t)len;
    return true;
}

bool pb_find_bytes(const struct pb_view *message, unsigned field, struct pb_view *ret)
{
    struct pb_view rest = *message, bytes = {NULL, 0};
    uint64_t tag = 0, value = 0;

    while (rest.len > 0 && take_field(&rest, &tag, &value, &bytes)) {
        if (tag == ((uint64_t)field << 3 | WIRE_LEN)) {
            *ret = bytes;
            return true;
        }
    }
    return false;
}

bool pb_find_varint(const struct pb_view *message, unsigned field, uint64_t *ret)
{
    struct pb_view rest = *message, bytes = {NULL, 0};
    uint64_t tag = 0, value = 0;

    while (rest.len > 0 && take_field(&rest, &tag, &value, &bytes)) {
        if (tag == ((uint64_t)field << 3 | WIRE_VARINT)) {
            *ret = value;
            return true;
        }
    }
    return false;
}

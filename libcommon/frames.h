/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container in which a jailed child hands its results to the service: a sequence of frames,
 * each a small JSON header and a payload of bytes.
 * Invariant: the reader trusts nothing; every length is checked against what is really there.
 * It refuses streams without a final "end" or "error" frame.
 *
 * Wire: magic "DFF1" (4 bytes), header length u32 LE (<= FRAME_META_MAX), payload length u64 LE,
 * header (UTF-8 JSON object with a string member "type"), payload.
 *
 * Frame types (members beside "type"):
 *   page   {page, width, height, engine, needsOcr?, confidence?}  payload: UTF-8 text of the page.
 *          page counts from 1; width and height are in points (0: the document has no geometry);
 *          engine: "native" or "tesseract"; confidence 0..1.
 *   words  {page}  payload: one JSON object, one line, no line feed inside or after it:
 *          {"page":1,"width":612,"height":792,"words":[[x0,y0,x1,y1,start,end,confidence],...]}
 *          boxes are fractions 0..1 of the page with the origin top left; start and end count
 *          Unicode code points of the page's text; confidence 0..1. Follows its page frame.
 *   image  {page, width, height, size?}  payload: WebP. size: 64, 256, 512 for thumbnails.
 *   part   {name, mime, size, path?}  a member of an archive or mail, listed, no payload.
 *   pdf    {}  payload: a PDF converted from an office file.
 *   error  {code, detail, class}  ends the stream: class permanent, unknown or transient.
 *   end    {pages?, ...}  ends the stream: the unit is complete.
 */
#pragma once

#include "libcommon/err.h"

#include <jansson.h>

#define FRAME_META_MAX (64U * 1024U)

/* Writing, in the child. */
struct frame_writer {
    int fd;
    uint64_t written; /* bytes so far */
    bool ended;       /* an end or error frame was written: nothing may follow */
};

void frame_writer_init(struct frame_writer *out, int fd);
/* Writes one frame; steals meta's reference (even on failure). meta gets "type". */
int frame_write(struct frame_writer *out, const char *type, json_t *meta, const void *payload,
                size_t len, struct err *err) WARN_UNUSED;
/* Ends the stream with an error frame made of *why. */
int frame_write_error(struct frame_writer *out, const struct err *why, struct err *err) WARN_UNUSED;

/* Reading, in the service. */
struct frames; /* opaque; owns a private copy or sealed mapping of the stream */

struct frame {
    const char *type;    /* borrowed from meta */
    json_t *meta;        /* borrowed, valid until the next call */
    const char *payload; /* borrowed, valid until frames_free; not NUL-terminated */
    size_t len;
};

/* Takes the whole stream from fd (a memfd, from offset 0, at most max bytes); keeps no descriptor.
 */
int frames_open(int fd, uint64_t max, struct frames **ret_frames, struct err *err) WARN_UNUSED;
void frames_free(struct frames *frames);
/* 1: *ret is the next frame; 0: a proper end was reached (its frame was given before);
 * -1: broken stream (ERR_UNKNOWN "child_crashed"). An error frame from the child is returned as -1
 * with the child's class, code and detail in *err (unknown codes are kept as text, cut to size). */
int frames_next(struct frames *frames, struct frame *ret, struct err *err) WARN_UNUSED;

DEFINE_CLEANUP(struct frames *, frames_cleanup, frames_free)

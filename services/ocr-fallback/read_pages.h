/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the pages of one unit: tesseract first, then Textract for what it could not read, as the
 * settings say; the better of two readings stays.
 * Invariant: a page ends either read, by a named engine, or with the reason why nobody could; one
 * page's trouble is never another's.
 */
#pragma once

#include "libcommon/filetype.h"
#include "services/ocr-fallback/textract.h"

#define UNIT_PAGES 10U

struct page_read {
    int page;
    const char *engine;   /* tesseract, textract; NULL: not read */
    double confidence;    /* < 0: none, as there are no words */
    bool blank;           /* there is nothing on it to read */
    double width, height; /* points */
    int64_t native_chars; /* of the text the PDF itself has for the page */
    char *text;           /* malloc'd, may be NULL when empty */
    size_t len;
    char *words; /* the words line, malloc'd, or NULL */
    size_t words_len;
    struct err why; /* of a page that is not read */
};

struct unit_read {
    struct page_read *pages; /* owned */
    size_t n;
    enum file_kind kind; /* PDF or a picture */
    int fd;              /* the file; -1: not fetched; owned */
};

void unit_read_done(struct unit_read *unit);

/* Runs a jailed operation of this stage over the given pages ("pages", "kind" and the languages
 * are added to nothing else). */
int pages_jail(struct job *job, const struct unit_read *unit, const char *op, const int *pages,
               size_t n, struct frames **ret_frames, struct err *err) WARN_UNUSED;

/* 0: every page has an engine or a reason; STAGE_WAIT: a job runs; -1: the unit cannot be worked on
 * now (transient), or the file is of no use (permanent). textract may be NULL. */
int read_pages(struct job *job, struct textract *textract, struct unit_read *unit,
               struct err *err) WARN_UNUSED;

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of pages between stages: text and ocr write it through a page_sink (one object with the
 * pages' text, one with their words, a row per page that says where), ai and the gateway read it
 * back as one document.
 * Invariant: a page's row points at exactly its own bytes; pages are separated by a form feed that
 * belongs to none of them.
 */
#pragma once

#include "libcommon/doctext.h"
#include "libcommon/stage.h"

#define PAGES_TEXT_MAX (64U * 1024U * 1024U)
#define PAGES_WORDS_MAX (256U * 1024U * 1024U)

/* Writing, in a unit ----------------------------------------------------------------------------*/

struct page_sink; /* opaque */

int page_sink_new(struct page_sink **ret_sink, struct err *err) WARN_UNUSED;
void page_sink_free(struct page_sink *sink);
DEFINE_CLEANUP(struct page_sink *, page_sink_cleanup, page_sink_free)

/* Adds a page. engine: native, tesseract, textract, none. confidence: 0 to 1, < 0: none. width,
 * height: points; a size that no page can have becomes 0, which is none. */
int page_sink_page(struct page_sink *sink, int page, const char *engine, double confidence,
                   double width, double height, bool needs_ocr, const char *text, size_t len,
                   struct err *err) WARN_UNUSED;
/* The words line (frames.h) of the page added last. */
int page_sink_words(struct page_sink *sink, int page, const char *line, size_t len,
                    struct err *err) WARN_UNUSED;
/* Takes a `page` or `words` frame; *ret_taken false for other types. */
int page_sink_frame(struct page_sink *sink, const struct frame *frame, bool *ret_taken,
                    struct err *err) WARN_UNUSED;
/* Stores the objects and adds artifacts and page rows to job->out. */
int page_sink_store(struct page_sink *sink, struct job *job, struct err *err) WARN_UNUSED;

size_t page_sink_count(const struct page_sink *sink);
size_t page_sink_need_ocr(const struct page_sink *sink);
int64_t page_sink_chars(const struct page_sink *sink);

/* Reading ---------------------------------------------------------------------------------------*/

/* Loads the pages first..last (last 0: to the end) of a file's version as generation sees them: of
 * each page the newest row with generation <= that. Only their part of an object is read.
 * ERR_TRANSIENT when the store or Postgres is away. */
int pages_load(struct db *db, struct store *store, const char *file_id, int version, int generation,
               int first, int last, struct doctext **ret_doc, struct err *err) WARN_UNUSED;

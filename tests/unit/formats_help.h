/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the tests of the text parsers: run one on bytes made here and look at the frames it wrote.
 * Invariant: input lies in a heap block of its exact size, so that sanitizers see a step beyond.
 */
#pragma once

#include "services/text-extractor/format.h"

#define EXTRACT_PAGES 16

struct extracted {
    int rc;
    struct err err;
    char *text;  /* pages joined by form feeds */
    char *parts; /* "name|mime|size|path\n" per member */
    char *pages[EXTRACT_PAGES];
    char *words[EXTRACT_PAGES]; /* words line of a page or NULL */
    bool needs_ocr[EXTRACT_PAGES];
    unsigned n_pages;
    char method[16];
    char kind[16];
};

struct extracted *extract(const void *data, size_t len, const char *name, unsigned max_pages);
void extracted_free(struct extracted *got);
DEFINE_CLEANUP(struct extracted *, extracted_cleanup, extracted_free)

/* Asserts that the text is exactly / contains / does not contain this. */
void assert_text(const void *data, size_t len, const char *name, const char *text);
void assert_has(const struct extracted *got, const char *text);
void assert_lacks(const struct extracted *got, const char *text);
void assert_refused(const void *data, size_t len, const char *name, const char *code);

/* The text in an old encoding; 0 if there is no converter or it does not fit. */
size_t encode_as(const char *charset, const char *text, char *ret_bytes, size_t size);

/* A zip of stored members: name, contents, name, contents, ..., NULL. Caller frees. */
char *make_zip(const char *const *members, size_t *ret_len);

#define BYTES(s) s, sizeof(s) - 1

int formats_pdf_tests(void);
int formats_plain_tests(void);
int formats_markup_tests(void);
int formats_mail_tests(void);
int formats_office_tests(void);

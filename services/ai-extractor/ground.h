/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds a proposed value in the document, or says that it is not there.
 * Invariant: what comes back is a span of the stored text, and its value is read from that span.
 * The ladder: the named span, the quote on the named line, page, document (exact, then a few wrong
 * letters), then the value alone; numbers and dates are compared as parsed. A row's value may also
 * stand at the top of the page after its quote.
 */
#pragma once

#include "services/ai-extractor/backend.h"
#include "services/ai-extractor/norm.h"

#define GRADE_EXACT 1.0
#define GRADE_PARSED 0.95
#define GRADE_FUZZY 0.7
#define GRADE_INFERRED 0.6

struct ground_page {
    bool ready;
    struct norm text; /* the page's text */
    struct norm flow; /* the same in printed order; map still names code points of the text */
};

struct grounder {
    const struct doctext *doc;
    const struct layout *layout;
    struct locale_hint hint;
    struct ground_page *pages;
};

struct grounded {
    const struct lpage *page;
    uint32_t start, end;
    struct value value;
    char *text; /* strings: the source's own text, white space folded; owned */
    double grade;
    double quote; /* 1, or less when the quote was not found but the value was */
    double ocr;   /* mean confidence of the words of the span */
    size_t hits;  /* places where the value stands as well */
};

int grounder_init(struct grounder *grounder, const struct doctext *doc, const struct layout *layout,
                  struct locale_hint hint, struct err *err) WARN_UNUSED;
void grounder_done(struct grounder *grounder);

/* 1 found, 0 not there, -1 error. *ret owns text (grounded_done). */
int ground_candidate(struct grounder *grounder, const struct column *column,
                     const struct candidate *candidate, struct grounded *ret,
                     struct err *err) WARN_UNUSED;
void grounded_done(struct grounded *grounded);

/* Mean confidence of the words of a span; 1 without words. */
double ground_ocr(const struct lpage *page, uint32_t start, uint32_t end);
/* The span's text with white space folded, malloc'd; NULL without memory. */
char *ground_text(const struct doc_page *page, uint32_t start, uint32_t end);

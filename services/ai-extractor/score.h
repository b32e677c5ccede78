/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a cell's confidence is made of, and checks that columns make of each other.
 * Invariant: confidence is the product of its factors, which stay in the cell; it is a score, not
 * a probability.
 */
#pragma once

#include "services/ai-extractor/ground.h"

struct factors {
    double match;      /* grade of the match in the text */
    double quote;      /* how the backend's quote was found */
    double ocr;        /* mean word confidence of the span */
    double evidence;   /* the backend's own: label match, distance */
    double uniqueness; /* 1, less with rivals */
    double checks;     /* arithmetic and checksums */
};

double score(const struct factors *factors);
json_t *factors_to_json(const struct factors *factors);

/* One filled cell as the checks see it. */
struct checked {
    const struct column *column;
    const struct value *value; /* typed, or NULL when the cell is empty */
    const char *text;          /* strings */
    double checks;             /* out: 1, or what a failed check leaves */
    const char *reason;        /* out: static, of the failed check */
};

/* Sums, date order, IBAN and VAT numbers over the scalar cells, by what the columns mean. */
void cross_check(struct checked *cells, size_t n);

/* Checksums: true when well-formed (blanks allowed). */
bool iban_valid(const char *text);
bool vat_id_shaped(const char *text);

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cross-checks know columns by meaning (their name in the synonym table), never by position.
 */
#include "services/ai-extractor/score.h"

#include "services/ai-extractor/rules.h"

#include <math.h>
#include <string.h>

#define FAILED 0.6

double score(const struct factors *factors)
{
    const double product = factors->match * factors->quote * factors->ocr * factors->evidence *
                           factors->uniqueness * factors->checks;

    return round(fmin(fmax(product, 0), 1) * 1000) / 1000;
}

json_t *factors_to_json(const struct factors *factors)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "match", factors->match, "quote",
                     factors->quote, "ocr", round(factors->ocr * 1000) / 1000, "evidence",
                     round(factors->evidence * 1000) / 1000, "uniqueness", factors->uniqueness,
                     "checks", factors->checks);
}

bool iban_valid(const char *text)
{
    char clean[40];
    size_t n = 0;
    unsigned rest = 0;

    for (; *text; text++) {
        const char c = *text;
        const bool digit = c >= '0' && c <= '9';
        if (digit || (c >= 'A' && c <= 'Z')) {
            if (n == sizeof(clean)) {
                return false;
            }
            clean[n++] = c;
        } else if (c != ' ') {
            return false;
        }
    }
    if (n < 15 || n > 34 || clean[0] < 'A' || clean[1] < 'A' || clean[2] > '9' || clean[3] > '9') {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const char c = clean[(i + 4) % n];
        const unsigned v = c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'A') + 10;
        rest = (rest * (v > 9 ? 100 : 10) + v) % 97;
    }
    return rest == 1;
}

bool vat_id_shaped(const char *text)
{
    static const char countries[] =
        "AT BE BG CH CY CZ DE DK EE EL ES EU FI FR GB HR HU IE IT LT LU "
        "LV MT NL NO PL PT RO SE SI SK XI ";
    size_t digits = 0;
    size_t n = 0;

    for (const char *code = countries; *code; code += 3) {
        if (memcmp(code, text, 2) == 0) {
            n = 2;
            break;
        }
    }
    if (n == 0) {
        return false;
    }
    for (const char *c = text + 2; *c; c++) {
        const bool digit = *c >= '0' && *c <= '9';
        if (!digit && !(*c >= 'A' && *c <= 'Z') && *c != ' ' && *c != '.' && *c != '-') {
            return false;
        }
        digits += digit;
        n += *c != ' ' && *c != '.' && *c != '-';
    }
    return digits >= 7 && n >= 9 && n <= 15;
}

static struct checked *by_meaning(struct checked *cells, size_t n, enum concept meaning)
{
    struct checked *found = NULL;

    for (size_t i = 0; i < n; i++) {
        if (concept_of(cells[i].column->name) == meaning && (cells[i].value || cells[i].text)) {
            if (found) {
                return NULL; /* two columns of one meaning: nothing to say */
            }
            found = &cells[i];
        }
    }
    return found;
}

static void fail(struct checked *cell, const char *reason)
{
    cell->checks = FAILED;
    cell->reason = reason;
}

static void check_sum(struct checked *cells, size_t n)
{
    struct checked *net = by_meaning(cells, n, CONCEPT_NET_TOTAL);
    struct checked *tax = by_meaning(cells, n, CONCEPT_TAX_TOTAL);
    struct checked *total = by_meaning(cells, n, CONCEPT_TOTAL);
    int64_t a;
    int64_t b;
    int64_t c;

    if (!net || !tax || !total || !net->value || !tax->value || !total->value ||
        !decimal_cents(net->value->text, &a) || !decimal_cents(tax->value->text, &b) ||
        !decimal_cents(total->value->text, &c)) {
        return;
    }
    const int64_t off = a + b - c;
    if (off > 2 || off < -2) {
        fail(net, "sum_mismatch");
        fail(tax, "sum_mismatch");
        fail(total, "sum_mismatch");
    }
}

static void check_dates(struct checked *cells, size_t n)
{
    struct checked *issued = by_meaning(cells, n, CONCEPT_ISSUE_DATE);
    struct checked *due = by_meaning(cells, n, CONCEPT_DUE_DATE);

    if (issued && due && issued->value && due->value &&
        strncmp(due->value->text, issued->value->text, 10) < 0) {
        fail(due, "due_before_issue");
    }
}

void cross_check(struct checked *cells, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        cells[i].checks = 1;
        if (!cells[i].text) {
            continue;
        }
        const enum concept meaning = concept_of(cells[i].column->name);
        if (meaning == CONCEPT_IBAN && !iban_valid(cells[i].text)) {
            fail(&cells[i], "iban_checksum");
        }
        if (meaning == CONCEPT_VAT_ID && !vat_id_shaped(cells[i].text)) {
            cells[i].checks = 0.9;
        }
    }
    check_sum(cells, n);
    check_dates(cells, n);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values that show what they are: bank account numbers (by checksum), VAT numbers, e-mail
 * addresses, currencies, and the only date of a document.
 */
#include "services/ai-extractor/norm.h"
#include "services/ai-extractor/rules.h"
#include "services/ai-extractor/score.h"

#include <stdio.h>
#include <string.h>

/* The words [first, last] joined without blanks, or "" when too long or not one run. */
static void join_words(const struct lpage *page, uint32_t first, uint32_t last, char *ret,
                       size_t size)
{
    size_t n = 0;

    ret[0] = '\0';
    for (uint32_t w = first; w <= last; w++) {
        size_t len;
        const char *text = word_text(page, w, &len);
        if (n + len + 1 > size) {
            ret[0] = '\0';
            return;
        }
        memcpy(ret + n, text, len);
        n += len;
    }
    while (n && strchr(".,;)", ret[n - 1])) {
        n--;
    }
    ret[n] = '\0';
}

static uint32_t cell_last(const struct lpage *page, uint32_t word)
{
    const struct lcell *cell = &page->cells[page->words[word].cell];

    return run_end(page, word, cell->first + cell->n - 1);
}

/* How a word begins: two capitals. */
static bool country_start(const struct lpage *page, uint32_t word)
{
    size_t len;
    const char *text = word_text(page, word, &len);

    return len >= 2 && text[0] >= 'A' && text[0] <= 'Z' && text[1] >= 'A' && text[1] <= 'Z';
}

static int find_iban(const struct rules_target *target, const struct rules_page *rules,
                     struct err *err)
{
    const struct lpage *page = rules->page;

    for (uint32_t w = 0; w < page->n_words; w++) {
        if (!country_start(page, w)) {
            continue;
        }
        const uint32_t last = cell_last(page, w);
        for (uint32_t end = w + 9 < last ? w + 9 : last;; end--) { /* the longest that checks */
            char joined[64];
            join_words(page, w, end, joined, sizeof(joined));
            if (iban_valid(joined)) {
                const struct place place = {rules, w, end, 0.98F, true, true};
                if (place_words(target, &place, w, end, place.prior, err) < 0) {
                    return -1;
                }
                break;
            }
            if (end == w) {
                break;
            }
        }
    }
    return 0;
}

/* Whether the label before the word (in its cell or the one to the left) is of this meaning; -1
 * when another label stands there. */
static int label_before(const struct rules_page *rules, uint32_t word, enum concept meaning)
{
    const struct lpage *page = rules->page;
    const struct lcell *cell = &page->cells[page->words[word].cell];
    const uint32_t line = cell->line;
    int found = 0;

    for (size_t i = rules->line_hits[line]; i < rules->line_hits[line + 1]; i++) {
        const uint32_t last = hit_last_word(rules, &rules->hits[i]);
        const uint32_t hit_cell = page->words[last].cell;
        if (last >= word || page->words[word].cell - hit_cell > 2) {
            continue;
        }
        const enum concept said = rules->hits[i].label->meaning;
        found = said == meaning                                            ? 1
                : said == CONCEPT_NONE && rules->hits[i].label->column < 0 ? -1
                                                                           : found;
    }
    return found;
}

static int find_vat(const struct rules_target *target, const struct rules_page *rules,
                    struct err *err)
{
    const struct lpage *page = rules->page;

    for (uint32_t w = 0; w < page->n_words; w++) {
        char joined[40];
        if (!country_start(page, w) || rules->buyer_cell[page->words[w].cell]) {
            continue;
        }
        const uint32_t last = cell_last(page, w);
        for (uint32_t end = w + 3 < last ? w + 3 : last;; end--) {
            join_words(page, w, end, joined, sizeof(joined));
            const int label = label_before(rules, w, CONCEPT_VAT_ID);
            if (strlen(joined) <= 14 && vat_id_shaped(joined) && !iban_valid(joined) && label > 0) {
                const struct place place = {rules, w, end, 0.95F, true, true};
                if (place_words(target, &place, w, end, place.prior, err) < 0) {
                    return -1;
                }
                break;
            }
            if (end == w) {
                break;
            }
        }
    }
    return 0;
}

static int find_email(const struct rules_target *target, const struct rules_page *rules,
                      struct err *err)
{
    const struct lpage *page = rules->page;

    for (uint32_t w = 0; w < page->n_words; w++) {
        size_t len;
        const char *text = word_text(page, w, &len);
        const char *at = memchr(text, '@', len);
        if (at && at > text && memchr(at, '.', len - (size_t)(at - text)) &&
            !rules->buyer_cell[page->words[w].cell]) {
            const struct place place = {rules, w, w, 0.9F, true, true};
            if (place_words(target, &place, w, w, place.prior, err) < 0) {
                return -1;
            }
        }
    }
    return 0;
}

static bool bic_shaped(const char *text)
{
    const size_t n = strlen(text);

    if (n != 8 && n != 11) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const bool letter = text[i] >= 'A' && text[i] <= 'Z';
        const bool digit = text[i] >= '0' && text[i] <= '9';
        if (!letter && !(digit && i >= 6)) {
            return false;
        }
    }
    return true;
}

static int find_bic(const struct rules_target *target, const struct rules_page *rules,
                    struct err *err)
{
    const struct lpage *page = rules->page;

    for (uint32_t w = 0; w < page->n_words; w++) {
        char joined[24];
        join_words(page, w, w, joined, sizeof(joined));
        if (bic_shaped(joined) && label_before(rules, w, CONCEPT_BIC) > 0) {
            const struct place place = {rules, w, w, 0.95F, true, true};
            if (place_words(target, &place, w, w, place.prior, err) < 0) {
                return -1;
            }
        }
    }
    return 0;
}

/* The document's only currency: its code if that is printed, else its sign. */
static int find_currency(const struct rules_target *target, const struct rules_page *rules,
                         struct err *err)
{
    const struct lpage *page = rules->page;
    const char *want = target->job->hint.currency;

    if (target->out->scalars[target->index].n) {
        return 0;
    }
    for (uint32_t w = 0; w < page->n_words; w++) { /* "Currency: EUR" */
        size_t len;
        char code[4];
        const char *text = word_text(page, w, &len);
        if (currency_at(text, len, 0, code) == len &&
            label_before(rules, w, CONCEPT_CURRENCY) > 0) {
            const struct place place = {rules, w, w, 0.98F, true, true};
            return place_words(target, &place, w, w, place.prior, err) < 0 ? -1 : 0;
        }
    }
    if (!want[0]) {
        return 0;
    }
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t w = 0; w < page->n_words; w++) {
            size_t len;
            char code[4] = "";
            const char *text = word_text(page, w, &len);
            const size_t n = currency_at(text, len, 0, code);
            const bool literal = len >= 3 && memcmp(text, want, 3) == 0;
            if (n == 0 || n + 1 < len || strcmp(code, want) != 0 || (pass == 0 && !literal)) {
                continue;
            }
            const struct place place = {rules, w, w, 0.85F, true, true};
            return place_words(target, &place, w, w, place.prior, err) < 0 ? -1 : 0;
        }
    }
    return 0;
}

/* No label said "date", but the document has one date only. */
static int only_date(const struct rules_target *target, const struct rules_page *rules,
                     struct err *err)
{
    const struct doc_page *page = rules->page->page;
    const struct locale_hint hint = typing_hint(target->column, &target->job->hint);
    struct token token;
    struct token only = {.start = 0};
    bool found = false;

    if (target->out->scalars[target->index].n || target->job->layout->n > 2) {
        return 0;
    }
    for (size_t at = 0; typing_next(COLUMN_DATE, page->text, page->len, &at, &hint, &token);) {
        if (token.value.flags & VALUE_COMPACT) {
            continue;
        }
        if (found && !value_equal(&token.value, &only.value)) {
            return 0;
        }
        if (!found) {
            only = token;
        }
        found = true;
    }
    if (!found) {
        return 0;
    }
    char raw[64];
    (void)snprintf(raw, sizeof(raw), "%.*s", (int)min_size(only.end - only.start, 60),
                   page->text + only.start);
    const struct candidate candidate = {.raw = raw,
                                        .page = page->page,
                                        .start = doctext_cp_of(page, only.start),
                                        .end = doctext_cp_of(page, only.end),
                                        .prior = 0.7F,
                                        .pattern = true};
    return proposals_add(target->out, target->index, &candidate, err);
}

int rules_pattern(const struct rules_target *target, const struct rules_page *rules,
                  struct err *err)
{
    const bool string = target->column->type == COLUMN_STRING;

    switch ((int)target->meaning) {
    case CONCEPT_IBAN:
        return string ? find_iban(target, rules, err) : 0;
    case CONCEPT_VAT_ID:
        return string ? find_vat(target, rules, err) : 0;
    case CONCEPT_EMAIL:
        return string ? find_email(target, rules, err) : 0;
    case CONCEPT_BIC:
        return string ? find_bic(target, rules, err) : 0;
    case CONCEPT_CURRENCY:
        return string || target->column->type == COLUMN_ENUM ? find_currency(target, rules, err)
                                                             : 0;
    case CONCEPT_ISSUE_DATE:
        return target->column->type == COLUMN_DATE ? only_date(target, rules, err) : 0;
    default:
        return 0;
    }
}

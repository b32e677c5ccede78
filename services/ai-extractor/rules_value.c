/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands beside a label, and whether the column's type can be read there. Strings are taken
 * only from cells and after colons: prose is not read by rules.
 */
#include "libcommon/utf8.h"
#include "services/ai-extractor/norm.h"
#include "services/ai-extractor/rules.h"

#include <math.h>
#include <string.h>

#define FILLER_MAX 4U   /* words between a label and its value */
#define PROSE_WORDS 14U /* a longer cell is a sentence */
#define STRING_MAX 200U /* code points of a string value */

const char *word_text(const struct lpage *page, uint32_t word, size_t *ret_len)
{
    const size_t from = doctext_byte_of(page->page, page->words[word].start);

    *ret_len = doctext_byte_of(page->page, page->words[word].end) - from;
    return page->page->text + from;
}

uint32_t run_end(const struct lpage *page, uint32_t first, uint32_t last)
{
    for (uint32_t i = first; i < last; i++) {
        const uint32_t gap_from = page->words[i].end;
        const uint32_t gap_to = page->words[i + 1].start;
        if (gap_to < gap_from || gap_to - gap_from > 40) {
            return i;
        }
        const size_t to = doctext_byte_of(page->page, gap_to);
        for (size_t at = doctext_byte_of(page->page, gap_from); at < to;) {
            char key[16];
            const size_t begin = at;
            (void)utf8_next(page->page->text, to, &at);
            if (norm_key(page->page->text + begin, at - begin, key, sizeof(key))) {
                return i;
            }
        }
    }
    return last;
}

static bool has_digit(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] >= '0' && text[i] <= '9') {
            return true;
        }
    }
    return false;
}

static int propose_span(const struct rules_target *target, const struct lpage *page, uint32_t start,
                        uint32_t end, float prior, struct err *err)
{
    CLEANUP(free_cleanup) char *raw = NULL;
    struct candidate candidate = {
        .page = page->page->page, .start = start, .end = end, .prior = fminf(prior, 1)};

    if (end <= start || end - start > STRING_MAX) {
        return 0;
    }
    /* white space folded, as the grounding reads it */
    const size_t from = doctext_byte_of(page->page, start);
    const size_t to = doctext_byte_of(page->page, end);
    raw = calloc(to - from + 1, 1);
    if (!raw) {
        return err_nomem(err);
    }
    size_t n = 0;
    for (size_t i = from; i < to; i++) {
        const char c = page->page->text[i];
        const bool blank = c == ' ' || (c >= '\t' && c <= '\r');
        if (!blank && (unsigned char)c >= 0x20) {
            raw[n++] = c;
        } else if (blank && n && raw[n - 1] != ' ') {
            raw[n++] = ' ';
        }
    }
    n -= n && raw[n - 1] == ' ';
    raw[n] = '\0';
    candidate.raw = raw;
    return n && proposals_add(target->out, target->index, &candidate, err) < 0 ? -1 : n > 0;
}

int place_words(const struct rules_target *target, const struct place *place, uint32_t first,
                uint32_t last, float prior, struct err *err)
{
    const struct lpage *page = place->page->page;
    uint32_t start = page->words[first].start;
    uint32_t end = page->words[last].end;

    /* punctuation at the ends is not part of a value */
    while (end > start + 1) {
        const char c = page->page->text[doctext_byte_of(page->page, end - 1)];
        if (!strchr(",;:", c) || c == '\0') {
            break;
        }
        end--;
    }
    while (start < end) {
        const char c = page->page->text[doctext_byte_of(page->page, start)];
        if (!strchr(":#=;,-", c) || c == '\0') {
            break;
        }
        start++;
        while (start < end && page->page->text[doctext_byte_of(page->page, start)] == ' ') {
            start++;
        }
    }
    return propose_span(target, page, start, end, prior, err);
}

/* --- typed values ----------------------------------------------------------------------------- */

static bool acceptable(const struct rules_target *target, const struct value *value, bool at_once)
{
    if (value->type == COLUMN_MONEY && (value->flags & VALUE_PERCENT)) {
        return false;
    }
    if (value->flags & VALUE_COMPACT) {
        return at_once;
    }
    if (value->type == COLUMN_NUMBER && (value->flags & VALUE_PERCENT)) {
        return target->meaning == CONCEPT_TAX_RATE || target->meaning == CONCEPT_NONE;
    }
    return true;
}

static float value_weight(const struct value *value)
{
    if (value->type != COLUMN_MONEY) {
        return 1;
    }
    return (value->flags & VALUE_FRACTION) || value->currency[0] ? 1 : 0.8F;
}

/* Words that start inside [from, to) of the page's text. */
static size_t words_between(const struct lpage *page, const struct place *place, uint32_t cp)
{
    size_t n = 0;

    for (uint32_t i = place->first; i <= place->last; i++) {
        size_t len;
        char key[64];
        const char *text = word_text(page, i, &len);
        n += page->words[i].start < cp && norm_key(text, len, key, sizeof(key)) > 0 &&
             !has_digit(text, len);
    }
    return n;
}

static int place_tokens(const struct rules_target *target, const struct place *place,
                        struct err *err)
{
    const struct lpage *page = place->page->page;
    const struct locale_hint hint = typing_hint(target->column, &target->job->hint);
    const uint32_t last = run_end(page, place->first, place->last);
    const size_t base = doctext_byte_of(page->page, page->words[place->first].start);
    const size_t len = doctext_byte_of(page->page, page->words[last].end) - base;
    const bool sum = target->column->type == COLUMN_MONEY;
    struct token token;
    struct token best = {.start = 0};
    bool found = false;

    for (size_t at = 0;
         typing_next(target->column->type, page->page->text + base, len, &at, &hint, &token);) {
        const size_t between =
            words_between(page, place, doctext_cp_of(page->page, base + token.start));
        if (between > (place->announced ? FILLER_MAX : 2U)) {
            break;
        }
        const bool covers = token.start < 3 && token.end + 2 >= len;
        if (!acceptable(target, &token.value, token.start < 3) ||
            (sum && !covers && !(token.value.flags & VALUE_FRACTION) && !token.value.currency[0])) {
            continue;
        }
        /* money: of several amounts in a line of totals the last one is the total */
        if (!found ||
            (sum && (token.value.flags & VALUE_FRACTION) >= (best.value.flags & VALUE_FRACTION))) {
            best = token;
            found = true;
        }
        if (!sum) {
            break;
        }
    }
    if (!found) {
        return 0;
    }
    const uint32_t start = doctext_cp_of(page->page, base + best.start);
    const float far = 0.05F * (float)words_between(page, place, start);
    return propose_span(target, page, start, doctext_cp_of(page->page, base + best.end),
                        place->prior * value_weight(&best.value) * (1 - far), err);
}

/* --- strings ---------------------------------------------------------------------------------- */

bool place_is_id(enum concept meaning)
{
    switch ((int)meaning) {
    case CONCEPT_NUMBER:
    case CONCEPT_ORDER_NUMBER:
    case CONCEPT_CUSTOMER_NUMBER:
    case CONCEPT_CONTRACT_NUMBER:
    case CONCEPT_DELIVERY_NUMBER:
    case CONCEPT_TAX_NUMBER:
    case CONCEPT_ITEM_NUMBER:
        return true;
    default:
        return false;
    }
}

/* Left to rules_pattern: their form says more than their place. */
static bool is_pattern(enum concept meaning)
{
    return meaning == CONCEPT_IBAN || meaning == CONCEPT_VAT_ID || meaning == CONCEPT_BIC ||
           meaning == CONCEPT_EMAIL || meaning == CONCEPT_CURRENCY;
}

static bool reads_as(enum column_type type, const char *text, size_t len,
                     const struct locale_hint *hint)
{
    const struct column column = {.type = type};
    struct value value;

    return typing_parse(&column, text, len, hint, &value) &&
           !(type == COLUMN_MONEY && !(value.flags & VALUE_FRACTION) && !value.currency[0]) &&
           !(value.flags & VALUE_COMPACT);
}

/* A number of a document: has a digit and is neither a date nor money. */
static bool id_word(const struct rules_target *target, const struct lpage *page, uint32_t word)
{
    size_t len;
    const char *text = word_text(page, word, &len);

    return has_digit(text, len) && !reads_as(COLUMN_DATE, text, len, &target->job->hint) &&
           !reads_as(COLUMN_MONEY, text, len, &target->job->hint) && text[len - 1] != '%';
}

static bool letters_in(const char *text, size_t len)
{
    char key[64];

    (void)norm_key(text, min_size(len, 48), key, sizeof(key));
    for (const char *c = key; *c; c++) {
        if (*c >= 'a' && *c <= 'z') {
            return true;
        }
    }
    return false;
}

static int place_id(const struct rules_target *target, const struct place *place, struct err *err)
{
    const struct lpage *page = place->page->page;
    const uint32_t last = run_end(page, place->first, place->last);
    uint32_t first = place->first;

    /* "no.", "nr", ":" and the like between label and number */
    for (uint32_t skipped = 0; first < last && skipped < 2 && !id_word(target, page, first);
         skipped++) {
        size_t len;
        const char *text = word_text(page, first, &len);
        if (letters_in(text, len) && (len > 4 || !(len <= 3 || text[len - 1] == '.'))) {
            return 0;
        }
        first++;
    }
    if (!id_word(target, page, first) || place->page->labelled[first]) {
        return 0;
    }
    uint32_t end = first;
    while (end < last) { /* groups of digits go on: "05 158 004 - 11023 - 45" */
        size_t len;
        const char *text = word_text(page, end + 1, &len);
        const struct lword *now = &page->words[end];
        if (letters_in(text, len) || page->words[end + 1].x0 - now->x1 > page->char_w * 1.5F ||
            reads_as(COLUMN_DATE, text, len, &target->job->hint)) {
            break;
        }
        end++;
    }
    size_t len;
    const char *text = word_text(page, first, &len);
    if (letters_in(text, len)) {
        end = first;
    }
    return place_words(target, place, first, end, place->prior, err);
}

bool place_is_party(enum concept meaning)
{
    return meaning == CONCEPT_SELLER || meaning == CONCEPT_BUYER;
}

/* A name has letters and is no date, sum or address of its own. */
static bool name_like(const struct rules_target *target, const struct place *place, uint32_t last)
{
    const struct lpage *page = place->page->page;
    const size_t from = doctext_byte_of(page->page, page->words[place->first].start);
    const size_t to = doctext_byte_of(page->page, page->words[last].end);
    const char *text = page->page->text + from;
    size_t first;
    const char *word = word_text(page, place->first, &first);

    return to - from >= 3 && letters_in(text, to - from) && !has_digit(word, first) &&
           !reads_as(COLUMN_DATE, text, to - from, &target->job->hint);
}

static int place_string(const struct rules_target *target, const struct place *place,
                        struct err *err)
{
    const struct lpage *page = place->page->page;

    if (is_pattern(target->meaning)) {
        return 0;
    }
    if (place_is_id(target->meaning)) {
        return place_id(target, place, err);
    }
    const uint32_t last = run_end(page, place->first, place->last);
    if (!place->announced || last != place->last || place->page->labelled[place->first]) {
        return 0;
    }
    for (uint32_t i = place->first; i <= last; i++) { /* "Tel: 1 Fax: 2" in one cell */
        if (place->page->labelled[i] && i > place->first) {
            size_t len;
            const char *text = word_text(page, i, &len);
            if (text[len - 1] == ':') {
                return 0;
            }
        }
    }
    if (place_is_party(target->meaning) && !name_like(target, place, last)) {
        return 0;
    }
    return place_words(target, place, place->first, last, place->prior * 0.95F, err);
}

static int place_word(const struct rules_target *target, const struct place *place, struct err *err)
{
    const struct lpage *page = place->page->page;
    const uint32_t last = run_end(page, place->first, place->last);
    const size_t from = doctext_byte_of(page->page, page->words[place->first].start);
    const size_t to = doctext_byte_of(page->page, page->words[last].end);
    struct value value;

    if (!typing_parse(target->column, page->page->text + from, to - from, &target->job->hint,
                      &value)) {
        return 0;
    }
    return propose_span(target, page, page->words[place->first].start, page->words[last].end,
                        place->prior, err);
}

int place_propose(const struct rules_target *target, const struct place *place, struct err *err)
{
    switch (target->column->type) {
    case COLUMN_NUMBER:
    case COLUMN_INTEGER:
    case COLUMN_MONEY:
    case COLUMN_DATE:
    case COLUMN_DATETIME:
        return place_tokens(target, place, err);
    case COLUMN_STRING:
        return place_string(target, place, err);
    case COLUMN_BOOLEAN:
    case COLUMN_ENUM:
        return place_word(target, place, err);
    case COLUMN_ROWS:
        break;
    }
    return 0;
}

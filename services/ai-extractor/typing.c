/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens of a text by type, words for yes and no, a document's habits, and values as JSON.
 */
#include "services/ai-extractor/typing.h"

#include "services/ai-extractor/norm.h"

#include <stdio.h>
#include <string.h>

/* --- habits of a document --------------------------------------------------------------------- */

static void learn_currency(struct locale_votes *votes, const char *code)
{
    if (!code[0]) {
        return;
    }
    if (votes->currency[0] && strcmp(votes->currency, code) != 0) {
        votes->many_currencies = true;
    }
    memcpy(votes->currency, code, 4);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A mark with exactly two digits behind it is a decimal mark; one in "1.234.567" is not. */
static void learn_number(struct locale_votes *votes, const char *token, size_t len)
{
    for (size_t i = len; i-- > 0;) {
        if (!is_digit(token[i])) {
            const bool cents = len - i == 3;
            votes->point += token[i] == '.' && cents;
            votes->comma += token[i] == ',' && cents;
            return;
        }
    }
}

static void learn_order(struct locale_votes *votes, const char *token, size_t len)
{
    if (len < 6 || !is_digit(token[0]) || memchr(token, '.', len) || is_digit(token[2]) > 0) {
        return;
    }
    const int first = is_digit(token[1]) ? (token[0] - '0') * 10 + token[1] - '0' : token[0] - '0';
    const size_t at = is_digit(token[1]) ? 3 : 2;
    if ((token[at - 1] != '/' && token[at - 1] != '-') || !is_digit(token[at])) {
        return;
    }
    const int second =
        is_digit(token[at + 1]) ? (token[at] - '0') * 10 + token[at + 1] - '0' : token[at] - '0';
    votes->dmy += first > 12 && second <= 12;
    votes->mdy += second > 12 && first <= 12;
}

void locale_learn(struct locale_votes *votes, const char *text, size_t len)
{
    static const struct locale_hint none = {.order = DATE_ORDER_AUTO};
    struct token token;

    for (size_t at = 0; typing_next(COLUMN_MONEY, text, len, &at, &none, &token);) {
        size_t end = token.end;
        while (end > token.start && !is_digit(text[end - 1])) {
            end--;
        }
        learn_number(votes, text + token.start, end - token.start);
        learn_currency(votes, token.value.currency);
    }
    for (size_t at = 0; typing_next(COLUMN_DATE, text, len, &at, &none, &token);) {
        learn_order(votes, text + token.start, token.end - token.start);
    }
    for (size_t at = 0; at + 3 <= len && !votes->currency[0]; at++) { /* "all amounts in EUR" */
        static const char common[] = "EUR USD GBP CHF ";
        char code[4];
        const bool word = at && norm_is_alnum((unsigned char)text[at - 1]);
        if (text[at] >= 'A' && text[at] <= 'Z' && !word && currency_at(text, len, at, code) == 3 &&
            strstr(common, code)) {
            learn_currency(votes, code);
        }
    }
}

struct locale_hint locale_decide(const struct locale_votes *votes)
{
    struct locale_hint hint = {.order = DATE_ORDER_AUTO};

    if (votes->point != votes->comma && (votes->point == 0 || votes->comma == 0)) {
        hint.decimal = votes->point ? '.' : ',';
    }
    if (!votes->many_currencies) {
        memcpy(hint.currency, votes->currency, sizeof(hint.currency));
    }
    if (votes->dmy != votes->mdy && (votes->dmy == 0 || votes->mdy == 0)) {
        hint.order = votes->dmy ? DATE_ORDER_DMY : DATE_ORDER_MDY;
    } else if (votes->dmy == 0 && hint.currency[0] && strcmp(hint.currency, "USD") != 0) {
        hint.order = DATE_ORDER_DMY; /* month first is written where dollars are paid */
    }
    return hint;
}

struct locale_hint typing_hint(const struct column *column, const struct locale_hint *doc)
{
    struct locale_hint hint = *doc;

    if (column->date_order != DATE_ORDER_AUTO) {
        hint.order = column->date_order;
    }
    return hint;
}

/* --- tokens ----------------------------------------------------------------------------------- */

static size_t token_at(enum column_type type, const char *text, size_t len, size_t at,
                       const struct locale_hint *hint, struct value *ret)
{
    switch (type) {
    case COLUMN_NUMBER:
    case COLUMN_INTEGER:
        return number_at(text, len, at, false, hint, ret);
    case COLUMN_MONEY:
        return number_at(text, len, at, true, hint, ret);
    case COLUMN_DATE:
        return date_at(text, len, at, false, hint, ret);
    case COLUMN_DATETIME:
        return date_at(text, len, at, true, hint, ret);
    case COLUMN_STRING:
    case COLUMN_BOOLEAN:
    case COLUMN_ENUM:
    case COLUMN_ROWS:
        break;
    }
    return 0;
}

static bool whole_number(const struct value *value)
{
    const char *point = strchr(value->text, '.');

    return !point || point[1 + strspn(point + 1, "0")] == '\0';
}

/* Signs, currency signs and money: where the token that has these digits begins. */
static size_t token_begin(enum column_type type, const char *text, size_t at)
{
    char code[4];

    if (type != COLUMN_MONEY || at == 0) {
        return at;
    }
    const size_t blank = text[at - 1] == ' ' ? at - 1 : at;
    const size_t before = currency_before(text, blank, code);
    return before < blank ? before : at;
}

bool typing_next(enum column_type type, const char *text, size_t len, size_t *at,
                 const struct locale_hint *hint, struct token *ret)
{
    for (size_t i = *at; i < len; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c == ' ' || (c & 0xC0U) == 0x80U) {
            continue;
        }
        struct value value;
        const size_t end = token_at(type, text, len, i, hint, &value);
        if (end) {
            *at = end;
            if (type == COLUMN_INTEGER) {
                if (!whole_number(&value) || (value.flags & VALUE_TWO_READINGS)) {
                    i = end - 1;
                    continue;
                }
                value.type = COLUMN_INTEGER;
                value.text[strcspn(value.text, ".")] = '\0';
            }
            *ret = (struct token){token_begin(type, text, i), end, value};
            return true;
        }
        while (is_digit((char)c) && i + 1 < len && is_digit(text[i + 1])) {
            i++; /* not inside a run of digits */
        }
    }
    *at = len;
    return false;
}

/* --- yes, no and listed words ----------------------------------------------------------------- */

bool typing_boolean(const char *text, size_t len, struct value *ret)
{
    static const char yes[] = " yes y true ja oui si sim vrai wahr vero x checked on ";
    static const char no[] = " no n false nein non nee nao faux falsch falso unchecked off ";
    char key[24];
    char padded[32];

    if (norm_key(text, len, key, sizeof(key)) == 0 || strchr(key, ' ')) {
        return false;
    }
    (void)snprintf(padded, sizeof(padded), " %s ", key);
    const bool truth = strstr(yes, padded) != NULL;
    if (!truth && !strstr(no, padded)) {
        return false;
    }
    *ret = (struct value){.type = COLUMN_BOOLEAN, .truth = truth};
    (void)snprintf(ret->text, sizeof(ret->text), "%s", truth ? "true" : "false");
    return true;
}

bool typing_enum_in(const struct column *column, const char *text, size_t len, struct value *ret)
{
    char hay[512];
    char word[256];
    char padded[264];
    const char *best = NULL;
    size_t best_len = 0;
    size_t hits = 0;

    hay[0] = ' ';
    const size_t n = norm_key(text, len, hay + 1, sizeof(hay) - 8);
    memcpy(hay + 1 + n, " ", 2);
    for (size_t i = 0; i < column->n_enums; i++) {
        const size_t k = norm_key(column->enums[i], strlen(column->enums[i]), word, sizeof(word));
        (void)snprintf(padded, sizeof(padded), " %s ", word);
        if (k == 0 || !strstr(hay, padded)) {
            continue;
        }
        /* "paid in part" beats "paid"; two words side by side are no answer */
        const bool inside = best && strstr(padded, best);
        if (k > best_len) {
            hits = best_len && !inside && hits ? hits + 1 : 1;
            best = column->enums[i];
            best_len = k;
        } else {
            hits++;
        }
    }
    if (hits != 1 || !best || strlen(best) >= sizeof(ret->text)) {
        return false;
    }
    *ret = (struct value){.type = COLUMN_ENUM};
    (void)snprintf(ret->text, sizeof(ret->text), "%s", best);
    return true;
}

/* --- one value -------------------------------------------------------------------------------- */

static bool only_blank(const char *text, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        if (!strchr(" \t\n\r.:;()", text[i]) || text[i] == '\0') {
            return false;
        }
    }
    return true;
}

bool typing_parse(const struct column *column, const char *text, size_t len,
                  const struct locale_hint *hint, struct value *ret)
{
    struct token token;
    size_t at = 0;

    if (column->type == COLUMN_BOOLEAN) {
        return typing_boolean(text, len, ret);
    }
    if (column->type == COLUMN_ENUM) {
        return typing_enum_in(column, text, len, ret);
    }
    if (!typing_next(column->type, text, len, &at, hint, &token) ||
        !only_blank(text, 0, token.start)) {
        return false;
    }
    if (!only_blank(text, token.end, len)) {
        const char *mark = memchr(text + token.end, '%', len - token.end);
        const bool percent = mark && only_blank(text, token.end, (size_t)(mark - text)) &&
                             only_blank(text, (size_t)(mark - text) + 1, len);
        if (!percent || column->type == COLUMN_MONEY) {
            return false;
        }
    }
    *ret = token.value;
    return true;
}

static bool same_decimal(const char *a, const char *b)
{
    const char *a_point = strchr(a, '.');
    const char *b_point = strchr(b, '.');
    const size_t a_whole = a_point ? (size_t)(a_point - a) : strlen(a);
    const size_t b_whole = b_point ? (size_t)(b_point - b) : strlen(b);

    if (a_whole != b_whole || memcmp(a, b, a_whole) != 0) {
        return false;
    }
    a = a_point ? a_point + 1 : "";
    b = b_point ? b_point + 1 : "";
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return a[strspn(a, "0")] == '\0' && b[strspn(b, "0")] == '\0';
}

bool value_equal(const struct value *a, const struct value *b)
{
    if (a->type != b->type) {
        return false;
    }
    switch (a->type) {
    case COLUMN_NUMBER:
    case COLUMN_INTEGER:
        return same_decimal(a->text, b->text);
    case COLUMN_MONEY:
        return same_decimal(a->text, b->text) &&
               (!a->currency[0] || !b->currency[0] || strcmp(a->currency, b->currency) == 0);
    case COLUMN_BOOLEAN:
        return a->truth == b->truth;
    case COLUMN_STRING:
    case COLUMN_DATE:
    case COLUMN_DATETIME:
    case COLUMN_ENUM:
    case COLUMN_ROWS:
        break;
    }
    return strcmp(a->text, b->text) == 0;
}

/* --- JSON ------------------------------------------------------------------------------------- */

static json_t *number_to_json(const char *text)
{
    size_t digits = 0;
    char clean[80];

    (void)snprintf(clean, sizeof(clean), "%.79s", text);
    char *point = strchr(clean, '.');
    if (point) {
        size_t n = strlen(clean);
        while (clean[n - 1] == '0') {
            clean[--n] = '\0';
        }
        if (clean[n - 1] == '.') {
            clean[--n] = '\0';
            point = NULL;
        }
    }
    for (const char *c = clean; *c; c++) {
        digits += is_digit(*c);
    }
    if (point) {
        return digits <= 15 ? json_real(strtod(clean, NULL)) : json_string(clean);
    }
    return digits <= 18 ? json_integer(strtoll(clean, NULL, 10)) : json_string(clean);
}

json_t *value_to_json(const struct value *value)
{
    switch (value->type) {
    case COLUMN_NUMBER:
    case COLUMN_INTEGER:
        return number_to_json(value->text);
    case COLUMN_MONEY:
        return json_pack("{s:s, s:s?}", "amount", value->text, "currency",
                         value->currency[0] ? value->currency : NULL);
    case COLUMN_BOOLEAN:
        return json_boolean(value->truth);
    case COLUMN_STRING:
    case COLUMN_DATE:
    case COLUMN_DATETIME:
    case COLUMN_ENUM:
    case COLUMN_ROWS:
        break;
    }
    return json_string(value->text);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers and money. A run of digits and separators is read as a whole or not at all: what looks
 * like a date, a phone number, a version or a part number is no number.
 */
#include "services/ai-extractor/typing.h"

#include <stdio.h>
#include <string.h>

#define GROUPS_MAX 12U
#define DIGITS_MAX 30U

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    /* of the lead bytes, C2 and E2 begin signs and dashes, the others letters */
    const unsigned char byte = (unsigned char)c;

    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (byte >= 0xC3 && byte != 0xE2);
}

static char char_at(const char *text, size_t len, size_t at)
{
    return at < len ? text[at] : '\0';
}

/* --- currencies ------------------------------------------------------------------------------- */

static const struct {
    const char *sign;
    const char *code;
} signs[] = {
    {"€", "EUR"},  {"£", "GBP"},    {"¥", "JPY"},    {"₹", "INR"},     {"₽", "RUB"},
    {"₩", "KRW"},  {"₺", "TRY"},    {"₪", "ILS"},    {"₫", "VND"},     {"฿", "THB"},
    {"₱", "PHP"},  {"₦", "NGN"},    {"zł", "PLN"},   {"Kč", "CZK"},    {"US$", "USD"},
    {"A$", "AUD"}, {"C$", "CAD"},   {"R$", "BRL"},   {"S$", "SGD"},    {"HK$", "HKD"},
    {"$", "USD"},  {"RM", "MYR"},   {"Rs.", "INR"},  {"Rs", "INR"},    {"SFr.", "CHF"},
    {"kr", ""},    {"Euro", "EUR"}, {"euro", "EUR"}, {"Euros", "EUR"}, {"euros", "EUR"},
};

static const char codes[] =
    "AED AUD BGN BRL CAD CHF CLP CNY COP CZK DKK EGP EUR GBP HKD HUF IDR ILS "
    "INR ISK JPY KRW KZT MAD MXN MYR NGN NOK NZD PHP PKR PLN QAR RON "
    "RSD RUB SAR SEK SGD THB TND TRY TWD UAH USD VND ZAR ";

static size_t code_at(const char *text, size_t len, size_t at, char ret_code[4])
{
    if (len - at < 3) {
        return 0;
    }
    for (const char *code = codes; *code; code += 4) {
        if (memcmp(code, text + at, 3) == 0) {
            memcpy(ret_code, code, 3);
            ret_code[3] = '\0';
            return 3;
        }
    }
    return 0;
}

size_t currency_at(const char *text, size_t len, size_t at, char ret_code[4])
{
    size_t best = 0;

    if (at >= len) {
        return 0;
    }
    best = code_at(text, len, at, ret_code);
    for (size_t i = 0; best == 0 && i < ARRAY_LEN(signs); i++) {
        const size_t n = strlen(signs[i].sign);
        if (n > len - at || memcmp(text + at, signs[i].sign, n) != 0) {
            continue;
        }
        const bool word = is_letter(signs[i].sign[n - 1]);
        if (!word || !is_letter(char_at(text, len, at + n))) {
            best = n;
            (void)snprintf(ret_code, 4, "%s", signs[i].code);
        }
    }
    if (best && is_letter(text[at]) && is_letter(char_at(text, len, at + best))) {
        return 0;
    }
    return best;
}

size_t currency_before(const char *text, size_t at, char ret_code[4])
{
    for (size_t n = 1; n <= 6 && n <= at; n++) {
        const size_t start = at - n;
        char code[4];
        if (((unsigned char)text[start] & 0xC0U) == 0x80U ||
            currency_at(text, at, start, code) != n) {
            continue;
        }
        /* "R$", "US$" before "$": a longer sign that ends here wins. */
        if (start > 0 && is_letter(text[start]) && is_letter(text[start - 1])) {
            continue;
        }
        if (text[start] == '$' && start > 0 && text[start - 1] >= 'A' && text[start - 1] <= 'Z') {
            continue;
        }
        memcpy(ret_code, code, 4);
        return start;
    }
    return at;
}

/* --- digits and separators -------------------------------------------------------------------- */

struct digits {
    char groups[GROUPS_MAX][DIGITS_MAX + 1];
    char seps[GROUPS_MAX]; /* before group i: '.', ',', '\'' or ' ' */
    size_t n;
    size_t end;
};

/* A separator that stands between two digits: its byte length, and its kind. */
static size_t separator_at(const char *text, size_t len, size_t at, char *ret_kind)
{
    static const struct {
        const char *bytes;
        char kind;
    } kinds[] = {
        {".", '.'},      {",", ','},      {"'", '\''},     {"’", '\''},
        {"\u00A0", ' '}, {"\u202F", ' '}, {"\u2009", ' '}, {" ", ' '},
    };

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        const size_t n = strlen(kinds[i].bytes);
        if (n < len - at && memcmp(text + at, kinds[i].bytes, n) == 0 && is_digit(text[at + n])) {
            *ret_kind = kinds[i].kind;
            return n;
        }
    }
    return 0;
}

static size_t run_of_digits(const char *text, size_t len, size_t at)
{
    size_t n = 0;

    while (at + n < len && is_digit(text[at + n])) {
        n++;
    }
    return n;
}

/* Blanks group digits only as in "1 234 567,89": the first group short, the others three long. */
static bool blank_groups(const char *text, size_t len, size_t at, const struct digits *run)
{
    const size_t n = run_of_digits(text, len, at);
    const size_t first = strlen(run->groups[0]);

    if (n != 3 || first > 3 || run->groups[0][0] == '0') {
        return false;
    }
    for (size_t i = 1; i < run->n; i++) {
        if (run->seps[i] != ' ') {
            return false;
        }
    }
    return !is_letter(char_at(text, len, at + n));
}

static bool read_digits(const char *text, size_t len, size_t at, struct digits *run)
{
    *run = (struct digits){.n = 0};
    char kind = '\0';

    for (;;) {
        const size_t n = run_of_digits(text, len, at);
        if (n == 0 || n > DIGITS_MAX || run->n == GROUPS_MAX) {
            return false;
        }
        memcpy(run->groups[run->n], text + at, n);
        run->groups[run->n][n] = '\0';
        run->seps[run->n++] = kind;
        at += n;
        run->end = at;
        if (at >= len) {
            return true;
        }
        const size_t sep = separator_at(text, len, at, &kind);
        if (sep == 0 || (kind == ' ' && !blank_groups(text, len, at + sep, run))) {
            return true;
        }
        at += sep;
    }
}

/* Blanks joined digits that a money amount with decimals would have: else they were two numbers. */
static void drop_loose_blanks(struct digits *run, const char *text, size_t at)
{
    bool plain_blank = false;

    for (size_t i = at; i < run->end; i++) {
        plain_blank |= text[i] == ' ';
    }
    const char last = run->seps[run->n - 1];
    if (plain_blank && last == ' ') {
        run->n = 1;
        run->end = at + strlen(run->groups[0]);
    }
}

static bool groups_of_three(const struct digits *run, size_t n)
{
    if (strlen(run->groups[0]) > 3) {
        return false;
    }
    for (size_t i = 1; i < n; i++) {
        if (strlen(run->groups[i]) != 3 || run->seps[i] != run->seps[1]) {
            return false;
        }
    }
    return true;
}

/* How many groups belong to the integer part; 0: this is no number. *ret_doubt: three digits after
 * a single mark can be either. */
static size_t integer_groups(const struct digits *run, bool money, const struct locale_hint *hint,
                             bool *ret_doubt)
{
    const size_t n = run->n;
    const char last = n > 1 ? run->seps[n - 1] : '\0';
    const size_t tail = strlen(run->groups[n - 1]);

    *ret_doubt = false;
    if (n == 1) {
        return 1;
    }
    if (last == ' ' || last == '\'') {
        return groups_of_three(run, n) ? n : 0;
    }
    if (n > 2) {
        if (run->seps[n - 2] == last) {
            return groups_of_three(run, n) ? n : 0;
        }
        return groups_of_three(run, n - 1) ? n - 1 : 0;
    }
    if (tail != 3 || strlen(run->groups[0]) > 3 || run->groups[0][0] == '0') {
        return 1;
    }
    if (hint->decimal) {
        return hint->decimal == last ? 1 : 2;
    }
    *ret_doubt = !money;
    return money || last == ',' ? 2 : 1;
}

static void write_decimal(const struct digits *run, size_t whole, bool negative, char *ret,
                          size_t size)
{
    char joined[GROUPS_MAX * DIGITS_MAX + 1];
    size_t n = 0;

    for (size_t i = 0; i < whole; i++) {
        for (const char *c = run->groups[i]; *c; c++) {
            joined[n++] = *c;
        }
    }
    joined[n] = '\0';
    const char *start = joined;
    while (start[0] == '0' && start[1]) {
        start++;
    }
    const char *fraction = whole < run->n ? run->groups[whole] : "";
    (void)snprintf(ret, size, "%s%.36s%s%.30s", negative ? "-" : "", start, fraction[0] ? "." : "",
                   fraction);
}

/* --- tokens ----------------------------------------------------------------------------------- */

static bool starts_clean(const char *text, size_t at)
{
    if (at == 0) {
        return true;
    }
    const char before = text[at - 1];
    if (is_digit(before)) {
        return false;
    }
    if (is_letter(before)) {
        char code[4];
        return currency_before(text, at, code) < at;
    }
    if (at >= 2 && strchr(".,/-:_'+#", before)) {
        const char more = text[at - 2];
        const bool mark = before == '.' || before == ',';
        return before == ':' ? !is_digit(more) : !is_digit(more) && (mark || !is_letter(more));
    }
    return before != '_' && before != '/';
}

static bool ends_clean(const char *text, size_t len, size_t end)
{
    const char next = char_at(text, len, end);
    const char more = char_at(text, len, end + 1);

    if (is_letter(next)) {
        char code[4];
        return currency_at(text, len, end, code) > 0;
    }
    return !(
        (next == '/' || next == '-' || next == ':' || next == '.' || next == ',' || next == '_') &&
        (is_digit(more) || (next != ':' && next != '.' && next != ',' && is_letter(more))));
}

static size_t skip_blank(const char *text, size_t len, size_t at)
{
    if (at < len && text[at] == ' ') {
        return at + 1;
    }
    if (len - at >= 2 && memcmp(text + at, "\u00A0", 2) == 0) {
        return at + 2;
    }
    return at;
}

static size_t back_blank(const char *text, size_t at)
{
    if (at && text[at - 1] == ' ') {
        return at - 1;
    }
    return at >= 2 && memcmp(text + at - 2, "\u00A0", 2) == 0 ? at - 2 : at;
}

static size_t sign_at(const char *text, size_t len, size_t at, bool *ret_negative)
{
    if (text[at] == '-' || text[at] == '+') {
        *ret_negative = text[at] == '-';
        return 1;
    }
    if (len - at >= 3 && (memcmp(text + at, "−", 3) == 0 || memcmp(text + at, "–", 3) == 0)) {
        *ret_negative = true;
        return 3;
    }
    return 0;
}

/* What may follow the digits and changes the value: ",-" (no cents), "-" (negative), "%". */
static size_t read_tail(const char *text, size_t len, size_t end, bool *negative,
                        struct value *value)
{
    if (len - end >= 2 && text[end] == ',' && (text[end + 1] == '-')) {
        end += 2;
        while (end < len && text[end] == '-') {
            end++;
        }
    } else if (char_at(text, len, end) == '-' && !is_digit(char_at(text, len, end + 1)) &&
               !is_letter(char_at(text, len, end + 1)) && (value->flags & VALUE_FRACTION)) {
        *negative = true;
        end++;
    }
    if (char_at(text, len, skip_blank(text, len, end)) == '%') {
        value->flags |= VALUE_PERCENT;
    }
    return end;
}

static size_t read_currency(const char *text, size_t len, size_t at, size_t digits, size_t end,
                            struct value *value)
{
    const size_t before = currency_before(text, back_blank(text, digits), value->currency);
    if (before < back_blank(text, digits) && before >= at) {
        return end;
    }
    char code[4] = "";
    const size_t next = skip_blank(text, len, end);
    const size_t n = currency_at(text, len, next, code);
    /* In "2 $ 5.00" the sign belongs to the second number. */
    if (n && !(before < digits && value->currency[0]) &&
        ((value->flags & VALUE_FRACTION) ||
         !is_digit(char_at(text, len, skip_blank(text, len, next + n))))) {
        memcpy(value->currency, code, 4);
        return next + n;
    }
    return end;
}

size_t number_at(const char *text, size_t len, size_t at, bool money,
                 const struct locale_hint *hint, struct value *ret)
{
    struct value value = {.type = money ? COLUMN_MONEY : COLUMN_NUMBER};
    struct digits run;
    bool negative = false;
    bool doubt = false;
    const size_t sign = at < len ? sign_at(text, len, at, &negative) : 0;
    size_t digits = at + sign;

    if (money && sign) { /* "-$ 12.00" */
        char code[4];
        digits = skip_blank(text, len, digits + currency_at(text, len, digits, code));
    }
    if (!is_digit(char_at(text, len, digits)) || !starts_clean(text, at) ||
        !read_digits(text, len, digits, &run)) {
        return 0;
    }
    drop_loose_blanks(&run, text, digits);
    const size_t whole = integer_groups(&run, money, hint, &doubt);
    if (whole == 0 || !ends_clean(text, len, run.end)) {
        return 0;
    }
    value.flags |= whole < run.n ? VALUE_FRACTION : 0;
    size_t end = read_tail(text, len, run.end, &negative, &value);
    write_decimal(&run, whole, negative, value.text, sizeof(value.text));
    if (doubt) {
        value.flags |= VALUE_TWO_READINGS;
        write_decimal(&run, whole == 1 ? 2 : 1, negative, value.other, sizeof(value.other));
    }
    if (money) {
        end = read_currency(text, len, at, digits, end, &value);
    }
    if (!sign && at && text[at - 1] == '(' && char_at(text, len, end) == ')' &&
        (value.flags & VALUE_FRACTION) && !negative) {
        write_decimal(&run, whole, true, value.text, sizeof(value.text));
    }
    *ret = value;
    return end;
}

bool decimal_cents(const char *decimal, int64_t *ret_cents)
{
    const bool negative = decimal[0] == '-';
    int64_t cents = 0;
    size_t fraction = 0;
    bool point = false;
    size_t digits = 0;

    for (const char *c = decimal + negative; *c; c++) {
        if (*c == '.') {
            point = true;
            continue;
        }
        if (point && fraction == 2) {
            if (*c != '0') {
                return false; /* finer than a cent: not for sums */
            }
            continue;
        }
        if (++digits > 17) {
            return false;
        }
        cents = cents * 10 + (*c - '0');
        fraction += point;
    }
    for (; fraction < 2; fraction++) {
        cents *= 10;
    }
    *ret_cents = negative ? -cents : cents;
    return true;
}

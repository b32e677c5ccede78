/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dates as written in seven languages. 09/11/2023 has two readings: the order comes from the
 * column, from dates in the document that can be read one way only, or both readings are returned.
 */
#include "services/ai-extractor/typing.h"

#include "services/ai-extractor/norm.h"

#include <stdio.h>
#include <string.h>

#define MONTH_WORD_MAX 24U

static const char *const month_words[12] = {
    " jan january januar janvier janv enero ene gennaio gen januari janeiro jaen jaenner ",
    " feb february februar fevrier fev fevr febrero febbraio februari fevereiro ",
    " mar march marz maerz mars marzo maart mrt marco mrz ",
    " apr april avril avr abril abr aprile ",
    " may mai mayo maggio mag mei maio ",
    " jun june juni juin junio giugno giu junho ",
    " jul july juli juillet juil julio luglio lug julho ",
    " aug august aout agosto ago augustus ",
    " sep sept september septembre septiembre set settembre setembro ",
    " oct october oktober okt octobre octubre ottobre ott outubro out ",
    " nov november novembre noviembre novembro ",
    " dec december dezember dez decembre diciembre dic dicembre dezembro ",
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char char_at(const char *text, size_t len, size_t at)
{
    return at < len ? text[at] : '\0';
}

static bool is_word_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           ((unsigned char)c >= 0xC3 && (unsigned char)c != 0xE2) ||
           ((unsigned char)c & 0xC0U) == 0x80U;
}

int month_at(const char *text, size_t len, size_t at, size_t *ret_len)
{
    char key[MONTH_WORD_MAX + 8];
    char padded[MONTH_WORD_MAX + 12];
    size_t n = 0;

    while (at + n < len && is_word_byte(text[at + n]) && n < MONTH_WORD_MAX) {
        n++;
    }
    if (n < 3 || n == MONTH_WORD_MAX || norm_key(text + at, n, key, sizeof(key)) < 3) {
        return 0;
    }
    (void)snprintf(padded, sizeof(padded), " %s ", key);
    for (int i = 0; i < 12; i++) {
        if (strstr(month_words[i], padded)) {
            *ret_len = n;
            return i + 1;
        }
    }
    return 0;
}

struct ymd {
    int year, month, day;
};

static bool ymd_real(struct ymd d)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    if (d.year < 1900 || d.year > 2199 || d.month < 1 || d.month > 12 || d.day < 1) {
        return false;
    }
    const bool leap = (d.year % 4 == 0 && d.year % 100 != 0) || d.year % 400 == 0;
    return d.day <= days[d.month - 1] + (d.month == 2 && leap);
}

static void ymd_write(struct ymd d, char *ret, size_t size)
{
    (void)snprintf(ret, size, "%04d-%02d-%02d", d.year % 10000, d.month % 100, d.day % 100);
}

/* 1..max digits as a number; returns how many. */
static size_t read_int(const char *text, size_t len, size_t at, size_t max, int *ret)
{
    size_t n = 0;
    int value = 0;

    while (n < max && is_digit(char_at(text, len, at + n))) {
        value = value * 10 + (text[at + n] - '0');
        n++;
    }
    if (is_digit(char_at(text, len, at + n))) {
        return 0;
    }
    *ret = value;
    return n;
}

static int full_year(int year, size_t digits)
{
    if (digits == 2) {
        return year < 70 ? 2000 + year : 1900 + year;
    }
    return digits == 4 ? year : -1;
}

/* The mark between the parts of a date, blanks after it (and before a slash) allowed by OCR. */
static size_t mark_at(const char *text, size_t len, size_t at, char *ret_mark)
{
    size_t n = 0;

    if (char_at(text, len, at) == ' ' && strchr("/.-", char_at(text, len, at + 1)) &&
        char_at(text, len, at + 1)) {
        n = 1;
    }
    const char mark = char_at(text, len, at + n);
    if (mark != '.' && mark != '/' && mark != '-') {
        return 0;
    }
    n++;
    if (char_at(text, len, at + n) == ' ' && is_digit(char_at(text, len, at + n + 1))) {
        n++;
    }
    *ret_mark = mark;
    return n;
}

static size_t blanks_at(const char *text, size_t len, size_t at)
{
    size_t n = 0;

    for (;;) {
        const char c = char_at(text, len, at + n);
        if (c == ' ' || c == ',' || c == '-' || c == '.' || c == '/' || c == '\n') {
            n++;
        } else if (c == '\xC2' && char_at(text, len, at + n + 1) == '\xA0') {
            n += 2;
        } else {
            return n;
        }
        if (n > 4) {
            return 0;
        }
    }
}

/* "de", "of", "del" between day, month and year. */
static size_t filler_at(const char *text, size_t len, size_t at)
{
    static const char *const words[] = {"de ", "of ", "del ", "do ", "di "};

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        const size_t n = strlen(words[i]);
        if (n < len - at && memcmp(text + at, words[i], n) == 0) {
            return n;
        }
    }
    return 0;
}

static size_t year_at(const char *text, size_t len, size_t at, int *ret_year)
{
    size_t skip = blanks_at(text, len, at);
    skip += at + skip < len ? filler_at(text, len, at + skip) : 0;
    skip += char_at(text, len, at + skip) == '\'';
    int year = 0;
    const size_t n = read_int(text, len, at + skip, 4, &year);

    *ret_year = full_year(year, n);
    return skip && n ? at + skip + n : 0;
}

/* "14 March 2024", "14. März 2024", "1er mars 2024", "14-Mar-24" */
static size_t day_month_year(const char *text, size_t len, size_t at, struct ymd *ret)
{
    static const char *const ordinals[] = {"st", "nd", "rd", "th", "er", "º"};
    size_t n = read_int(text, len, at, 2, &ret->day);

    if (n == 0) {
        return 0;
    }
    at += n;
    for (size_t i = 0; i < ARRAY_LEN(ordinals); i++) {
        n = strlen(ordinals[i]);
        if (n < len - at && memcmp(text + at, ordinals[i], n) == 0) {
            at += n;
            break;
        }
    }
    at += blanks_at(text, len, at);
    at += at < len ? filler_at(text, len, at) : 0;
    ret->month = month_at(text, len, at, &n);
    return ret->month ? year_at(text, len, at + n, &ret->year) : 0;
}

/* "March 14, 2024" */
static size_t month_day_year(const char *text, size_t len, size_t at, struct ymd *ret)
{
    size_t n = 0;

    ret->month = month_at(text, len, at, &n);
    if (ret->month == 0) {
        return 0;
    }
    at += n;
    const size_t skip = blanks_at(text, len, at);
    n = read_int(text, len, at + skip, 2, &ret->day);
    if (skip == 0 || n == 0) {
        return 0;
    }
    at += skip + n;
    const char *suffix = at + 2 < len ? text + at : "  ";
    if (memcmp(suffix, "st", 2) == 0 || memcmp(suffix, "nd", 2) == 0 ||
        memcmp(suffix, "rd", 2) == 0 || memcmp(suffix, "th", 2) == 0) {
        at += 2;
    }
    int year = 0;
    const size_t end = year_at(text, len, at, &year);
    ret->year = year;
    return end;
}

static size_t compact(const char *text, size_t len, size_t at, struct ymd *ret)
{
    int all = 0;

    if (read_int(text, len, at, 8, &all) != 8) {
        return 0;
    }
    *ret = (struct ymd){all / 10000, all / 100 % 100, all % 100};
    return ymd_real(*ret) ? at + 8 : 0;
}

/* Which of two numbers is the day? Sets *ret, and *other when both readings are real. */
static bool settle(int a, int b, int year, char mark, const struct locale_hint *hint,
                   struct ymd *ret, struct ymd *other)
{
    const struct ymd dmy = {year, b, a};
    const struct ymd mdy = {year, a, b};

    *other = (struct ymd){0};
    if (!ymd_real(dmy) || !ymd_real(mdy)) {
        *ret = ymd_real(dmy) ? dmy : mdy;
        return ymd_real(*ret);
    }
    if (hint->order == DATE_ORDER_MDY && mark != '.') {
        *ret = mdy;
        return true;
    }
    *ret = dmy;
    if (a != b && mark != '.' && hint->order != DATE_ORDER_DMY) {
        *other = mdy;
    }
    return true;
}

static size_t numeric(const char *text, size_t len, size_t at, const struct locale_hint *hint,
                      struct ymd *ret, struct ymd *other)
{
    int v[3];
    size_t n[3];
    char marks[2];

    for (size_t i = 0; i < 3; i++) {
        n[i] = read_int(text, len, at, i == 1 ? 2 : 4, &v[i]);
        if (n[i] == 0) {
            return 0;
        }
        at += n[i];
        if (i < 2) {
            const size_t mark = mark_at(text, len, at, &marks[i]);
            if (mark == 0) {
                return 0;
            }
            at += mark;
        }
    }
    if (marks[0] != marks[1]) {
        return 0;
    }
    if (n[0] == 4) {
        *ret = (struct ymd){v[0], v[1], v[2]};
        return n[2] <= 2 && ymd_real(*ret) ? at : 0;
    }
    if (n[0] > 2 || (n[2] != 2 && n[2] != 4)) {
        return 0;
    }
    if (hint->order == DATE_ORDER_YMD && n[2] == 2) {
        *ret = (struct ymd){full_year(v[0], 2), v[1], v[2]};
        return ymd_real(*ret) ? at : 0;
    }
    return settle(v[0], v[1], full_year(v[2], n[2]), marks[0], hint, ret, other) ? at : 0;
}

static bool starts_clean(const char *text, size_t at)
{
    if (at == 0) {
        return true;
    }
    const char before = text[at - 1];
    if (is_digit(before) || is_word_byte(before)) {
        return false;
    }
    const bool mark = before == '.' || before == '/' || before == '-' || before == ',';
    return !(mark && at >= 2 &&
             (is_digit(text[at - 2]) || (before == '-' && is_word_byte(text[at - 2]))));
}

static bool ends_clean(const char *text, size_t len, size_t end)
{
    const char next = char_at(text, len, end);
    const char more = char_at(text, len, end + 1);

    if (next == 'T') {
        return is_digit(more);
    }
    return !is_digit(next) && !is_word_byte(next) &&
           !((next == '/' || next == '-' || next == '.') && is_digit(more));
}

/* --- times ------------------------------------------------------------------------------------ */

struct clock {
    int h, m, s;
    char zone[12];
};

static size_t zone_at(const char *text, size_t len, size_t at, char *ret, size_t size)
{
    int h = 0;
    int m = 0;

    if (char_at(text, len, at) == 'Z') {
        (void)snprintf(ret, size, "Z");
        return 1;
    }
    const char sign = char_at(text, len, at);
    if ((sign != '+' && sign != '-') || read_int(text, len, at + 1, 2, &h) != 2 ||
        char_at(text, len, at + 3) != ':' || read_int(text, len, at + 4, 2, &m) != 2 || h > 14 ||
        m > 59) {
        return 0;
    }
    (void)snprintf(ret, size, "%c%02d:%02d", sign, h % 100, m % 100);
    return 6;
}

static size_t half_day_at(const char *text, size_t len, size_t at, int *hour)
{
    const size_t skip = char_at(text, len, at) == ' ';
    const char c = char_at(text, len, at + skip);
    const char m = char_at(text, len, at + skip + 1);

    if ((c != 'a' && c != 'A' && c != 'p' && c != 'P') || (m != 'm' && m != 'M') || *hour > 12 ||
        *hour < 1) {
        return 0;
    }
    *hour = *hour % 12 + (c == 'p' || c == 'P' ? 12 : 0);
    return skip + 2;
}

static size_t time_at(const char *text, size_t len, size_t at, struct clock *ret)
{
    size_t skip = 0;

    while (skip < 3 && char_at(text, len, at + skip) &&
           strchr(" ,T", char_at(text, len, at + skip))) {
        skip++;
    }
    size_t n = read_int(text, len, at + skip, 2, &ret->h);
    const size_t minute = at + skip + n + 1;
    if (skip == 0 || n == 0 || char_at(text, len, minute - 1) != ':' ||
        read_int(text, len, minute, 2, &ret->m) != 2) {
        return 0;
    }
    size_t end = minute + 2;
    if (char_at(text, len, end) == ':' && read_int(text, len, end + 1, 2, &ret->s) == 2) {
        end += 3;
    }
    end += half_day_at(text, len, end, &ret->h);
    end += zone_at(text, len, end, ret->zone, sizeof(ret->zone));
    return ret->h < 24 && ret->m < 60 && ret->s < 60 ? end : 0;
}

static size_t add_time(const char *text, size_t len, size_t end, struct value *value)
{
    struct clock clock = {.h = 0};
    const size_t time_end = time_at(text, len, end, &clock);

    if (time_end == 0) {
        return 0;
    }
    char tail[24];
    (void)snprintf(tail, sizeof(tail), "T%02d:%02d:%02d%.6s", clock.h % 100, clock.m % 100,
                   clock.s % 100, clock.zone);
    (void)snprintf(value->text + 10, sizeof(value->text) - 10, "%s", tail);
    if (value->other[0]) {
        (void)snprintf(value->other + 10, sizeof(value->other) - 10, "%s", tail);
    }
    return time_end;
}

size_t date_at(const char *text, size_t len, size_t at, bool with_time,
               const struct locale_hint *hint, struct value *ret)
{
    struct value value = {.type = with_time ? COLUMN_DATETIME : COLUMN_DATE};
    struct ymd date = {0};
    struct ymd other = {0};
    size_t end = 0;

    if (at >= len || !starts_clean(text, at)) {
        return 0;
    }
    if (is_digit(text[at])) {
        end = numeric(text, len, at, hint, &date, &other);
        if (end == 0) {
            end = day_month_year(text, len, at, &date);
        }
        if (end == 0) {
            end = compact(text, len, at, &date);
            value.flags |= end ? VALUE_COMPACT : 0;
        }
    } else {
        end = month_day_year(text, len, at, &date);
    }
    if (end == 0 || !ymd_real(date) || !ends_clean(text, len, end)) {
        return 0;
    }
    ymd_write(date, value.text, sizeof(value.text));
    if (other.year) {
        value.flags |= VALUE_TWO_READINGS;
        ymd_write(other, value.other, sizeof(value.other));
    }
    if (with_time) {
        end = add_time(text, len, end, &value);
        if (end == 0) {
            return 0;
        }
    }
    *ret = value;
    return end;
}

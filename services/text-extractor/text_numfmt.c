/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spreadsheet format codes. A code has up to four sections (positive; negative; zero; text) of
 * digit places, date fields, literals and brackets with colours, conditions and currencies.
 * Invariant: output goes through one bounded writer.
 */
#include "services/text-extractor/text_numfmt.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define SECTION_MAX 256
#define DIGITS_MAX 400

struct writer {
    char *buf;
    size_t size, len;
};

/* clang-format off */
static const struct {
    int id;
    const char *code;
} builtin[] = {
    {1, "0"}, {2, "0.00"}, {3, "#,##0"}, {4, "#,##0.00"}, {9, "0%"}, {10, "0.00%"},
    {11, "0.00E+00"}, {14, "yyyy-mm-dd"}, {15, "d-mmm-yy"}, {16, "d-mmm"}, {17, "mmm-yy"},
    {18, "h:mm AM/PM"}, {19, "h:mm:ss AM/PM"}, {20, "h:mm"}, {21, "h:mm:ss"},
    {22, "yyyy-mm-dd h:mm"}, {37, "#,##0;(#,##0)"}, {38, "#,##0;(#,##0)"},
    {39, "#,##0.00;(#,##0.00)"}, {40, "#,##0.00;(#,##0.00)"}, {41, "#,##0;(#,##0);-"},
    {42, "$#,##0;($#,##0);$-"}, {43, "#,##0.00;(#,##0.00);-"}, {44, "$#,##0.00;($#,##0.00);$-"},
    {45, "mm:ss"}, {46, "[h]:mm:ss"}, {47, "mm:ss.0"}, {48, "0.0E+0"}, {49, "@"},
};
/* clang-format on */

const char *numfmt_builtin(int64_t id)
{
    for (size_t i = 0; i < ARRAY_LEN(builtin); i++) {
        if (builtin[i].id == id) {
            return builtin[i].code;
        }
    }
    /* East Asian dates, whose look depends on the machine. */
    return (id >= 27 && id <= 36) || (id >= 50 && id <= 58) ? "yyyy-mm-dd" : NULL;
}

static void put(struct writer *w, const char *s, size_t len)
{
    size_t n = min_size(len, w->size - 1 - w->len);

    memcpy(w->buf + w->len, s, n);
    w->len += n;
    w->buf[w->len] = '\0';
}

static void put_char(struct writer *w, char c)
{
    put(w, &c, 1);
}

static void put_general(struct writer *w, double value)
{
    char text[64];

    if (fabs(value) < 1e15 && value == floor(value)) {
        (void)snprintf(text, sizeof(text), "%.0f", value == 0.0 ? 0.0 : value);
    } else {
        (void)snprintf(text, sizeof(text), "%.15g", value);
    }
    put(w, text, strlen(text));
}

/* Length of the unit at s: an escape, a quoted text, a bracket, a padding or one byte. */
static size_t unit_len(const char *s)
{
    if ((*s == '\\' || *s == '_' || *s == '*') && s[1]) {
        size_t n = 2;

        while (((unsigned char)s[n] & 0xc0) == 0x80) {
            n++;
        }
        return n;
    }
    if (*s == '"') {
        const char *end = strchr(s + 1, '"');
        return end ? (size_t)(end - s) + 1 : strlen(s);
    }
    if (*s == '[') {
        const char *end = strchr(s, ']');
        return end ? (size_t)(end - s) + 1 : strlen(s);
    }
    return 1;
}

static bool is_elapsed(const char *unit, size_t len)
{
    return len >= 3 && *unit == '[' && strchr("hmsHMS", unit[1]) && unit[1] == unit[len - 2];
}

/* Copies section n; false if the code has fewer. */
static bool section(const char *code, unsigned n, char *ret, size_t size)
{
    const char *start = code;
    const char *p = code;

    for (;; p += unit_len(p)) {
        if (*p == ';' || *p == '\0') {
            if (n == 0) {
                size_t len = min_size((size_t)(p - start), size - 1);

                memcpy(ret, start, len);
                ret[len] = '\0';
                return true;
            }
            if (*p == '\0') {
                return false;
            }
            n--;
            start = p + 1;
        }
    }
}

static bool is_date(const char *code)
{
    for (const char *p = code; *p; p += unit_len(p)) {
        if (strchr("ymdhsYMDHS", *p) || is_elapsed(p, unit_len(p))) {
            return true;
        }
    }
    return false;
}

/* Literals of a section: escapes, quotes, currency in brackets. */
static void put_literal(struct writer *w, const char *unit, size_t len)
{
    if (*unit == '\\' && len > 1) {
        put(w, unit + 1, len - 1);
    } else if (*unit == '"' && len >= 2) {
        put(w, unit + 1, len - 2);
    } else if (*unit == '_') {
        put_char(w, ' ');
    } else if (*unit == '[' && len > 2 && unit[1] == '$') {
        size_t n = 0;

        while (n < len - 3 && unit[2 + n] != '-') {
            n++;
        }
        put(w, unit + 2, n);
    } else if (*unit != '[' && *unit != '*' && *unit != '\\' && *unit != '"') {
        put(w, unit, len);
    }
}

/* --- dates --------------------------------------------------------------------------------------
 */

struct moment {
    int year, month, day, weekday, hour, minute, second;
    double days;     /* since the epoch of the file */
    double fraction; /* of the second */
};

static bool moment_of(double value, bool date1904, struct moment *ret)
{
    double days = floor(value + 1e-9);
    double seconds = (value - days) * 86400.0;
    struct tm tm;
    time_t t;

    if (!(value >= 0.0 && value < 2958466.0)) {
        return false;
    }
    seconds = seconds < 0.0 ? 0.0 : seconds;
    /* Half a millisecond up, so that 11:59:59.9999 is noon. */
    seconds = floor(seconds * 1000.0 + 0.5) / 1000.0;
    /* 1900 counts a 29 February that never was. */
    double since = days - (date1904 ? 24107.0 : days < 60.0 ? 25568.0 : 25569.0);
    t = (time_t)(since * 86400.0 + floor(seconds));
    if (!gmtime_r(&t, &tm)) {
        return false;
    }
    *ret = (struct moment){tm.tm_year + 1900, tm.tm_mon,  tm.tm_mday,
                           tm.tm_wday,        tm.tm_hour, tm.tm_min,
                           tm.tm_sec,         value,      seconds - floor(seconds)};
    return true;
}

/* Whether the m at p means minutes: hours come before it or seconds after it. */
static bool means_minutes(const char *code, const char *p, size_t run)
{
    char before = 0;
    const char *after = p + run;

    for (const char *q = code; q < p; q += unit_len(q)) {
        if (strchr("ymdhsYMDHS", *q)) {
            before = (char)tolower((unsigned char)*q);
        } else if (is_elapsed(q, unit_len(q))) {
            before = (char)tolower((unsigned char)q[1]);
        }
    }
    while (*after && !strchr("ymdhsYMDHS", *after)) {
        after += unit_len(after);
    }
    return run <= 2 && (before == 'h' || *after == 's' || *after == 'S');
}

static void put_int(struct writer *w, int value, size_t width)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%0*d", width > 1 ? 2 : 1, value);
    put(w, text, strlen(text));
}

static void put_field(struct writer *w, char field, size_t run, bool minutes, bool half_days,
                      const struct moment *m)
{
    static const char *const months[] = {"January",   "February", "March",    "April",
                                         "May",       "June",     "July",     "August",
                                         "September", "October",  "November", "December"};
    static const char *const week[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                       "Thursday", "Friday", "Saturday"};
    char text[24];

    switch (field) {
    case 'y':
        (void)snprintf(text, sizeof(text), run > 2 ? "%04d" : "%02d",
                       run > 2 ? m->year : m->year % 100);
        put(w, text, strlen(text));
        break;
    case 'm':
        if (minutes) {
            put_int(w, m->minute, run);
        } else if (run >= 3) {
            put(w, months[m->month], run == 3 ? 3 : run == 5 ? 1 : strlen(months[m->month]));
        } else {
            put_int(w, m->month + 1, run);
        }
        break;
    case 'd':
        if (run >= 3) {
            put(w, week[m->weekday], run == 3 ? 3 : strlen(week[m->weekday]));
        } else {
            put_int(w, m->day, run);
        }
        break;
    case 'h':
        put_int(w, half_days ? (m->hour + 11) % 12 + 1 : m->hour, run);
        break;
    default:
        put_int(w, m->second, run);
        break;
    }
}

static void put_elapsed(struct writer *w, char unit, const struct moment *m)
{
    double seconds = floor(m->days * 86400.0 + 0.5);
    char text[32];

    (void)snprintf(text, sizeof(text), "%.0f",
                   floor(unit == 'h'   ? seconds / 3600
                         : unit == 'm' ? seconds / 60
                                       : seconds));
    put(w, text, strlen(text));
}

static size_t same_run(const char *p)
{
    size_t n = 1;

    while (tolower((unsigned char)p[n]) == tolower((unsigned char)*p)) {
        n++;
    }
    return n;
}

static void put_date(struct writer *w, const char *code, const struct moment *m)
{
    bool half_days = strcasestr(code, "am/pm") || strcasestr(code, "a/p");

    for (const char *p = code; *p;) {
        char c = (char)tolower((unsigned char)*p);
        size_t n = unit_len(p);

        if (strchr("ymdhs", c)) {
            n = same_run(p);
            put_field(w, c, n, c == 'm' && means_minutes(code, p, n), half_days, m);
        } else if (is_elapsed(p, n)) {
            put_elapsed(w, (char)tolower((unsigned char)p[1]), m);
        } else if (!strncasecmp(p, "am/pm", 5)) {
            put(w, m->hour < 12 ? "AM" : "PM", 2);
            n = 5;
        } else if (!strncasecmp(p, "a/p", 3)) {
            put(w, m->hour < 12 ? "A" : "P", 1);
            n = 3;
        } else if (*p == '.' && p[1] == '0') {
            char text[16];

            n = 1 + strspn(p + 1, "0");
            (void)snprintf(text, sizeof(text), "%.3f", m->fraction);
            put(w, text + 1, min_size(n, 4));
        } else {
            put_literal(w, p, n);
        }
        p += n;
    }
}

/* --- numbers ------------------------------------------------------------------------------------
 */

struct places {
    unsigned whole;    /* digit places before the point */
    unsigned zeros;    /* of these, the ones always written */
    unsigned decimals; /* places after the point */
    unsigned fixed;    /* of these, the ones always written */
    unsigned percent;
    unsigned thousands; /* commas at the end: divide by 1000 each */
    bool grouped;
    bool exponent, fraction;
};

static bool is_place(char c)
{
    return c == '0' || c == '#' || c == '?';
}

static struct places places_of(const char *code)
{
    struct places places = {0};
    bool point = false;

    for (const char *p = code; *p; p += unit_len(p)) {
        if (is_place(*p) && !point) {
            places.whole++;
            places.zeros += *p == '0';
            places.grouped = places.grouped || places.thousands > 0;
            places.thousands = 0;
        } else if (is_place(*p)) {
            places.decimals++;
            places.fixed += *p == '0';
            places.thousands = 0;
        } else if (*p == '.') {
            point = true;
        } else if (*p == ',' && places.whole > 0) {
            places.thousands++;
        } else if (*p == '%') {
            places.percent++;
        } else if ((*p == 'E' || *p == 'e') && (p[1] == '+' || p[1] == '-')) {
            places.exponent = true;
            return places;
        } else if (*p == '/' && places.whole > 0) {
            places.fraction = true;
        }
    }
    return places;
}

/* Writes the digits that belong to the n-th place before the point; the first place takes all that
 * have none of their own. */
static void put_whole(struct writer *w, const char *digits, size_t len, const struct places *places,
                      unsigned n)
{
    size_t left = places->whole - n; /* places from here on */
    size_t from = n == 0 ? 0 : len > left ? len - left : 0;
    size_t to = len >= left ? len - left + 1 : 0;

    for (size_t i = from; i < to && i < len; i++) {
        size_t rest = len - i - 1;

        put_char(w, digits[i]);
        if (places->grouped && rest > 0 && rest % 3 == 0) {
            put_char(w, ',');
        }
    }
}

static void put_decimals(struct writer *w, const char *decimals, const struct places *places)
{
    size_t n = strlen(decimals);

    while (n > places->fixed && decimals[n - 1] == '0') {
        n--;
    }
    if (n > 0) {
        put_char(w, '.');
        put(w, decimals, n);
    }
}

/* Half away from zero, as sheets round; printf would take the even neighbour. */
static double rounded(double value, unsigned decimals)
{
    double scale = pow(10.0, decimals);

    return fabs(value) * scale < 1e15 ? round(value * scale) / scale : value;
}

static void put_digits(struct writer *w, const char *code, double value)
{
    struct places places = places_of(code);
    char text[DIGITS_MAX];
    char *decimals;
    unsigned n = 0;
    size_t pad;

    for (unsigned i = 0; i < places.percent && i < 3; i++) {
        value *= 100.0;
    }
    for (unsigned i = 0; i < places.thousands && i < 5; i++) {
        value /= 1000.0;
    }
    /* Room for the zeros a code asks for before the digits. */
    pad = min_size(places.zeros, 32);
    (void)snprintf(text, sizeof(text), "%0*.*f",
                   (int)(pad + (places.decimals ? places.decimals + 1 : 0)),
                   (int)min_size(places.decimals, 30), rounded(fabs(value), places.decimals));
    decimals = strchr(text, '.');
    if (decimals) {
        *decimals++ = '\0';
    }
    if (places.zeros == 0 && !strcmp(text, "0")) {
        text[0] = '\0';
    }
    for (const char *p = code; *p; p += unit_len(p)) {
        if (is_place(*p)) {
            if (n < places.whole) {
                put_whole(w, text, strlen(text), &places, n);
            }
            n++;
        } else if (*p == '.' && decimals) {
            put_decimals(w, decimals, &places);
        } else if (*p != ',' && *p != '.') {
            put_literal(w, p, unit_len(p));
        }
    }
}

static void put_number(struct writer *w, const char *code, double value)
{
    struct places places = places_of(code);
    char text[64];

    if (places.exponent) {
        (void)snprintf(text, sizeof(text), "%.*E", (int)min_size(places.decimals, 20), value);
        put(w, text, strlen(text));
    } else if (places.fraction) {
        put_general(w, value);
    } else if (places.whole == 0 && places.decimals == 0) {
        for (const char *p = code; *p; p += unit_len(p)) {
            if (*p == '@' || !strncasecmp(p, "general", 7)) {
                put_general(w, value);
                p += *p == '@' ? 0 : 6;
            } else {
                put_literal(w, p, unit_len(p));
            }
        }
    } else {
        put_digits(w, code, value);
    }
}

void numfmt_number(const char *code, double value, bool date1904, char *buf, size_t size)
{
    struct writer w = {.buf = buf, .size = size};
    char part[SECTION_MAX];
    char unused[SECTION_MAX];
    struct moment moment;
    bool own_sign = false;

    buf[0] = '\0';
    if (!code || !*code || !strcasecmp(code, "general") || !isfinite(value) ||
        !section(code, 0, part, sizeof(part))) {
        put_general(&w, value);
        return;
    }
    if (value < 0.0 && section(code, 1, unused, sizeof(unused))) {
        memcpy(part, unused, sizeof(part));
        own_sign = true;
    } else if (value == 0.0 && section(code, 2, unused, sizeof(unused))) {
        memcpy(part, unused, sizeof(part));
    }
    if (is_date(part) && !strcasestr(part, "general")) {
        if (moment_of(value, date1904, &moment)) {
            put_date(&w, part, &moment);
        } else {
            put_general(&w, value);
        }
        return;
    }
    if (value < 0.0 && !own_sign) {
        put_char(&w, '-');
    }
    put_number(&w, part, own_sign || value < 0.0 ? fabs(value) : value);
}

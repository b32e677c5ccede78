/* SPDX-License-Identifier: Apache-2.0 */
#include "libcommon/cron.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define DAYS_MAX (8 * 366) /* a 29 February can be eight years away */

static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun",
                                          "jul", "aug", "sep", "oct", "nov", "dec"};
static const char *const day_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

struct field {
    const char *name;
    int min, max;
    const char *const *names; /* of min, min + 1, ..; or NULL */
    size_t n_names;
};

static const struct field fields[] = {
    {"minute", 0, 59, NULL, 0},
    {"hour", 0, 23, NULL, 0},
    {"day of the month", 1, 31, NULL, 0},
    {"month", 1, 12, month_names, ARRAY_LEN(month_names)},
    {"day of the week", 0, 7, day_names, ARRAY_LEN(day_names)},
};

static int bad(const struct field *f, const char *why, struct err *err)
{
    return err_set(err, ERR_PERMANENT, "invalid_value", "the field for the %s %s", f->name, why);
}

/* A number or a name at *p, which moves past it. */
static int read_value(const struct field *f, const char **p, int *ret_value, struct err *err)
{
    int value = 0;
    size_t digits = strspn(*p, "0123456789");

    for (size_t i = 0; i < f->n_names; i++) {
        if (strncasecmp(*p, f->names[i], 3) == 0) {
            *p += 3;
            *ret_value = f->min + (int)i;
            return 0;
        }
    }
    if (digits == 0 || digits > 3) {
        return bad(f, "holds something that is no number", err);
    }
    for (size_t i = 0; i < digits; i++) {
        value = value * 10 + (**p - '0');
        (*p)++;
    }
    *ret_value = value;
    return 0;
}

/* One piece of a list: a star, value or range, and a step. */
static int read_piece(const struct field *f, const char **p, uint64_t *bits, struct err *err)
{
    int from = f->min, to = f->max, step = 1;
    bool star = **p == '*';

    if (star) {
        (*p)++;
    } else {
        if (read_value(f, p, &from, err) < 0) {
            return -1;
        }
        to = from;
        if (**p == '-') {
            (*p)++;
            if (read_value(f, p, &to, err) < 0) {
                return -1;
            }
        }
    }
    if (**p == '/') {
        (*p)++;
        if (!star && to == from) {
            to = f->max; /* "5/15": from 5 on */
        }
        if (read_value(f, p, &step, err) < 0) {
            return -1;
        }
    }
    if (from < f->min || to > f->max || from > to) {
        return bad(f, "is out of range", err);
    }
    if (step < 1) {
        return bad(f, "has a step of zero", err);
    }
    for (int i = from; i <= to; i += step) {
        *bits |= UINT64_C(1) << i;
    }
    return 0;
}

static int read_field(const struct field *f, const char **p, uint64_t *ret_bits, struct err *err)
{
    uint64_t bits = 0;

    for (;;) {
        if (read_piece(f, p, &bits, err) < 0) {
            return -1;
        }
        if (**p != ',') {
            break;
        }
        (*p)++;
    }
    if (**p != '\0' && **p != ' ' && **p != '\t') {
        return bad(f, "holds something that does not belong there", err);
    }
    *ret_bits = bits;
    return 0;
}

int cron_parse(const char *text, struct cron *ret_cron, struct err *err)
{
    struct cron cron = {0};
    uint64_t bits[ARRAY_LEN(fields)];
    bool star[ARRAY_LEN(fields)];
    const char *p = text;

    if (strlen(text) > CRON_TEXT_MAX) {
        return err_set(err, ERR_PERMANENT, "invalid_value", "the schedule is too long");
    }
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        p += strspn(p, " \t");
        if (*p == '\0') {
            return err_set(err, ERR_PERMANENT, "invalid_value",
                           "a schedule has five fields: minute, hour, day of the month, month, day"
                           " of the week");
        }
        star[i] = *p == '*';
        if (read_field(&fields[i], &p, &bits[i], err) < 0) {
            return -1;
        }
    }
    if (p[strspn(p, " \t")] != '\0') {
        return err_set(err, ERR_PERMANENT, "invalid_value", "a schedule has five fields, not more");
    }
    cron.minutes = bits[0];
    cron.hours = (uint32_t)bits[1];
    cron.days = (uint32_t)bits[2];
    cron.months = (uint32_t)bits[3];
    cron.weekdays = (uint32_t)((bits[4] | (bits[4] >> 7)) & 0x7F); /* 7 is Sunday, too */
    cron.any_day = star[2];
    cron.any_weekday = star[4];
    *ret_cron = cron;
    return 0;
}

static int days_in(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

/* 0 is Sunday. */
static int weekday_of(int year, int month, int day)
{
    static const int offsets[] = {0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4};
    int y = month < 3 ? year - 1 : year;

    return (y + y / 4 - y / 100 + y / 400 + offsets[month - 1] + day) % 7;
}

static bool day_matches(const struct cron *cron, const struct cron_time *t)
{
    bool by_day = (cron->days >> t->day) & 1;
    bool by_weekday = (cron->weekdays >> weekday_of(t->year, t->month, t->day)) & 1;

    if (!((cron->months >> t->month) & 1)) {
        return false;
    }
    return cron->any_day || cron->any_weekday ? by_day && by_weekday : by_day || by_weekday;
}

static void next_day(struct cron_time *t)
{
    t->hour = 0;
    t->minute = 0;
    if (++t->day > days_in(t->year, t->month)) {
        t->day = 1;
        if (++t->month > 12) {
            t->month = 1;
            t->year++;
        }
    }
}

bool cron_next(const struct cron *cron, const struct cron_time *after, struct cron_time *ret_next)
{
    struct cron_time t = *after;

    t.minute++; /* 60 matches nothing and ends the hour below */
    for (int i = 0; i < DAYS_MAX; i++) {
        for (; day_matches(cron, &t) && t.hour < 24; t.hour++, t.minute = 0) {
            for (; ((cron->hours >> t.hour) & 1) && t.minute < 60; t.minute++) {
                if ((cron->minutes >> t.minute) & 1) {
                    *ret_next = t;
                    return true;
                }
            }
        }
        next_day(&t);
    }
    return false;
}

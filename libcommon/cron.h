/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Schedules of five fields: minute, hour, day of the month, month, day of the week. Civil time
 * alone; which moment that is in a time zone, the caller finds out.
 * Invariant: a schedule that was parsed has a next time within eight years, or says that it never
 * comes.
 * Refuses @daily and the like, seconds and years.
 */
#pragma once

#include "libcommon/err.h"

#define CRON_TEXT_MAX 100U

struct cron {
    uint64_t minutes;
    uint32_t hours, days, months, weekdays; /* bit n: n; of weekdays 0 is Sunday */
    bool any_day, any_weekday;              /* the field began with * */
};

struct cron_time {
    int year, month, day, hour, minute; /* month and day from 1 */
};

/* Fields take *, numbers, ranges, lists, steps, and the English names of months and days, three
 * letters. A day matches by either day field when both are given, as cron does. ERR_PERMANENT
 * "invalid_value" with a reason in plain words. */
int cron_parse(const char *text, struct cron *ret_cron, struct err *err) WARN_UNUSED;

/* The first matching minute after `after`; false: none within eight years (30 February). */
bool cron_next(const struct cron *cron, const struct cron_time *after, struct cron_time *ret_next);

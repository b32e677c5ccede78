/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers as a spreadsheet shows them: its format codes, read for what matters in text.
 * Invariant: any code and any value give some text, at worst the plain number; nothing is written
 * beyond size. It refuses to know locales: dates whose order the machine would choose come out as
 * year-month-day.
 */
#pragma once

#include "libcommon/base.h"

/* The code of a number that stands for one (0: General ...); NULL for numbers a file defines. */
const char *numfmt_builtin(int64_t id);
/* Formats value by code (NULL or "General": shortest form). date1904: days count from 1904. */
void numfmt_number(const char *code, double value, bool date1904, char *buf, size_t size);

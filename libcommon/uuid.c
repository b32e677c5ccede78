/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 48 bits of milliseconds, 12 bits of a counter within the millisecond, 62 random bits.
 */
#include "libcommon/uuid.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t last_ms;
static unsigned counter;

void uuid_v7(char ret_text[UUID_TEXT])
{
    uint8_t r[8];
    uint64_t ms = (uint64_t)clock_wall_ms();
    unsigned n;

    while (getrandom(r, sizeof(r), 0) != (ssize_t)sizeof(r)) {
    }
    pthread_mutex_lock(&lock);
    if (ms > last_ms) {
        last_ms = ms;
        counter = 0;
    } else if (++counter > 0xfff) { /* clock went back or 4,096 ids in one millisecond */
        last_ms++;
        counter = 0;
    }
    ms = last_ms;
    n = counter;
    pthread_mutex_unlock(&lock);
    snprintf(ret_text, UUID_TEXT, "%08x-%04x-7%03x-%02x%02x-%02x%02x%02x%02x%02x%02x",
             (unsigned)(ms >> 16), (unsigned)(ms & 0xffff), n, (r[0] & 0x3fU) | 0x80U, r[1], r[2],
             r[3], r[4], r[5], r[6], r[7]);
}

bool uuid_valid(const char *text)
{
    if (!text || strlen(text) != UUID_TEXT - 1) {
        return false;
    }
    for (size_t i = 0; i < UUID_TEXT - 1; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !isxdigit((unsigned char)text[i])) {
            return false;
        }
    }
    return true;
}

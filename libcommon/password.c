/* SPDX-License-Identifier: Apache-2.0 */
#include "libcommon/password.h"

#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

_Static_assert(PASSWORD_HASH_SIZE >= crypto_pwhash_STRBYTES, "a hash fits");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t freed = PTHREAD_COND_INITIALIZER;
static unsigned running;
static unsigned waiting;

/* A hash nobody's password has, of the same cost: for accounts that are not there. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static char nobody[PASSWORD_HASH_SIZE];
static bool ready;

static void prepare(void)
{
    unsigned char random[32];
    char text[65];

    if (sodium_init() < 0) {
        return;
    }
    randombytes_buf(random, sizeof(random));
    sodium_bin2hex(text, sizeof(text), random, sizeof(random));
    ready = crypto_pwhash_str(nobody, text, strlen(text), PASSWORD_OPS, PASSWORD_MEMORY) == 0;
}

static int enter(struct err *err)
{
    pthread_mutex_lock(&lock);
    if (running >= PASSWORD_AT_ONCE && waiting >= PASSWORD_WAITING) {
        pthread_mutex_unlock(&lock);
        return err_set(err, ERR_TRANSIENT, "overloaded", "too many sign-ins at once");
    }
    waiting++;
    while (running >= PASSWORD_AT_ONCE) {
        pthread_cond_wait(&freed, &lock);
    }
    waiting--;
    running++;
    pthread_mutex_unlock(&lock);
    pthread_once(&once, prepare);
    return 0;
}

static void leave(void)
{
    pthread_mutex_lock(&lock);
    running--;
    pthread_cond_signal(&freed);
    pthread_mutex_unlock(&lock);
}

/* Characters of valid UTF-8 without controls; -1 for anything else. */
static int64_t count_characters(const char *text)
{
    int64_t n = 0;

    for (const unsigned char *s = (const unsigned char *)text; *s != '\0';) {
        unsigned more = *s < 0x80              ? 0
                        : (*s & 0xe0U) == 0xc0 ? 1
                        : (*s & 0xf0U) == 0xe0 ? 2
                        : (*s & 0xf8U) == 0xf0 ? 3
                                               : 9;
        if (more > 3 || *s < 0x20 || *s == 0x7f) {
            return -1;
        }
        s++;
        for (; more > 0; more--, s++) {
            if ((*s & 0xc0U) != 0x80) {
                return -1;
            }
        }
        n++;
    }
    return n;
}

static bool few_letters(const char *text)
{
    for (const char *s = text; *s != '\0'; s++) {
        if (*s != text[0] && *s != text[1]) {
            return false;
        }
    }
    return true;
}

int password_check(const char *password, size_t min, const char *account, struct err *err)
{
    int64_t n = strlen(password) <= PASSWORD_BYTES_MAX ? count_characters(password) : -1;

    if (n < 0) {
        return err_set(err, ERR_PERMANENT, "weak_password",
                       "a password is at most %u bytes of text without control characters",
                       PASSWORD_BYTES_MAX);
    }
    if ((size_t)n < min) {
        return err_set(err, ERR_PERMANENT, "weak_password",
                       "a password has at least %zu characters", min);
    }
    if (account && strcasecmp(password, account) == 0) {
        return err_set(err, ERR_PERMANENT, "weak_password", "a password is not the account's name");
    }
    if (few_letters(password)) {
        return err_set(err, ERR_PERMANENT, "weak_password",
                       "a password is more than the same characters over and over");
    }
    return 0;
}

int password_hash(const char *password, char ret_hash[PASSWORD_HASH_SIZE], struct err *err)
{
    if (enter(err) < 0) {
        return -1;
    }
    int rc = ready ? crypto_pwhash_str(ret_hash, password, strlen(password), PASSWORD_OPS,
                                       PASSWORD_MEMORY)
                   : -1;
    leave();
    return rc == 0 ? 0 : err_nomem(err);
}

int password_verify(const char *hash, const char *password, bool *ret_right, bool *ret_stale,
                    struct err *err)
{
    if (enter(err) < 0) {
        return -1;
    }
    if (!ready) {
        leave();
        return err_nomem(err);
    }
    int rc = crypto_pwhash_str_verify(hash ? hash : nobody, password, strlen(password));
    leave();
    *ret_right = rc == 0 && hash != NULL;
    if (ret_stale) {
        *ret_stale =
            hash && crypto_pwhash_str_needs_rehash(hash, PASSWORD_OPS, PASSWORD_MEMORY) != 0;
    }
    return 0;
}

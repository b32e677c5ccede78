/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two parts of the store's contract share: one open store, the keys of this run, a block
 * of bytes, and assertions on calls that name an error.
 */
#pragma once

#include "libcommon/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define MIB ((size_t)1 << 20)

struct store_world {
    struct store_config config;
    struct store *store;
    char prefix[64]; /* of all keys of this run */
    atomic_bool stop;
    char *block; /* 1 MiB of bytes that do not repeat in step with a part */
};
extern struct store_world world;

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        struct err ok_err_ = ERR_INIT;                                                             \
        struct err *e = &ok_err_;                                                                  \
        if ((call) != 0) {                                                                         \
            fail_msg("%s: %s %s: %s", #call, err_class_name(e->class), e->code, e->msg);           \
        }                                                                                          \
    } while (0)

#define assert_fails(call, want_class, want_code)                                                  \
    do {                                                                                           \
        struct err fail_err_ = ERR_INIT;                                                           \
        struct err *e = &fail_err_;                                                                \
        assert_int_equal((call), -1);                                                              \
        if (e->class != (want_class) || strcmp(e->code, (want_code)) != 0) {                       \
            fail_msg("%s: %s %s: %s", #call, err_class_name(e->class), e->code, e->msg);           \
        }                                                                                          \
    } while (0)

/* A key of this run; four of them are good at a time. */
const char *key_of(const char *name);
bool can(unsigned cap);
void put_text(const char *key, const char *text);
/* A file without a name of so many MiB, and its SHA-256. The caller closes it. */
int temp_file(size_t mib, char sha[SHA256_HEX_SIZE]);
/* An upload of at most so many MiB, with the first ones written. The caller frees it. */
struct store_upload *begun(const char *key, size_t max_mib, size_t mib);

/* store_contract_upload.c */
void test_put_fd(void **state);
void test_put_large_fd(void **state);
void test_upload(void **state);
void test_upload_memory(void **state);
void test_upload_dropped(void **state);
void test_upload_too_large(void **state);
void test_abort_flag(void **state);
void test_upload_of_the_dead(void **state);

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What db.c (the pool) and db_query.c (statements) share.
 */
#pragma once

#include "libcommon/db.h"

#include <pthread.h>

#define DB_PREPARED_MAX 256U

struct db_conn {
    struct db *db;
    PGconn *pg;
    bool broken;
    const char *prepared[DB_PREPARED_MAX]; /* open addressing by address */
    unsigned n_prepared;
};

struct db {
    char *url;
    char *app;
    struct db_config config;
    pthread_mutex_t lock;
    pthread_cond_t freed;
    struct db_conn **idle;
    unsigned n_idle;
    unsigned n_open;      /* idle + checked out */
    uint64_t waits, busy; /* acquisitions that had to wait; that gave up */
    bool wall_told;       /* the log knows whether row security holds */
};

/* Waits until the socket is readable (or writable when it asks for it), at most to the deadline. */
int db_await_socket(PGconn *pg, short events, uint64_t deadline, struct err *err) WARN_UNUSED;
/* Collects the results of what was sent; keeps the last one, or the first failure: of a script or a
 * pipeline that is the one to tell. */
int db_collect(PGconn *pg, uint64_t deadline, PGresult **ret_res, struct err *err) WARN_UNUSED;

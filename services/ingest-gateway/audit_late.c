/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/audit_late.h"

#include "libcommon/log.h"
#include "libcommon/metrics.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char audit_insert_sql[] =
    "INSERT INTO audit (user_id, actor, action, target, detail, outcome, credential, key_id,"
    "   session_id, address, request_id)"
    " VALUES ($1::uuid, $2, $3, $4, $5::jsonb || CASE WHEN $12::text IS NULL THEN '{}'::jsonb"
    "   ELSE jsonb_build_object('happenedAt', $12::text) END, $6, $7, $8, $9::uuid, $10, $11)";

enum { ACTION = 2, REQUEST_ID = 10, AT = 11 };

struct late_row {
    struct late_row *next;
    char *values[AUDIT_VALUES];
};

struct audit_late {
    pthread_mutex_t lock;
    struct late_row *first, **end;
    size_t n;
};

static void row_free(struct late_row *row)
{
    for (size_t i = 0; row && i < AUDIT_VALUES; i++) {
        free(row->values[i]);
    }
    free(row);
}

int audit_late_new(struct audit_late **ret_late, struct err *err)
{
    struct audit_late *late = calloc(1, sizeof(*late));

    if (!late) {
        return err_nomem(err);
    }
    pthread_mutex_init(&late->lock, NULL);
    late->end = &late->first;
    *ret_late = late;
    return 0;
}

void audit_late_free(struct audit_late *late)
{
    if (!late) {
        return;
    }
    while (late->first) {
        struct late_row *row = late->first;
        late->first = row->next;
        row_free(row);
    }
    pthread_mutex_destroy(&late->lock);
    free(late);
}

static struct late_row *row_new(const char *const values[AUDIT_VALUES - 1])
{
    struct late_row *row = calloc(1, sizeof(*row));
    struct timespec now;
    struct tm utc;
    char at[40];

    if (!row) {
        return NULL;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    size_t n = strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%S", gmtime_r(&now.tv_sec, &utc));
    snprintf(at + n, sizeof(at) - n, ".%03ldZ", now.tv_nsec / 1000000);
    for (size_t i = 0; i < AUDIT_VALUES; i++) {
        const char *value = i == AT ? at : values[i];
        if (value && !(row->values[i] = strdup(value))) {
            row_free(row);
            return NULL;
        }
    }
    return row;
}

int audit_late_keep(struct audit_late *late, const char *const values[AUDIT_VALUES - 1])
{
    struct late_row *row = row_new(values);

    if (!row) {
        return -1;
    }
    pthread_mutex_lock(&late->lock);
    bool fits = late->n < AUDIT_LATE_MAX;
    if (fits) {
        *late->end = row;
        late->end = &row->next;
        late->n++;
    }
    pthread_mutex_unlock(&late->lock);
    if (!fits) {
        row_free(row);
    }
    return fits ? 0 : -1;
}

static struct late_row *peek(struct audit_late *late)
{
    pthread_mutex_lock(&late->lock);
    struct late_row *row = late->first;
    pthread_mutex_unlock(&late->lock);
    return row;
}

static void drop_first(struct audit_late *late)
{
    pthread_mutex_lock(&late->lock);
    struct late_row *row = late->first;
    late->first = row->next;
    if (!late->first) {
        late->end = &late->first;
    }
    late->n--;
    pthread_mutex_unlock(&late->lock);
    row_free(row);
}

void audit_late_flush(struct audit_late *late, struct db *db)
{
    size_t written = 0;
    struct late_row *row;

    while ((row = peek(late))) {
        struct err err = ERR_INIT;
        const char *params[AUDIT_VALUES];

        for (size_t i = 0; i < AUDIT_VALUES; i++) {
            params[i] = row->values[i];
        }
        db_view_take(DB_VIEW_LOGIN, NULL); /* rows of any account may be added, none is read */
        int rc = db_run(db, audit_insert_sql, AUDIT_VALUES, params, NULL, &err);
        db_view_take(DB_VIEW_NONE, NULL);
        if (rc < 0 && err.class == ERR_TRANSIENT) {
            return;
        }
        if (rc < 0) {
            metrics_inc("docfleet_audit_failures_total", "");
            log_write(LOG_ERROR, "audit row not written", kv_str("action", row->values[ACTION]),
                      kv_str("requestId", row->values[REQUEST_ID]), kv_str("code", err.code),
                      kv_str("reason", err.msg), KV_END);
        }
        written += rc == 0;
        drop_first(late);
    }
    if (written > 0) {
        log_info("audit rows written late", kv_u64("n", written));
    }
}

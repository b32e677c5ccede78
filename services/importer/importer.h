/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The importer: takes up runs that are due or asked for, and carries each to its end in steps.
 * Invariant: whatever is known of a run is in Postgres after each step, so that a killed importer
 * is followed by another that goes on where it was; a step of one that was replaced meanwhile
 * changes nothing, since every change asks for the run's token.
 * Refuses to hold more than a page of objects in memory.
 */
#pragma once

#include "libcommon/service.h"
#include "libcommon/uuid.h"

struct http_client;

#define IMPORT_PAGE 100U    /* objects that are fetched between two commits */
#define IMPORT_STARTS_MAX 3 /* without getting any further */
#define IMPORT_NAME_MAX 200

struct importer_options {
    char *sources;   /* JSON, see sources.c */
    char *clamd;     /* not empty: the first task of a file is its scan */
    char *alert_url; /* "": none */
    bool alert_private;
    int64_t watch_ms;
    int64_t tries;
    int64_t retry_ms;
    int64_t run_max_ms;
    int64_t objects_max;
    int64_t file_bytes_max;
    int64_t runs_kept;
};

extern struct importer_options importer_options;
extern const struct option_def importer_option_defs[];
extern const size_t importer_option_count;

struct importer {
    struct service service;
    struct http_client *http;
    PGconn *locks; /* the session that holds the locks of the imports at work */
};

/* One run at work. */
struct run {
    double max_failed_percent;
    int64_t max_unfetched;
    int64_t no;
    int64_t token;
    int64_t age_ms; /* since it was taken up first */
    char run_id[UUID_TEXT];
    char import_id[UUID_TEXT];
    char user_id[UUID_TEXT];
    char dataset_id[UUID_TEXT];
    char shadow_id[UUID_TEXT];
    char name[IMPORT_NAME_MAX + 1];
    char source[64]; /* "": the fleet's own store */
    char prefix[STORE_KEY_MAX + 1];
    char state[12];
    char queued_by[12];
    bool remove_vanished;
    bool dataset_gone;
};

enum step {
    STEP_MORE, /* there is more to do at once */
    STEP_WAIT, /* something has to happen elsewhere first */
    STEP_OVER, /* the run has ended, or is somebody else's now */
};

/* due.c -----------------------------------------------------------------------------------------*/

/* Turns what is due into runs. */
int due_queue(struct importer *imp, struct err *err) WARN_UNUSED;
/* The open runs whose lock this process holds or could take, at most max. *ret_busy: there are
 * others, which another importer holds. A run that was taken up has a new token. */
int due_take(struct importer *imp, struct run *runs, size_t max, size_t *ret_n, bool *ret_busy,
             struct err *err) WARN_UNUSED;
/* Gives the import's lock back. */
void due_release(struct importer *imp, const char *import_id);
/* Inside a transaction: is the run still ours, in the state we know? Locks it. */
int run_hold(struct db_conn *conn, const struct run *run, bool *ret_ours,
             struct err *err) WARN_UNUSED;

/* sources.c -------------------------------------------------------------------------------------*/

/* The store a run reads. *ret_own: the caller frees it; otherwise it is the fleet's. ERR_PERMANENT
 * "source_unknown" when no such source is configured. */
int source_open(struct importer *imp, const char *name, struct store **ret_store, bool *ret_own,
                struct err *err) WARN_UNUSED;

/* list.c: queued or listing -> fetching: every object of the source, compared with the version that
 * is published. */
int run_list(struct importer *imp, struct run *run, enum step *ret_step,
             struct err *err) WARN_UNUSED;
/* fetch.c: fetching -> processing, a page of objects at a time. */
int run_fetch(struct importer *imp, struct run *run, enum step *ret_step,
              struct err *err) WARN_UNUSED;
/* publish.c: processing -> published or failed, once every file has come to its end. */
int run_publish(struct importer *imp, struct run *run, enum step *ret_step,
                struct err *err) WARN_UNUSED;
/* Ends the run as failed; the dataset keeps what it has. */
int run_fail(struct importer *imp, const struct run *run, const struct err *why,
             struct err *err) WARN_UNUSED;
/* prune.c: takes away what no kept version names any more, a bounded piece of it. */
int import_prune(struct importer *imp, const char *import_id, struct err *err) WARN_UNUSED;
/* The same for every import; those whose dataset was removed end here. */
int import_prune_all(struct importer *imp, struct err *err) WARN_UNUSED;

/* alert.c: sends what waits to be sent. Failures are logged and tried again later. */
void alert_send_all(struct importer *imp);

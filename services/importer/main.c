/* SPDX-License-Identifier: Apache-2.0 */
/*
 * importer: scheduled imports. Without IMPORT_WATCH it does what is due and ends, so that any
 * scheduler can start it; a second one beside it takes what the first has not locked.
 */
#include <stdio.h>
#include <string.h>

#include "libcommon/http.h"
#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "services/importer/importer.h"

#define RUNS_MAX 16
#define PAUSE_MS 300 /* between two looks at work that goes on elsewhere */
#define OUTAGE_WAIT_MS 2000
#define OUTAGE_MAX 60 /* of these in a row: two minutes; then the scheduler tries again */

static int step_run(struct importer *imp, struct run *run, enum step *ret_step, struct err *err)
{
    if (run->age_ms > importer_options.run_max_ms) {
        *ret_step = STEP_OVER;
        return err_set(err, ERR_PERMANENT, "timeout",
                       "the run did not end in the time it has"
                       " (IMPORT_RUN_MAX)");
    }
    return strcmp(run->state, "listing") == 0    ? run_list(imp, run, ret_step, err)
           : strcmp(run->state, "fetching") == 0 ? run_fetch(imp, run, ret_step, err)
                                                 : run_publish(imp, run, ret_step, err);
}

/* An error of the database is an outage of ours and says nothing about the run. */
static bool is_outage(const struct err *err)
{
    return strncmp(err->code, "db_", 3) == 0 && err->class == ERR_TRANSIENT;
}

static int advance(struct importer *imp, struct run *run, enum step *ret_step, struct err *err)
{
    struct err why = ERR_INIT;
    struct err ignored = ERR_INIT;

    if (step_run(imp, run, ret_step, &why) < 0) {
        if (is_outage(&why) || why.class == ERR_FATAL || strcmp(why.code, "aborted") == 0) {
            *err = why;
            return -1;
        }
        if (run_fail(imp, run, &why, err) < 0) {
            return -1;
        }
        *ret_step = STEP_OVER;
    }
    if (*ret_step == STEP_OVER) {
        if (import_prune(imp, run->import_id, &ignored) < 0) {
            log_err(LOG_WARN, "old versions stay until the next run", &ignored);
        }
        due_release(imp, run->import_id);
    }
    return 0;
}

/* One look at everything. *ret_more: go on at once; *ret_open: something of ours is not over. */
static int look(struct importer *imp, bool *ret_more, bool *ret_open, struct err *err)
{
    struct run runs[RUNS_MAX];
    size_t n = 0;
    bool busy = false;

    *ret_more = *ret_open = false;
    if (due_queue(imp, err) < 0 || due_take(imp, runs, RUNS_MAX, &n, &busy, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < n && !atomic_load(&imp->service.stopping); i++) {
        enum step step = STEP_OVER;
        log_context_set("run", runs[i].run_id);
        int r = advance(imp, &runs[i], &step, err);
        log_context_clear();
        if (r < 0) {
            return -1;
        }
        *ret_more = *ret_more || step == STEP_MORE;
        *ret_open = *ret_open || step != STEP_OVER;
        service_wait(&imp->service, 0);
    }
    alert_send_all(imp);
    if (busy) {
        log_debug("another importer is at work");
    }
    return 0;
}

static int serve(struct importer *imp, struct err *err)
{
    int outages = 0;

    if (import_prune_all(imp, err) < 0) {
        log_err(LOG_WARN, "old versions stay until the next run", err);
    }
    while (!atomic_load(&imp->service.stopping)) {
        bool more, open;
        if (look(imp, &more, &open, err) < 0) {
            if (!is_outage(err) || ++outages > OUTAGE_MAX) {
                return strcmp(err->code, "aborted") == 0 ? 0 : -1;
            }
            log_err(LOG_WARN, "the database is away, waiting", err);
            service_wait(&imp->service, OUTAGE_WAIT_MS);
            continue;
        }
        outages = 0;
        if (!open && importer_options.watch_ms == 0) {
            return 0;
        }
        if (!more) {
            service_wait(&imp->service, open ? PAUSE_MS : (int)importer_options.watch_ms);
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    static struct importer imp;
    struct option_table own = {importer_option_defs, importer_option_count, &importer_options};
    enum config_action action;
    struct err err = ERR_INIT;

    int r = service_begin(&imp.service, "importer", argc, argv, &own, &action, &err);
    if (r == 0 && action == CONFIG_EXIT) {
        return 0;
    }
    /* Publishing a large version is one statement: it has ten minutes. */
    if (r < 0 || service_connect(&imp.service, 4, 600000, &err) < 0 ||
        http_client_new(
            &(struct http_client_config){.public_only = !importer_options.alert_private}, &imp.http,
            &err) < 0 ||
        (importer_options.watch_ms > 0 && service_probes(&imp.service, true, NULL, 0, &err) < 0) ||
        serve(&imp, &err) < 0) {
        log_err(LOG_ERROR, "ending", &err);
        r = -1;
    }
    PQfinish(imp.locks);
    http_client_free(imp.http);
    service_end(&imp.service);
    log_info("ended");
    return r < 0 ? 1 : 0;
}

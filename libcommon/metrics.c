/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of metrics and a small locked list of series. Rates here are tens a second per series,
 * so one lock does.
 */
#include "libcommon/metrics.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

enum metric_type { COUNTER, GAUGE, HISTOGRAM };

static const double buckets[] = {0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1,
                                 2,     5,    10,   20,   60,  300, 1200};
#define N_BUCKETS (sizeof(buckets) / sizeof(buckets[0]))

/* What each program shows. labels: their names, in the order in which callers write them. */
static const struct {
    const char *name;
    enum metric_type type;
    const char *labels;
    const char *help;
} metric_defs[] = {
    /* every service */
    {"docfleet_build_info", GAUGE, "version,commit", "Constant 1, labelled with what runs"},
    {"docfleet_dependency_up", GAUGE, "dependency",
     "1 where the dependency answers, 0 from its second failed check on"},
    {"docfleet_db_connections", GAUGE, "pool,state", "Connections to Postgres, used and idle"},
    {"docfleet_db_connections_max", GAUGE, "pool", "Most connections the pool may open"},
    {"docfleet_db_waits_total", COUNTER, "pool", "Times somebody waited for a free connection"},
    {"docfleet_db_busy_total", COUNTER, "pool", "Times no connection became free in time"},
    {"docfleet_scratch_free_bytes", GAUGE, "", "Free bytes of the scratch folder's disk"},
    {"docfleet_scratch_size_bytes", GAUGE, "", "Size of the scratch folder's disk"},
    {"docfleet_certificate_expiry_seconds", GAUGE, "use",
     "Unix time at which a certificate in use ends"},
    {"docfleet_trace_spans_total", COUNTER, "outcome",
     "Spans: exported, dropped (queue full), failed (not taken), rejected (by the collector)"},
    {"docfleet_series_dropped_total", COUNTER, "", "Series refused because there are too many"},
    {"process_cpu_seconds_total", COUNTER, "", "Processor time of this process"},
    {"process_resident_memory_bytes", GAUGE, "", "Resident memory of this process"},
    {"process_virtual_memory_bytes", GAUGE, "", "Address space of this process"},
    {"process_open_fds", GAUGE, "", "Open file descriptors"},
    {"process_max_fds", GAUGE, "", "Most file descriptors that may be open"},
    {"process_threads", GAUGE, "", "Threads of this process"},
    {"process_start_time_seconds", GAUGE, "", "Unix time at which this process began"},
    /* ingest-gateway */
    {"docfleet_http_requests_total", COUNTER, "route,status", "Requests by route and status"},
    {"docfleet_http_request_duration_seconds", HISTOGRAM, "route", "Time of a request by route"},
    {"docfleet_upload_bytes_total", COUNTER, "protocol", "Bytes received, by protocol"},
    {"docfleet_event_streams", GAUGE, "", "Open streams of live events"},
    {"docfleet_row_security", GAUGE, "", "1 where row security holds the database role"},
    {"docfleet_audit_failures_total", COUNTER, "", "Audit rows that could not be written"},
    {"docfleet_http_connections", GAUGE, "listener", "Open connections: api, stream"},
    {"docfleet_http_connections_max", GAUGE, "listener", "Connections that may be open"},
    {"docfleet_http_connections_cut_total", COUNTER, "reason",
     "Connections cut off: address (too many of one), headers (too slow), slow (body or download)"},
    {"docfleet_quota_exceeded_total", COUNTER, "quota",
     "Files, pages and paid calls refused for a quota: files, bytes, pages, money"},
    {"docfleet_http_limited_total", COUNTER, "bucket",
     "Requests refused for a rate limit: key, user, address, failures"},
    /* dispatcher */
    {"docfleet_leader", GAUGE, "stage,shard", "1 where this process leads the stage's shard"},
    {"docfleet_queue_depth", GAUGE, "stage,shard,state",
     "Tasks of a stage: pending, and out (sent or running)"},
    {"docfleet_queue_oldest_seconds", GAUGE, "stage,shard",
     "Age of the oldest waiting task of a stage"},
    {"docfleet_queue_users", GAUGE, "stage,shard", "Users with something waiting"},
    {"docfleet_credit", GAUGE, "stage,shard,kind", "Credit of a stage: granted and used"},
    {"docfleet_stage_paused", GAUGE, "stage,shard",
     "1 where nothing is sent by an operator's wish"},
    {"docfleet_workers_live", GAUGE, "stage,shard", "Workers that have shown themselves lately"},
    {"docfleet_worker_slots", GAUGE, "stage,shard", "Units that live workers can run at once"},
    {"docfleet_fairness_top_share", GAUGE, "stage,shard",
     "Share of the user that got most of what was served lately"},
    {"docfleet_fairness_jain", GAUGE, "stage,shard", "Jain index over users with backlog"},
    {"docfleet_dispatched_total", COUNTER, "stage", "Work orders sent"},
    {"docfleet_dispatch_pick_seconds", HISTOGRAM, "stage",
     "Time to choose a batch of work orders and to mark it as sent"},
    {"docfleet_lease_takeovers_total", COUNTER, "stage", "Expired leases put back by the sweeper"},
    {"docfleet_sweeper_reemits_total", COUNTER, "stage", "Unclaimed work orders sent again"},
    {"docfleet_dead_letters", GAUGE, "stage,reason", "Open dead letters, by stage and reason"},
    {"docfleet_events_published_total", COUNTER, "", "Events given a position and sent"},
    /* workers */
    {"docfleet_files_total", COUNTER, "stage,outcome", "Files that ended a stage, by outcome"},
    {"docfleet_stage_duration_seconds", HISTOGRAM, "stage", "Time of a unit from claim to its end"},
    {"docfleet_stage_hop_seconds", HISTOGRAM, "stage",
     "Time from a work order's dispatch to its claim"},
    {"docfleet_inflight", GAUGE, "stage", "Units running in this process"},
    {"docfleet_slots", GAUGE, "stage", "Units this process can run at once"},
    {"docfleet_kafka_lag", GAUGE, "stage",
     "Work orders of this process's partitions not yet claimed"},
    {"docfleet_retries_total", COUNTER, "stage,class", "Units put back, by class"},
    {"docfleet_claims_stale_total", COUNTER, "stage", "Work orders skipped at the claim"},
    {"docfleet_handed_back_total", COUNTER, "stage",
     "Work orders given back before they were claimed"},
    {"docfleet_producer_renewals_total", COUNTER, "",
     "Kafka producers that had given themselves up and were made anew"},
    {"docfleet_records_skipped_total", COUNTER, "stage", "Kafka records that could not be read"},
    {"docfleet_leases_lost_total", COUNTER, "stage", "Units whose lease was lost while they ran"},
    {"docfleet_breaker_state", GAUGE, "dependency", "0 closed, 1 half-open, 2 open, by dependency"},
    {"docfleet_breaker_openings_total", COUNTER, "dependency",
     "How often a breaker opened, by dependency"},
    {"docfleet_jail_kills_total", COUNTER, "stage,reason",
     "Children that did not end well, by reason"},
    {"docfleet_jail_degraded", GAUGE, "stage", "1 where a wall of the cage is missing"},
    /* ai-extractor and ocr-fallback, with a paid provider */
    {"docfleet_provider_calls_total", COUNTER, "provider,outcome",
     "Calls to paid providers, by outcome"},
    {"docfleet_provider_throttles_total", COUNTER, "provider", "Throttled calls, by provider"},
    {"docfleet_provider_cost_total", COUNTER, "provider", "Money spent, by the configured prices"},
    {"docfleet_provider_tokens_total", COUNTER, "provider,kind",
     "Tokens used at the AI provider, by kind"},
    /* cleaner */
    {"docfleet_ledger_mismatch", GAUGE, "", "Batches and datasets whose counts do not add up"},
    {"docfleet_objects_deleted_total", COUNTER, "reason", "Objects deleted, by reason"},
    {"docfleet_cleaner_last_success_seconds", GAUGE, "",
     "Unix time at which the last whole sweep ended"},
    {"docfleet_imports", GAUGE, "state", "Imports by state: new, ok, failing, paused"},
    {"docfleet_import_success_age_seconds", GAUGE, "",
     "Time since the last success of the scheduled import that has waited longest for one"},
    {"docfleet_backup_last_success_seconds", GAUGE, "",
     "Unix time of the moment that the newest whole backup holds"},
    /* importer */
    {"docfleet_import_runs_total", COUNTER, "outcome", "Runs of imports, by outcome"},
    {"docfleet_import_objects_total", COUNTER, "outcome", "Objects an importer read, by outcome"},
    {"docfleet_import_alerts_total", COUNTER, "outcome", "Messages to the webhook, by outcome"},
    /* docfleetctl canary */
    {"docfleet_canary_success", GAUGE, "", "1 where the last canary file came through, else 0"},
    {"docfleet_canary_seconds", GAUGE, "", "Time of the last canary file, upload to all results"},
    {"docfleet_canary_objective_seconds", GAUGE, "", "Time a canary file may take"},
    {"docfleet_canary_last_success_seconds", GAUGE, "",
     "Unix time at which the last canary file came through"},
    {"docfleet_canary_step_seconds", GAUGE, "step", "Of the last canary file: time of each step"},
    {"docfleet_canary_runs_total", COUNTER, "outcome", "Canary files: done, slow or failed"},
};

struct series {
    size_t def;
    char *labels;
    bool fresh;   /* since metrics_begin */
    double value; /* counter, gauge; histogram: sum */
    uint64_t count;
    uint64_t le[N_BUCKETS];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct series *series;
static size_t n_series, cap_series;
static uint64_t dropped;

/* Who is asked for values before they are shown. */
static pthread_mutex_t collectors_lock = PTHREAD_MUTEX_INITIALIZER;
static struct collector {
    metrics_collect_fn fn;
    void *arg;
} collectors[METRICS_COLLECTORS_MAX];
static size_t n_collectors;

static size_t def_of(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(metric_defs); i++) {
        if (strcmp(metric_defs[i].name, name) == 0) {
            return i;
        }
    }
    assert(!"metric is not in the table");
    return 0;
}

/* Have the labels the names that the table says, in its order? Looked at once for each series. */
static bool labels_fit(const char *names, const char *labels)
{
    while (*names) {
        size_t len = strcspn(names, ",");
        if (strncmp(names, labels, len) != 0 || strncmp(labels + len, "=\"", 2) != 0) {
            return false;
        }
        labels += len + 2;
        while (*labels && *labels != '"') {
            labels += *labels == '\\' && labels[1] ? 2 : 1;
        }
        if (*labels != '"') {
            return false;
        }
        labels++;
        names += len + (names[len] == ',' ? 1 : 0);
        if (*names && *labels++ != ',') {
            return false;
        }
    }
    return *labels == '\0';
}

static struct series *find(const char *name, const char *labels, bool make)
{
    size_t def = def_of(name);

    for (size_t i = 0; i < n_series; i++) {
        if (series[i].def == def && strcmp(series[i].labels, labels) == 0) {
            return &series[i];
        }
    }
    if (!make) {
        return NULL;
    }
    assert(labels_fit(metric_defs[def].labels, labels));
    /* The count of what was dropped has a place of its own. */
    bool room =
        n_series < METRICS_SERIES_MAX - 1 || strcmp(name, "docfleet_series_dropped_total") == 0;
    if (room && n_series == cap_series) {
        size_t cap = cap_series ? cap_series * 2 : 64;
        struct series *more = realloc(series, cap * sizeof(*series));
        if (more) {
            series = more;
            cap_series = cap;
        }
    }
    char *copy = room && n_series < cap_series ? strdup(labels) : NULL;
    if (!copy) {
        dropped++;
        return NULL;
    }
    series[n_series] = (struct series){.def = def, .labels = copy};
    return &series[n_series++];
}

void metrics_add(const char *name, const char *labels, double value)
{
    pthread_mutex_lock(&lock);
    struct series *s = find(name, labels, true);
    if (s) {
        s->value += value;
    }
    pthread_mutex_unlock(&lock);
}

void metrics_set(const char *name, const char *labels, double value)
{
    pthread_mutex_lock(&lock);
    struct series *s = find(name, labels, true);
    if (s) {
        s->value = value;
        s->fresh = true;
    }
    pthread_mutex_unlock(&lock);
}

/* The lock is held. */
static void drop(size_t i)
{
    free(series[i].labels);
    series[i] = series[--n_series];
}

void metrics_remove(const char *name, const char *labels)
{
    pthread_mutex_lock(&lock);
    const struct series *s = find(name, labels, false);
    if (s) {
        drop((size_t)(s - series));
    }
    pthread_mutex_unlock(&lock);
}

void metrics_begin(const char *name)
{
    size_t def = def_of(name);

    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < n_series; i++) {
        series[i].fresh = series[i].fresh && series[i].def != def;
    }
    pthread_mutex_unlock(&lock);
}

void metrics_end(const char *name)
{
    size_t def = def_of(name);

    pthread_mutex_lock(&lock);
    for (size_t i = n_series; i-- > 0;) {
        if (series[i].def == def && !series[i].fresh) {
            drop(i);
        }
    }
    pthread_mutex_unlock(&lock);
}

void metrics_collect(metrics_collect_fn fn, void *arg)
{
    pthread_mutex_lock(&collectors_lock);
    assert(n_collectors < METRICS_COLLECTORS_MAX);
    collectors[n_collectors++] = (struct collector){fn, arg};
    pthread_mutex_unlock(&collectors_lock);
}

void metrics_uncollect(metrics_collect_fn fn, const void *arg)
{
    pthread_mutex_lock(&collectors_lock);
    for (size_t i = 0; i < n_collectors; i++) {
        if (collectors[i].fn == fn && collectors[i].arg == arg) {
            collectors[i] = collectors[--n_collectors];
            break;
        }
    }
    pthread_mutex_unlock(&collectors_lock);
}

void metrics_observe(const char *name, const char *labels, double seconds)
{
    pthread_mutex_lock(&lock);
    struct series *s = find(name, labels, true);
    if (s) {
        s->value += seconds;
        s->count++;
        for (size_t i = 0; i < N_BUCKETS; i++) {
            s->le[i] += seconds <= buckets[i] ? 1 : 0;
        }
    }
    pthread_mutex_unlock(&lock);
}

double metrics_get(const char *name, const char *labels)
{
    pthread_mutex_lock(&lock);
    const struct series *s = find(name, labels, false);
    double value = s ? s->value : 0;
    pthread_mutex_unlock(&lock);
    return value;
}

static int render_histogram(struct buf *buf, const struct series *s, struct err *err)
{
    const char *name = metric_defs[s->def].name;
    const char *comma = *s->labels ? "," : "";

    for (size_t i = 0; i < N_BUCKETS; i++) {
        if (buf_printf(buf, err, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, s->labels, comma,
                       buckets[i], (unsigned long long)s->le[i]) < 0) {
            return -1;
        }
    }
    return buf_printf(buf, err,
                      "%s_bucket{%s%sle=\"+Inf\"} %llu\n%s_sum{%s} %.9g\n%s_count{%s} %llu\n", name,
                      s->labels, comma, (unsigned long long)s->count, name, s->labels, s->value,
                      name, s->labels, (unsigned long long)s->count);
}

static int render_def(struct buf *buf, size_t def, struct err *err)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    bool head = false;

    for (size_t i = 0; i < n_series; i++) {
        const struct series *s = &series[i];
        if (s->def != def) {
            continue;
        }
        if (!head && buf_printf(buf, err, "# HELP %s %s\n# TYPE %s %s\n", metric_defs[def].name,
                                metric_defs[def].help, metric_defs[def].name,
                                types[metric_defs[def].type]) < 0) {
            return -1;
        }
        head = true;
        if (metric_defs[def].type == HISTOGRAM
                ? render_histogram(buf, s, err) < 0
                : buf_printf(buf, err, "%s%s%s%s %.15g\n", metric_defs[def].name,
                             *s->labels ? "{" : "", s->labels, *s->labels ? "}" : "",
                             s->value) < 0) {
            return -1;
        }
    }
    return 0;
}

int metrics_render(struct buf *buf, struct err *err)
{
    int r = 0;

    /* Held meanwhile, so that who has taken itself off the list is asked no more. */
    pthread_mutex_lock(&collectors_lock);
    for (size_t i = 0; i < n_collectors; i++) {
        collectors[i].fn(collectors[i].arg);
    }
    pthread_mutex_unlock(&collectors_lock);
    pthread_mutex_lock(&lock);
    if (dropped > 0) {
        struct series *s = find("docfleet_series_dropped_total", "", true);
        if (s) {
            s->value = (double)dropped;
        }
    }
    for (size_t def = 0; r == 0 && def < ARRAY_LEN(metric_defs); def++) {
        r = render_def(buf, def, err);
    }
    pthread_mutex_unlock(&lock);
    return r;
}

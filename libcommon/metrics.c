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

static const struct {
    const char *name;
    enum metric_type type;
    const char *help;
} metric_defs[] = {
    {"docfleet_build_info", GAUGE, "Constant 1, labelled with the version"},
    {"docfleet_files_total", COUNTER, "Files that ended a stage, by outcome"},
    {"docfleet_stage_duration_seconds", HISTOGRAM, "Time of a unit from claim to its end"},
    {"docfleet_stage_hop_seconds", HISTOGRAM, "Time from a work order's dispatch to its claim"},
    {"docfleet_dispatch_pick_seconds", HISTOGRAM,
     "Time to choose a batch of work orders and to mark it as sent"},
    {"docfleet_queue_depth", GAUGE, "Tasks of a stage by state"},
    {"docfleet_queue_oldest_seconds", GAUGE, "Age of the oldest waiting task of a stage"},
    {"docfleet_inflight", GAUGE, "Units running in this process"},
    {"docfleet_credit", GAUGE, "Credit of a stage: granted and used"},
    {"docfleet_retries_total", COUNTER, "Units put back, by class"},
    {"docfleet_claims_stale_total", COUNTER, "Work orders skipped at the claim"},
    {"docfleet_handed_back_total", COUNTER, "Work orders given back before they were claimed"},
    {"docfleet_breaker_state", GAUGE, "0 closed, 1 half-open, 2 open, by dependency"},
    {"docfleet_breaker_openings_total", COUNTER, "How often a breaker opened, by dependency"},
    {"docfleet_records_skipped_total", COUNTER, "Kafka records that could not be read"},
    {"docfleet_lease_takeovers_total", COUNTER, "Expired leases put back by the sweeper"},
    {"docfleet_leases_lost_total", COUNTER, "Units whose lease was lost while they ran"},
    {"docfleet_sweeper_reemits_total", COUNTER, "Unclaimed work orders sent again"},
    {"docfleet_dispatched_total", COUNTER, "Work orders sent"},
    {"docfleet_events_published_total", COUNTER, "Events given a position and sent"},
    {"docfleet_leader", GAUGE, "1 where this process leads the stage"},
    {"docfleet_dead_letters", GAUGE, "Open dead letters, by stage and reason"},
    {"docfleet_dependency_up", GAUGE, "1 where the dependency answers"},
    {"docfleet_provider_throttles_total", COUNTER, "Throttled calls, by provider"},
    {"docfleet_provider_calls_total", COUNTER, "Calls to paid providers, by outcome"},
    {"docfleet_provider_cost_total", COUNTER, "Money spent at the AI provider, by its price list"},
    {"docfleet_provider_tokens_total", COUNTER, "Tokens used at the AI provider, by kind"},
    {"docfleet_upload_bytes_total", COUNTER, "Bytes received, by protocol"},
    {"docfleet_ledger_mismatch", GAUGE, "Batches and datasets whose counts do not add up"},
    {"docfleet_fairness_top_share", GAUGE, "Share of the busiest user in what is out"},
    {"docfleet_fairness_jain", GAUGE, "Jain index over users with backlog"},
    {"docfleet_jail_kills_total", COUNTER, "Children that did not end well, by reason"},
    {"docfleet_jail_degraded", GAUGE, "1 where a wall of the cage is missing"},
    {"docfleet_objects_deleted_total", COUNTER, "Objects deleted by the cleaner, by reason"},
    {"docfleet_http_requests_total", COUNTER, "Requests by route and status"},
    {"docfleet_http_request_duration_seconds", HISTOGRAM, "Time of a request by route"},
    {"docfleet_audit_failures_total", COUNTER, "Audit rows that could not be written"},
    {"docfleet_series_dropped_total", COUNTER, "Series refused because there are too many"},
};

struct series {
    size_t def;
    char *labels;
    double value; /* counter, gauge; histogram: sum */
    uint64_t count;
    uint64_t le[N_BUCKETS];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct series *series;
static size_t n_series, cap_series;
static uint64_t dropped;

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
    }
    pthread_mutex_unlock(&lock);
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

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reads that take long where much waits. A thread makes them for the stages whose leader is in
 * this process; the leader takes a finished one when it likes, and never waits for one. An answer
 * may be some seconds old: a census is for showing only, and what came back meanwhile the leader
 * finds out when it asks for the row.
 * Invariant: the thread reads for at most a twentieth of the time.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "libcommon/log.h"
#include "services/dispatcher/dispatcher.h"

#define CENSUS_MS 1000U
#define SHARE 20U
#define STRAYS_MS 60000U
#define ASKED_MS 5000U /* a leader that has not asked for longer leads no more */
#define TICK_MS 100U

struct flow_count {
    char user_id[UUID_TEXT];
    int lane;
    int64_t n, cost;
};

struct stray {
    struct task_out out;
    char user_id[UUID_TEXT];
    int cost;
};

/* Of one stage and shard. */
struct topic {
    uint64_t asked;                /* by a leader, last */
    uint64_t census_at, strays_at; /* to be made next */
    bool census_ready, strays_ready;
    struct flow_count *counts;
    size_t n_counts, cap_counts;
    double oldest_s;
    struct stray *strays;
    size_t n_strays, cap_strays;
};

struct survey {
    struct dispatcher *d;
    pthread_mutex_t lock;
    struct topic topics[SHARDS_MAX][STAGE_MAX + 1];
};

int survey_new(struct dispatcher *dispatcher, struct survey **ret_survey, struct err *err)
{
    struct survey *survey = calloc(1, sizeof(*survey));

    if (!survey) {
        return err_nomem(err);
    }
    survey->d = dispatcher;
    pthread_mutex_init(&survey->lock, NULL);
    *ret_survey = survey;
    return 0;
}

static void drop(struct topic *t)
{
    free(t->counts);
    free(t->strays);
    t->counts = NULL;
    t->strays = NULL;
    t->n_counts = t->cap_counts = t->n_strays = t->cap_strays = 0;
}

void survey_free(struct survey *survey)
{
    for (int shard = 0; survey && shard < SHARDS_MAX; shard++) {
        for (int i = 0; i <= STAGE_MAX; i++) {
            drop(&survey->topics[shard][i]);
        }
    }
    free(survey);
}

/* Leaders ---------------------------------------------------------------------------------------*/

int survey_census(struct survey *survey, const struct stage_thread *thread, task_census_fn fn,
                  void *arg, double *ret_oldest_s)
{
    struct topic *t = &survey->topics[thread->shard][thread->stage];
    struct topic got = {0};

    pthread_mutex_lock(&survey->lock);
    t->asked = clock_mono_ms();
    if (t->census_ready) {
        got.counts = STEAL(t->counts);
        got.n_counts = t->n_counts;
        got.oldest_s = t->oldest_s;
        got.census_ready = true;
        t->n_counts = t->cap_counts = 0;
        t->census_ready = false;
    }
    pthread_mutex_unlock(&survey->lock);
    for (size_t i = 0; i < got.n_counts; i++) {
        fn(arg, got.counts[i].user_id, got.counts[i].lane, got.counts[i].n, got.counts[i].cost);
    }
    *ret_oldest_s = got.oldest_s;
    free(got.counts);
    return got.census_ready ? 1 : 0;
}

int survey_strays(struct survey *survey, const struct stage_thread *thread, task_stray_fn fn,
                  void *arg, struct err *err)
{
    struct topic *t = &survey->topics[thread->shard][thread->stage];
    struct stray *strays = NULL;
    size_t n = 0;
    int r = 0;

    pthread_mutex_lock(&survey->lock);
    if (t->strays_ready) {
        strays = STEAL(t->strays);
        n = t->n_strays;
        t->n_strays = t->cap_strays = 0;
        t->strays_ready = false;
    }
    pthread_mutex_unlock(&survey->lock);
    for (size_t i = 0; r == 0 && i < n; i++) {
        r = fn(arg, &strays[i].out, strays[i].user_id, strays[i].cost, err);
    }
    free(strays);
    return r;
}

/* The thread ------------------------------------------------------------------------------------*/

static bool grow(void **items, size_t *cap, size_t size)
{
    size_t more = *cap ? *cap * 2 : 64;
    void *p = realloc(*items, more * size);

    if (p) {
        *items = p;
        *cap = more;
    }
    return p != NULL;
}

static void take_count(void *arg, const char *user_id, int lane, int64_t n, int64_t cost)
{
    struct topic *t = arg;
    void *items = t->counts;

    if (t->n_counts == t->cap_counts && !grow(&items, &t->cap_counts, sizeof(*t->counts))) {
        return; /* shown with too little */
    }
    t->counts = items;
    struct flow_count *c = &t->counts[t->n_counts++];
    *c = (struct flow_count){.lane = lane, .n = n, .cost = cost};
    snprintf(c->user_id, UUID_TEXT, "%s", user_id);
}

static int take_stray(void *arg, const struct task_out *out, const char *user_id, int cost,
                      struct err *err)
{
    struct topic *t = arg;
    void *items = t->strays;

    if (t->n_strays == t->cap_strays && !grow(&items, &t->cap_strays, sizeof(*t->strays))) {
        return err_nomem(err);
    }
    t->strays = items;
    struct stray *s = &t->strays[t->n_strays++];
    *s = (struct stray){.out = *out, .cost = cost};
    snprintf(s->user_id, UUID_TEXT, "%s", user_id);
    return 0;
}

static void make_census(struct survey *survey, struct topic *t, int stage)
{
    struct topic fresh = {0};
    struct err err = ERR_INIT;
    uint64_t start = clock_mono_ms();
    int r = task_census(survey->d->service.db, stage, take_count, &fresh, &fresh.oldest_s, &err);
    uint64_t end = clock_mono_ms();

    pthread_mutex_lock(&survey->lock);
    t->census_at = end + CENSUS_MS / 2 + (end - start) * SHARE;
    if (r == 0) {
        free(t->counts);
        t->counts = STEAL(fresh.counts);
        t->n_counts = fresh.n_counts;
        t->cap_counts = fresh.cap_counts;
        t->oldest_s = fresh.oldest_s;
        t->census_ready = true;
    }
    pthread_mutex_unlock(&survey->lock);
    drop(&fresh);
    if (r < 0) {
        log_err(LOG_DEBUG, "no census", &err);
    }
}

static void make_strays(struct survey *survey, struct topic *t, int stage)
{
    struct topic fresh = {0};
    struct err err = ERR_INIT;
    int r = task_strays(survey->d->service.db, stage, take_stray, &fresh, &err);

    pthread_mutex_lock(&survey->lock);
    t->strays_at = clock_mono_ms() + STRAYS_MS;
    if (r == 0) {
        free(t->strays);
        t->strays = STEAL(fresh.strays);
        t->n_strays = fresh.n_strays;
        t->cap_strays = fresh.cap_strays;
        t->strays_ready = true;
    }
    pthread_mutex_unlock(&survey->lock);
    drop(&fresh);
    if (r < 0) {
        log_err(LOG_DEBUG, "what is out could not be read", &err);
    }
}

static void look_at(struct survey *survey, int shard, int stage)
{
    struct topic *t = &survey->topics[shard][stage];
    uint64_t now = clock_mono_ms();

    pthread_mutex_lock(&survey->lock);
    bool asked = t->asked != 0 && now - t->asked < ASKED_MS;
    bool census = asked && !t->census_ready && now >= t->census_at;
    bool strays = asked && t->strays_at != 0 && now >= t->strays_at;
    if (t->strays_at == 0 || !asked) {
        t->strays_at = now + STRAYS_MS; /* a new leader has just read them itself */
    }
    pthread_mutex_unlock(&survey->lock);
    if (census) {
        make_census(survey, t, stage);
    }
    if (strays) {
        make_strays(survey, t, stage);
    }
}

void *survey_loop(void *arg)
{
    struct survey *survey = arg;
    struct timespec ts = {.tv_nsec = TICK_MS * 1000000L};

    while (!atomic_load(&survey->d->service.stopping)) {
        for (int shard = 0; shard < survey->d->options.shards; shard++) {
            for (int stage = 1; stage <= STAGE_MAX; stage++) {
                look_at(survey, shard, stage);
            }
        }
        nanosleep(&ts, NULL);
    }
    return NULL;
}

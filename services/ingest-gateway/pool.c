/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

struct job {
    pool_fn fn;
    void *ctx;
    char owner[UUID_TEXT];
};

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct job *jobs; /* queued, oldest first */
    unsigned cap;
    unsigned n_queued;
    unsigned n_running;
    unsigned owner_runs;   /* at most at once, of one owner */
    unsigned owner_queues; /* likewise in the queue */
    bool stop;
    char name[16];
    struct worker *workers;
    unsigned n_threads;
};

struct worker {
    struct pool *pool;
    pthread_t thread;
    bool runs;
    char owner[UUID_TEXT]; /* of the job that runs */
};

static unsigned running_of(const struct pool *pool, const char *owner)
{
    unsigned n = 0;

    for (unsigned i = 0; i < pool->n_threads; i++) {
        n += pool->workers[i].runs && strcmp(pool->workers[i].owner, owner) == 0 ? 1 : 0;
    }
    return n;
}

/* The oldest job whose owner has a thread left; false when there is none. Lock held. */
static bool take_job(struct pool *pool, struct job *ret_job)
{
    for (unsigned i = 0; i < pool->n_queued; i++) {
        const struct job *job = &pool->jobs[i];
        if (pool->stop || pool->n_running < pool->owner_runs ||
            running_of(pool, job->owner) < pool->owner_runs) {
            *ret_job = *job;
            pool->n_queued--;
            memmove(&pool->jobs[i], &pool->jobs[i + 1], (pool->n_queued - i) * sizeof(*pool->jobs));
            return true;
        }
    }
    return false;
}

static void *pool_main(void *arg)
{
    struct worker *self = arg;
    struct pool *pool = self->pool;
    struct job job;

    pthread_mutex_lock(&pool->lock);
    for (;;) {
        if (!take_job(pool, &job)) {
            if (pool->stop) {
                break;
            }
            pthread_cond_wait(&pool->wake, &pool->lock);
            continue;
        }
        memcpy(self->owner, job.owner, sizeof(self->owner));
        self->runs = true;
        pool->n_running++;
        pthread_mutex_unlock(&pool->lock);
        job.fn(job.ctx);
        pthread_mutex_lock(&pool->lock);
        self->runs = false;
        pool->n_running--;
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

int pool_new(const char *name, unsigned threads, unsigned queue, unsigned share,
             struct pool **ret_pool, struct err *err)
{
    struct pool *pool = calloc(1, sizeof(*pool));
    sigset_t all;
    sigset_t before;

    if (!pool) {
        return err_nomem(err);
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    snprintf(pool->name, sizeof(pool->name), "%s", name);
    pool->cap = queue;
    pool->owner_runs = threads * share / 100;
    pool->owner_queues = queue * share / 100;
    pool->jobs = calloc(queue + 1, sizeof(*pool->jobs));
    pool->workers = calloc(threads, sizeof(*pool->workers));
    if (!pool->jobs || !pool->workers) {
        pool_free(pool);
        return err_nomem(err);
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = 0;
    for (unsigned i = 0; i < threads && rc == 0; i++) {
        struct worker *worker = &pool->workers[i];
        worker->pool = pool;
        pthread_mutex_lock(&pool->lock);
        rc = pthread_create(&worker->thread, NULL, pool_main, worker);
        if (rc == 0) {
            pthread_setname_np(worker->thread, pool->name);
            pool->n_threads++;
        }
        pthread_mutex_unlock(&pool->lock);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        pool_free(pool);
        return err_from_errno(err, rc, "starting threads");
    }
    *ret_pool = pool;
    return 0;
}

static unsigned queued_of(const struct pool *pool, const char *owner)
{
    unsigned n = 0;

    for (unsigned i = 0; i < pool->n_queued; i++) {
        n += strcmp(pool->jobs[i].owner, owner) == 0 ? 1 : 0;
    }
    return n;
}

bool pool_submit(struct pool *pool, const char *owner, pool_fn fn, void *ctx)
{
    pthread_mutex_lock(&pool->lock);
    bool ok = pool->n_queued < pool->cap && !pool->stop &&
              (pool->n_queued < pool->owner_queues || queued_of(pool, owner) < pool->owner_queues);
    if (ok) {
        struct job *job = &pool->jobs[pool->n_queued++];
        *job = (struct job){.fn = fn, .ctx = ctx};
        snprintf(job->owner, sizeof(job->owner), "%s", owner);
        pthread_cond_signal(&pool->wake);
    }
    pthread_mutex_unlock(&pool->lock);
    return ok;
}

unsigned pool_busy(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    unsigned n = pool->n_queued + pool->n_running;
    pthread_mutex_unlock(&pool->lock);
    return n;
}

void pool_free(struct pool *pool)
{
    if (!pool) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->n_threads; i++) {
        pthread_join(pool->workers[i].thread, NULL);
    }
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->wake);
    free(pool->jobs);
    free(pool->workers);
    free(pool);
}

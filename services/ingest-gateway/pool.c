/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>

struct job {
    pool_fn fn;
    void *ctx;
};

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct job *jobs; /* a circle of cap */
    unsigned cap;
    unsigned head;
    unsigned n_queued;
    unsigned n_running;
    bool stop;
    char name[16];
    pthread_t *threads;
    unsigned n_threads;
};

static void *pool_main(void *arg)
{
    struct pool *pool = arg;

    pthread_mutex_lock(&pool->lock);
    for (;;) {
        if (pool->n_queued == 0) {
            if (pool->stop) {
                break;
            }
            pthread_cond_wait(&pool->wake, &pool->lock);
            continue;
        }
        struct job job = pool->jobs[pool->head];
        pool->head = (pool->head + 1) % pool->cap;
        pool->n_queued--;
        pool->n_running++;
        pthread_mutex_unlock(&pool->lock);
        job.fn(job.ctx);
        pthread_mutex_lock(&pool->lock);
        pool->n_running--;
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

int pool_new(const char *name, unsigned threads, unsigned queue, struct pool **ret_pool,
             struct err *err)
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
    pool->jobs = calloc(queue, sizeof(*pool->jobs));
    pool->threads = calloc(threads, sizeof(*pool->threads));
    if (!pool->jobs || !pool->threads) {
        pool_free(pool);
        return err_nomem(err);
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = 0;
    for (unsigned i = 0; i < threads && rc == 0; i++) {
        rc = pthread_create(&pool->threads[i], NULL, pool_main, pool);
        if (rc == 0) {
            pthread_setname_np(pool->threads[i], pool->name);
            pool->n_threads++;
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        pool_free(pool);
        return err_from_errno(err, rc, "starting threads");
    }
    *ret_pool = pool;
    return 0;
}

bool pool_submit(struct pool *pool, pool_fn fn, void *ctx)
{
    pthread_mutex_lock(&pool->lock);
    bool ok = pool->n_queued < pool->cap && !pool->stop;
    if (ok) {
        pool->jobs[(pool->head + pool->n_queued) % pool->cap] = (struct job){fn, ctx};
        pool->n_queued++;
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
        pthread_join(pool->threads[i], NULL);
    }
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->wake);
    free(pool->jobs);
    free(pool->threads);
    free(pool);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small arrays and one lock: a worker holds at most a few dozen orders, as the dispatcher's credit
 * bounds what is out.
 */
#include "libcommon/stage_queue.h"

#include <pthread.h>
#include <string.h>

#define PARTS_MAX 256
#define PASSES_MAX 4U
#define SHARES_MAX (STAGE_QUEUE_MAX + STAGE_QUEUE_RUNNING_MAX)

struct share { /* of a user with items here, or taken out and not ended */
    char user[UUID_TEXT];
    int64_t used;    /* cost taken out so far, relative to the others */
    int64_t running; /* cost taken out and not ended */
};

struct part {
    bool known;
    bool dirty;
    int64_t next;  /* one past the highest offset seen */
    int64_t *open; /* unsettled offsets, unordered */
    size_t n_open, cap_open;
};

struct stage_queue {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct work_item *items;
    size_t n;
    struct share shares[SHARES_MAX];
    size_t n_shares;
    unsigned passed; /* how often the first item was overtaken */
    struct part parts[PARTS_MAX];
    bool closed;
};

int stage_queue_new(struct stage_queue **ret_queue, struct err *err)
{
    struct stage_queue *queue = calloc(1, sizeof(*queue));
    pthread_condattr_t attr;

    if (!queue) {
        return err_nomem(err);
    }
    queue->items = calloc(STAGE_QUEUE_MAX, sizeof(*queue->items));
    if (!queue->items) {
        free(queue);
        return err_nomem(err);
    }
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->filled, &attr);
    pthread_condattr_destroy(&attr);
    *ret_queue = queue;
    return 0;
}

void stage_queue_free(struct stage_queue *queue)
{
    if (!queue) {
        return;
    }
    for (size_t i = 0; i < PARTS_MAX; i++) {
        free(queue->parts[i].open);
    }
    pthread_mutex_destroy(&queue->lock);
    pthread_cond_destroy(&queue->filled);
    free(queue->items);
    free(queue);
}

static struct part *part_of(struct stage_queue *queue, int32_t partition)
{
    return partition >= 0 && partition < PARTS_MAX ? &queue->parts[partition] : NULL;
}

static void saw(struct part *part, int64_t offset)
{
    part->known = true;
    if (offset + 1 > part->next) {
        part->next = offset + 1;
        part->dirty = true;
    }
}

static bool add_open(struct part *part, int64_t offset)
{
    if (part->n_open == part->cap_open) {
        size_t cap = part->cap_open ? part->cap_open * 2 : 16;
        int64_t *open = realloc(part->open, cap * sizeof(*open));
        if (!open) {
            return false;
        }
        part->open = open;
        part->cap_open = cap;
    }
    part->open[part->n_open++] = offset;
    return true;
}

static struct share *share_of(struct stage_queue *queue, const char *user)
{
    int64_t least = 0;

    for (size_t i = 0; i < queue->n_shares; i++) {
        if (strcmp(queue->shares[i].user, user) == 0) {
            return &queue->shares[i];
        }
        least = i == 0 || queue->shares[i].used < least ? queue->shares[i].used : least;
    }
    /* A newcomer starts where the least served one is. */
    struct share *share = &queue->shares[queue->n_shares++];
    *share = (struct share){.used = least};
    memcpy(share->user, user, UUID_TEXT);
    return share;
}

int stage_queue_push(struct stage_queue *queue, const struct work_item *item, struct err *err)
{
    struct part *part = part_of(queue, item->partition);
    int r = 0;

    pthread_mutex_lock(&queue->lock);
    if (queue->n >= STAGE_QUEUE_MAX || !part) {
        r = err_set(err, ERR_TRANSIENT, "queue_full", "no room for another work order");
    } else if (!add_open(part, item->offset)) {
        r = err_nomem(err);
    } else {
        saw(part, item->offset);
        share_of(queue, item->order.user_id);
        queue->items[queue->n++] = *item;
        pthread_cond_signal(&queue->filled);
    }
    pthread_mutex_unlock(&queue->lock);
    return r;
}

void stage_queue_skip(struct stage_queue *queue, int32_t partition, int64_t offset)
{
    struct part *part = part_of(queue, partition);

    if (!part) {
        return;
    }
    pthread_mutex_lock(&queue->lock);
    saw(part, offset);
    pthread_mutex_unlock(&queue->lock);
}

static void drop_share_if_gone(struct stage_queue *queue, const char *user)
{
    for (size_t i = 0; i < queue->n; i++) {
        if (strcmp(queue->items[i].order.user_id, user) == 0) {
            return;
        }
    }
    for (size_t i = 0; i < queue->n_shares; i++) {
        if (strcmp(queue->shares[i].user, user) == 0) {
            if (queue->shares[i].running <= 0) {
                queue->shares[i] = queue->shares[--queue->n_shares];
            }
            return;
        }
    }
}

static void remove_item(struct stage_queue *queue, size_t i)
{
    memmove(&queue->items[i], &queue->items[i + 1], (queue->n - i - 1) * sizeof(queue->items[0]));
    queue->n--;
}

static int64_t cost_of(const struct work_item *item)
{
    return item->order.cost > 0 ? item->order.cost : 1;
}

/* Whose least is at work here goes first, then who has had least, then who came first: an order of
 * a user with nothing running does not stand behind those that were read ahead for one who has all
 * the slots. Nobody is overtaken for ever. */
static struct work_item take_fair(struct stage_queue *queue)
{
    struct share *best = share_of(queue, queue->items[0].order.user_id);
    size_t at = 0;

    for (size_t i = 1; i < queue->n && queue->passed < PASSES_MAX; i++) {
        struct share *s = share_of(queue, queue->items[i].order.user_id);
        if (s->running < best->running || (s->running == best->running && s->used < best->used)) {
            best = s;
            at = i;
        }
    }
    struct work_item item = queue->items[at];
    best->used += cost_of(&item);
    best->running += cost_of(&item);
    queue->passed = at == 0 ? 0 : queue->passed + 1;
    remove_item(queue, at);
    return item;
}

void stage_queue_ended(struct stage_queue *queue, const struct work_item *item)
{
    pthread_mutex_lock(&queue->lock);
    share_of(queue, item->order.user_id)->running -= cost_of(item);
    drop_share_if_gone(queue, item->order.user_id);
    pthread_mutex_unlock(&queue->lock);
}

bool stage_queue_pop(struct stage_queue *queue, unsigned timeout_ms, struct work_item *ret_item)
{
    uint64_t until = clock_mono_ms() + timeout_ms;
    struct timespec ts = {.tv_sec = (time_t)(until / 1000),
                          .tv_nsec = (long)(until % 1000) * 1000000L};
    bool got = false;

    pthread_mutex_lock(&queue->lock);
    while (queue->n == 0 && !queue->closed && timeout_ms > 0) {
        if (pthread_cond_timedwait(&queue->filled, &queue->lock, &ts) != 0) {
            break;
        }
    }
    if (queue->n > 0 && !queue->closed) {
        *ret_item = take_fair(queue);
        got = true;
    }
    pthread_mutex_unlock(&queue->lock);
    return got;
}

void stage_queue_settle(struct stage_queue *queue, int32_t partition, int64_t offset)
{
    struct part *part = part_of(queue, partition);

    if (!part) {
        return;
    }
    pthread_mutex_lock(&queue->lock);
    for (size_t i = 0; i < part->n_open; i++) {
        if (part->open[i] == offset) {
            part->open[i] = part->open[--part->n_open];
            part->dirty = true;
            break;
        }
    }
    pthread_mutex_unlock(&queue->lock);
}

int64_t stage_queue_commit(struct stage_queue *queue, int32_t partition)
{
    struct part *part = part_of(queue, partition);
    int64_t at = -1;

    if (!part) {
        return -1;
    }
    pthread_mutex_lock(&queue->lock);
    if (part->known && part->dirty) {
        at = part->next;
        for (size_t i = 0; i < part->n_open; i++) {
            at = part->open[i] < at ? part->open[i] : at;
        }
        part->dirty = false;
    }
    pthread_mutex_unlock(&queue->lock);
    return at;
}

void stage_queue_revoke(struct stage_queue *queue, int32_t partition)
{
    struct part *part = part_of(queue, partition);

    if (!part) {
        return;
    }
    pthread_mutex_lock(&queue->lock);
    for (size_t i = 0; i < queue->n;) {
        if (queue->items[i].partition == partition) {
            char user[UUID_TEXT];
            memcpy(user, queue->items[i].order.user_id, UUID_TEXT);
            remove_item(queue, i);
            drop_share_if_gone(queue, user);
        } else {
            i++;
        }
    }
    part->known = false;
    part->dirty = false;
    part->next = 0;
    part->n_open = 0;
    pthread_mutex_unlock(&queue->lock);
}

size_t stage_queue_take(struct stage_queue *queue, struct work_item *items, size_t max)
{
    pthread_mutex_lock(&queue->lock);
    size_t n = min_size(queue->n, max);
    if (n > 0) {
        memcpy(items, queue->items, n * sizeof(*items));
        memmove(queue->items, queue->items + n, (queue->n - n) * sizeof(*items));
        queue->n -= n;
    }
    for (size_t i = 0; i < n; i++) {
        drop_share_if_gone(queue, items[i].order.user_id);
    }
    pthread_mutex_unlock(&queue->lock);
    return n;
}

void stage_queue_close(struct stage_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    pthread_cond_broadcast(&queue->filled);
    pthread_mutex_unlock(&queue->lock);
}

size_t stage_queue_len(struct stage_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    size_t n = queue->n;
    pthread_mutex_unlock(&queue->lock);
    return n;
}

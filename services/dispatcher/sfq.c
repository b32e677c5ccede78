/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users sit in a hash table; those with heads also in a binary heap by start tag. A user's tag is
 * computed when it becomes the heap's business and after each pick: start = max(v, finish), and
 * finish = start + cost / weight. v is the start tag of the last pick.
 */
#include "services/dispatcher/sfq.h"

#include <string.h>

struct user {
    char id[UUID_TEXT];
    struct task_head heads[SFQ_HEADS_MAX]; /* in order of seq */
    int n;
    bool more;
    int64_t cursor; /* highest seq ever loaded */
    double start, finish, weight;
    int out;
    bool active_known; /* last_ms means something */
    uint64_t last_ms;  /* last sent or back */
    uint64_t bonus_ms; /* when the bonus was last given */
    bool bonus_given;
    bool judged; /* heads are for an activity whose start tag is set */
    size_t at;   /* place in the heap + 1; 0: not in it */
    struct user *next;
};

struct sfq {
    enum sfq_mode mode;
    struct user **buckets;
    size_t n_buckets;
    size_t n_users;
    struct user **heap;
    size_t n_heap, cap_heap;
    size_t waiting;
    size_t unjudged; /* in the heap, start tag not yet looked at */
    double v;
};

/* FNV-1a: ids are random already. */
static size_t hash(const char *id)
{
    uint64_t h = 1469598103934665603U;

    for (; *id; id++) {
        h = (h ^ (unsigned char)*id) * 1099511628211U;
    }
    return (size_t)h;
}

int sfq_new(enum sfq_mode mode, struct sfq **ret_sfq, struct err *err)
{
    struct sfq *sfq = calloc(1, sizeof(*sfq));

    if (sfq) {
        sfq->mode = mode;
        sfq->n_buckets = 1024;
        sfq->buckets = calloc(sfq->n_buckets, sizeof(struct user *));
    }
    if (!sfq || !sfq->buckets) {
        free(sfq);
        return err_nomem(err);
    }
    *ret_sfq = sfq;
    return 0;
}

void sfq_free(struct sfq *sfq)
{
    if (!sfq) {
        return;
    }
    for (size_t i = 0; i < sfq->n_buckets; i++) {
        for (struct user *u = sfq->buckets[i], *next; u; u = next) {
            next = u->next;
            free(u);
        }
    }
    free(sfq->buckets);
    free(sfq->heap);
    free(sfq);
}

static struct user *find(const struct sfq *sfq, const char *id)
{
    struct user *u = sfq->buckets[hash(id) & (sfq->n_buckets - 1)];

    while (u && strcmp(u->id, id) != 0) {
        u = u->next;
    }
    return u;
}

static void grow(struct sfq *sfq)
{
    size_t n = sfq->n_buckets * 2;
    struct user **buckets = calloc(n, sizeof(struct user *));

    if (!buckets) {
        return; /* longer chains, no harm */
    }
    for (size_t i = 0; i < sfq->n_buckets; i++) {
        for (struct user *u = sfq->buckets[i], *next; u; u = next) {
            size_t b = hash(u->id) & (n - 1);
            next = u->next;
            u->next = buckets[b];
            buckets[b] = u;
        }
    }
    free(sfq->buckets);
    sfq->buckets = buckets;
    sfq->n_buckets = n;
}

static struct user *find_or_make(struct sfq *sfq, const char *id)
{
    struct user *u = find(sfq, id);

    if (u) {
        return u;
    }
    u = calloc(1, sizeof(*u));
    if (!u) {
        return NULL;
    }
    if (sfq->n_users >= sfq->n_buckets) {
        grow(sfq);
    }
    memcpy(u->id, id, UUID_TEXT);
    u->weight = 1;
    size_t b = hash(id) & (sfq->n_buckets - 1);
    u->next = sfq->buckets[b];
    sfq->buckets[b] = u;
    sfq->n_users++;
    return u;
}

/* The heap --------------------------------------------------------------------------------------*/

static bool before(const struct sfq *sfq, const struct user *a, const struct user *b)
{
    if (sfq->mode == SFQ_FIFO || a->start == b->start) {
        return a->heads[0].seq < b->heads[0].seq;
    }
    return a->start < b->start;
}

static void place(struct sfq *sfq, size_t i, struct user *u)
{
    sfq->heap[i] = u;
    u->at = i + 1;
}

static void sift_up(struct sfq *sfq, size_t i)
{
    struct user *u = sfq->heap[i];

    while (i > 0 && before(sfq, u, sfq->heap[(i - 1) / 2])) {
        place(sfq, i, sfq->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(sfq, i, u);
}

static void sift_down(struct sfq *sfq, size_t i)
{
    struct user *u = sfq->heap[i];

    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= sfq->n_heap) {
            break;
        }
        if (c + 1 < sfq->n_heap && before(sfq, sfq->heap[c + 1], sfq->heap[c])) {
            c++;
        }
        if (!before(sfq, sfq->heap[c], u)) {
            break;
        }
        place(sfq, i, sfq->heap[c]);
        i = c;
    }
    place(sfq, i, u);
}

static int heap_add(struct sfq *sfq, struct user *u, struct err *err)
{
    if (sfq->n_heap == sfq->cap_heap) {
        size_t cap = sfq->cap_heap ? sfq->cap_heap * 2 : 64;
        struct user **heap = realloc(sfq->heap, cap * sizeof(*heap));
        if (!heap) {
            return err_nomem(err);
        }
        sfq->heap = heap;
        sfq->cap_heap = cap;
    }
    place(sfq, sfq->n_heap++, u);
    sift_up(sfq, sfq->n_heap - 1);
    return 0;
}

static void heap_remove(struct sfq *sfq, struct user *u)
{
    size_t i = u->at - 1;
    struct user *last = sfq->heap[--sfq->n_heap];

    u->at = 0;
    if (last != u) {
        place(sfq, i, last);
        sift_up(sfq, i);
        sift_down(sfq, last->at - 1);
    }
}

/* Heads -----------------------------------------------------------------------------------------*/

static bool same_key(const struct task_key *a, const struct task_key *b)
{
    return a->unit == b->unit && a->generation == b->generation &&
           strcmp(a->file_id, b->file_id) == 0;
}

/* Inserts by seq; false when it is held already or does not fit. */
static bool insert_head(struct user *u, const struct task_head *head)
{
    int i = u->n;

    for (int k = 0; k < u->n; k++) {
        if (same_key(&u->heads[k].key, &head->key)) {
            return false;
        }
    }
    if (u->n == SFQ_HEADS_MAX) {
        u->more = true;
        return false;
    }
    while (i > 0 && u->heads[i - 1].seq > head->seq) {
        u->heads[i] = u->heads[i - 1];
        i--;
    }
    u->heads[i] = *head;
    u->n++;
    return true;
}

int sfq_add(struct sfq *sfq, const struct task_head *head, struct err *err)
{
    struct user *u = find_or_make(sfq, head->user_id);

    if (!u) {
        return err_nomem(err);
    }
    if (!insert_head(u, head)) {
        return 0;
    }
    sfq->waiting++;
    if (head->seq > u->cursor) {
        u->cursor = head->seq;
    }
    if (u->at) {
        sift_up(sfq, u->at - 1);
        return 0;
    }
    u->start = u->finish > sfq->v ? u->finish : sfq->v;
    u->judged = false;
    sfq->unjudged++;
    return heap_add(sfq, u, err);
}

void sfq_set_more(struct sfq *sfq, const char *user_id, bool more)
{
    struct user *u = find(sfq, user_id);

    if (u) {
        u->more = more;
    }
}

void sfq_set_weight(struct sfq *sfq, const char *user_id, double weight)
{
    struct user *u = find(sfq, user_id);

    if (u && weight > 0) {
        u->weight = weight;
    }
}

/* A user that has nothing out and had nothing lately goes before the others, once per idle time, so
 * that cancelling and uploading again gains nothing. */
static void judge_newcomer(struct sfq *sfq, struct user *u, uint64_t now_ms)
{
    u->judged = true;
    sfq->unjudged--;
    if (u->out > 0 || (u->active_known && now_ms - u->last_ms < SFQ_IDLE_MS) ||
        (u->bonus_given && now_ms - u->bonus_ms < SFQ_IDLE_MS)) {
        return;
    }
    u->bonus_given = true;
    u->bonus_ms = now_ms;
    u->start = sfq->v - SFQ_QUANTUM;
    sift_up(sfq, u->at - 1);
}

/* Newcomers are few at a time: those at hand are judged before each pick. Judging moves a user up,
 * and another unjudged one may come down to a place already passed: hence the outer loop. */
static void judge_all(struct sfq *sfq, uint64_t now_ms)
{
    while (sfq->unjudged > 0) {
        for (size_t i = 0; i < sfq->n_heap; i++) {
            if (!sfq->heap[i]->judged) {
                judge_newcomer(sfq, sfq->heap[i], now_ms);
            }
        }
    }
}

static struct user *choose(struct sfq *sfq, int user_cap)
{
    struct user *u = sfq->heap[0];

    if (u->out < user_cap || sfq->n_heap == 1) {
        return u;
    }
    struct user *best = NULL;
    for (size_t i = 1; i < sfq->n_heap; i++) {
        struct user *o = sfq->heap[i];
        if (o->out < user_cap && (!best || before(sfq, o, best))) {
            best = o;
        }
    }
    return best ? best : u;
}

bool sfq_pick(struct sfq *sfq, uint64_t now_ms, int user_cap, struct task_head *ret_head)
{
    if (sfq->n_heap == 0) {
        return false;
    }
    if (sfq->mode == SFQ_FAIR) {
        judge_all(sfq, now_ms);
    }
    struct user *u = sfq->mode == SFQ_FAIR ? choose(sfq, user_cap) : sfq->heap[0];
    struct task_head head = u->heads[0];
    double cost = head.cost > 0 ? head.cost : 1;

    memmove(&u->heads[0], &u->heads[1], (size_t)(u->n - 1) * sizeof(u->heads[0]));
    u->n--;
    sfq->waiting--;
    sfq->v = u->start > sfq->v ? u->start : sfq->v;
    u->finish = u->start + cost / u->weight;
    u->start = u->finish;
    if (u->n == 0) {
        heap_remove(sfq, u);
    } else {
        sift_down(sfq, u->at - 1);
    }
    *ret_head = head;
    return true;
}

void sfq_sent(struct sfq *sfq, const char *user_id, uint64_t now_ms)
{
    struct user *u = find_or_make(sfq, user_id);

    if (u) {
        u->out++;
        u->last_ms = now_ms;
        u->active_known = true;
    }
}

void sfq_unpick(struct sfq *sfq, const struct task_head *head)
{
    struct user *u = find(sfq, head->user_id);

    if (!u) {
        return;
    }
    u->finish -= (head->cost > 0 ? head->cost : 1) / u->weight;
    if (u->at) {
        u->start = u->finish;
        sift_up(sfq, u->at - 1);
    }
}

int sfq_put_back(struct sfq *sfq, const struct task_head *head, struct err *err)
{
    sfq_unpick(sfq, head);
    return sfq_add(sfq, head, err);
}

void sfq_back(struct sfq *sfq, const char *user_id, uint64_t now_ms)
{
    struct user *u = find(sfq, user_id);

    if (u && u->out > 0) {
        u->out--;
        u->last_ms = now_ms;
    }
}

size_t sfq_refill(const struct sfq *sfq, int low, char (*users)[UUID_TEXT], int64_t *cursors,
                  size_t max)
{
    size_t n = 0;

    for (size_t i = 0; i < sfq->n_buckets && n < max; i++) {
        for (const struct user *u = sfq->buckets[i]; u && n < max; u = u->next) {
            if (u->more && u->n < low) {
                memcpy(users[n], u->id, UUID_TEXT);
                cursors[n++] = u->cursor;
            }
        }
    }
    return n;
}

void sfq_reset(struct sfq *sfq)
{
    for (size_t i = 0; i < sfq->n_buckets; i++) {
        for (struct user *u = sfq->buckets[i]; u; u = u->next) {
            u->cursor = 0;
            u->more = false;
            u->n = 0;
            if (u->at) {
                heap_remove(sfq, u);
            }
        }
    }
    sfq->waiting = 0;
    sfq->unjudged = 0;
}

void sfq_prune(struct sfq *sfq, uint64_t before_ms)
{
    for (size_t i = 0; i < sfq->n_buckets; i++) {
        for (struct user **p = &sfq->buckets[i]; *p;) {
            struct user *u = *p;
            if (u->n == 0 && u->out == 0 && !u->more && u->last_ms < before_ms &&
                (!u->bonus_given || u->bonus_ms < before_ms)) {
                *p = u->next;
                free(u);
                sfq->n_users--;
            } else {
                p = &u->next;
            }
        }
    }
}

size_t sfq_waiting(const struct sfq *sfq)
{
    return sfq->waiting;
}

size_t sfq_users(const struct sfq *sfq)
{
    return sfq->n_users;
}

void sfq_shares(const struct sfq *sfq, double *ret_top, double *ret_jain)
{
    double sum = 0, squares = 0, top = 0;
    size_t n = 0;

    for (size_t i = 0; i < sfq->n_buckets; i++) {
        for (const struct user *u = sfq->buckets[i]; u; u = u->next) {
            if (u->out > 0 || u->n > 0) {
                sum += u->out;
                squares += (double)u->out * u->out;
                top = u->out > top ? u->out : top;
                n++;
            }
        }
    }
    *ret_top = sum > 0 ? top / sum : 0;
    *ret_jain = squares > 0 ? sum * sum / ((double)n * squares) : 1;
}

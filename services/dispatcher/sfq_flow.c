/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users in a hash table, their flows, and the heads of each flow: a small array that grows with
 * use, since most users hold few and the queue has to hold ten thousand of them cheaply.
 */
#include <stdio.h>
#include <string.h>

#include "libcommon/fnv.h"
#include "services/dispatcher/sfq_intern.h"

/* Ids -------------------------------------------------------------------------------------------*/

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : 0;
}

void sfq_id_pack(unsigned char id[16], const char *text)
{
    size_t n = 0;

    memset(id, 0, 16);
    for (; *text && n < 32; text++) {
        if (*text != '-') {
            id[n / 2] = (unsigned char)(id[n / 2] | hex_digit(*text) << (n % 2 ? 0 : 4));
            n++;
        }
    }
}

void sfq_id_text(char text[UUID_TEXT], const unsigned char id[16])
{
    static const char digits[] = "0123456789abcdef";
    size_t len = 0;

    for (size_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            text[len++] = '-';
        }
        text[len++] = digits[id[i] >> 4];
        text[len++] = digits[id[i] & 15];
    }
    text[len] = '\0';
}

/* Users -----------------------------------------------------------------------------------------*/

/* Ids are random already. */
static size_t hash(const unsigned char id[16])
{
    uint64_t h = fnv64(FNV64_START, id, 16);

    return (size_t)(h ^ h >> 32);
}

static struct sfq_user *find_id(const struct sfq *sfq, const unsigned char id[16])
{
    struct sfq_user *u = sfq->buckets[hash(id) & (sfq->n_buckets - 1)];

    while (u && memcmp(u->id, id, 16) != 0) {
        u = u->next;
    }
    return u;
}

struct sfq_user *sfq_find(const struct sfq *sfq, const char *user_id)
{
    unsigned char id[16];

    sfq_id_pack(id, user_id);
    return find_id(sfq, id);
}

static void grow(struct sfq *sfq)
{
    size_t n = sfq->n_buckets * 2;
    struct sfq_user **buckets = calloc(n, sizeof(struct sfq_user *));

    if (!buckets) {
        return; /* longer chains, no harm */
    }
    for (size_t i = 0; i < sfq->n_buckets; i++) {
        for (struct sfq_user *u = sfq->buckets[i], *next; u; u = next) {
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

struct sfq_user *sfq_find_or_make(struct sfq *sfq, const char *user_id)
{
    unsigned char id[16];

    sfq_id_pack(id, user_id);
    struct sfq_user *u = find_id(sfq, id);
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
    memcpy(u->id, id, 16);
    u->weight = 1;
    size_t b = hash(id) & (sfq->n_buckets - 1);
    u->next = sfq->buckets[b];
    sfq->buckets[b] = u;
    sfq->n_users++;
    return u;
}

static void free_user(struct sfq_user *u)
{
    for (int lane = 0; lane <= LANE_MAX; lane++) {
        if (u->flows[lane]) {
            free(u->flows[lane]->heads);
            free(u->flows[lane]);
        }
    }
    free(u);
}

static bool idle(const struct sfq_user *u, uint64_t before_ms)
{
    for (int lane = 0; lane <= LANE_MAX; lane++) {
        const struct sfq_flow *f = u->flows[lane];
        if (f && (f->n > 0 || f->more || f->hungry)) {
            return false;
        }
    }
    return u->out == 0 && u->last_ms < before_ms && u->bonus_ms < before_ms;
}

void sfq_forget_users(struct sfq *sfq, uint64_t before_ms)
{
    for (size_t i = 0; i < sfq->n_buckets; i++) {
        for (struct sfq_user **p = &sfq->buckets[i]; *p;) {
            struct sfq_user *u = *p;
            if (idle(u, before_ms)) {
                *p = u->next;
                free_user(u);
                sfq->n_users--;
            } else {
                p = &u->next;
            }
        }
    }
}

int sfq_new(enum sfq_mode mode, struct sfq **ret_sfq, struct err *err)
{
    struct sfq *sfq = calloc(1, sizeof(*sfq));

    if (sfq) {
        sfq->mode = mode;
        sfq->now = 1;
        sfq->n_buckets = 64;
        sfq->buckets = calloc(sfq->n_buckets, sizeof(struct sfq_user *));
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
        for (struct sfq_user *u = sfq->buckets[i], *next; u; u = next) {
            next = u->next;
            free_user(u);
        }
    }
    free(sfq->buckets);
    free(sfq->classes[0].heap);
    free(sfq->classes[1].heap);
    free(sfq);
}

/* Flows -----------------------------------------------------------------------------------------*/

static int lane_in_range(int lane)
{
    return lane < 0 || lane > LANE_MAX ? LANE_BULK : lane;
}

struct sfq_flow *sfq_flow_of(const struct sfq *sfq, const char *user_id, int lane)
{
    struct sfq_user *u = sfq_find(sfq, user_id);

    return u ? u->flows[lane_in_range(lane)] : NULL;
}

struct sfq_flow *sfq_flow_make(struct sfq *sfq, const char *user_id, int lane)
{
    struct sfq_user *u = sfq_find_or_make(sfq, user_id);
    struct sfq_flow **p = u ? &u->flows[lane_in_range(lane)] : NULL;

    if (p && !*p) {
        *p = calloc(1, sizeof(**p));
        if (*p) {
            (*p)->user = u;
            (*p)->lane = (uint8_t)lane_in_range(lane);
            (*p)->want = SFQ_HEADS_FIRST;
            (*p)->ratio = 1;
        }
    }
    return p ? *p : NULL;
}

int sfq_flow_reserve(struct sfq_flow *flow, int n, struct err *err)
{
    int cap = flow->cap ? flow->cap : 1;

    while (cap < n) {
        cap *= 2;
    }
    if (cap > flow->cap) {
        struct sfq_head *heads = realloc(flow->heads, (size_t)cap * sizeof(*heads));
        if (!heads) {
            return err_nomem(err);
        }
        flow->heads = heads;
        flow->cap = (uint8_t)cap;
    }
    return 0;
}

static void set_hungry(struct sfq *sfq, struct sfq_flow *flow)
{
    if (!flow->hungry) {
        flow->hungry = true;
        flow->hungry_next = sfq->hungry;
        sfq->hungry = flow;
    }
}

void sfq_flow_note(struct sfq *sfq, struct sfq_flow *flow)
{
    bool dry = flow->more && flow->n == 0;

    if (dry != flow->dry) {
        flow->dry = dry;
        sfq->dry += dry ? 1 : (size_t)-1;
    }
    if (flow->more && flow->n < flow->want / 4 + 1) {
        set_hungry(sfq, flow);
    }
}

int sfq_want(const struct sfq *sfq, const char *user_id, int lane)
{
    const struct sfq_flow *f = sfq_flow_of(sfq, user_id, lane);

    return f ? f->want : SFQ_HEADS_FIRST;
}

size_t sfq_hungry(struct sfq *sfq, struct task_ask *asks, size_t max)
{
    size_t n = 0;

    while (sfq->hungry && n < max) {
        struct sfq_flow *f = sfq->hungry;
        sfq->hungry = f->hungry_next;
        f->hungry = false;
        if (!f->more || f->n >= SFQ_HEADS_MAX) {
            continue;
        }
        f->want = (uint8_t)(f->want * 2 > SFQ_HEADS_MAX ? SFQ_HEADS_MAX : f->want * 2);
        asks[n].lane = f->lane;
        asks[n].after = f->cursor;
        asks[n].limit = f->want > f->n ? f->want - f->n : 1;
        sfq_id_text(asks[n].user_id, f->user->id);
        n++;
    }
    return n;
}

/* Heads -----------------------------------------------------------------------------------------*/

static void pack_head(struct sfq_head *small, const struct task_head *head)
{
    sfq_id_pack(small->file, head->key.file_id);
    small->seq = head->seq;
    small->unit = head->key.unit;
    small->generation = head->key.generation;
    small->cost = head->cost;
}

static bool same_head(const struct sfq_head *a, const struct sfq_head *b)
{
    return a->unit == b->unit && a->generation == b->generation &&
           memcmp(a->file, b->file, sizeof(a->file)) == 0;
}

/* By seq. The last one gives way when the flow is full: it is read again later. */
static void insert_head(struct sfq *sfq, struct sfq_flow *f, const struct sfq_head *head)
{
    int i = f->n;

    for (int k = 0; k < f->n; k++) {
        if (same_head(&f->heads[k], head)) {
            return;
        }
    }
    if (f->more && head->seq > f->cursor) {
        return; /* its turn to be read comes */
    }
    if (f->n == SFQ_HEADS_MAX) {
        f->more = true;
        if (f->heads[f->n - 1].seq <= head->seq) {
            return;
        }
        f->n--;
        sfq->waiting--;
        i--;
        f->cursor = f->n > 0 ? f->heads[f->n - 1].seq : 0;
    }
    while (i > 0 && f->heads[i - 1].seq > head->seq) {
        f->heads[i] = f->heads[i - 1];
        i--;
    }
    f->heads[i] = *head;
    f->n++;
    sfq->waiting++;
    if (head->seq > f->cursor) {
        f->cursor = head->seq;
    }
}

int sfq_add(struct sfq *sfq, const struct task_head *head, struct err *err)
{
    struct sfq_flow *f = sfq_flow_make(sfq, head->user_id, head->lane);
    struct sfq_head small;

    if (!f) {
        return err_nomem(err);
    }
    int n_before = f->n;
    if (f->n < SFQ_HEADS_MAX && sfq_flow_reserve(f, f->n + 1, err) < 0) {
        return -1;
    }
    pack_head(&small, head);
    insert_head(sfq, f, &small);
    f->pass = sfq->pass;
    return sfq_flow_changed(sfq, f, n_before, err);
}

static int take_heads(struct sfq *sfq, struct sfq_flow *f, const struct task_head *heads, size_t n,
                      bool more, int n_before, struct err *err)
{
    for (size_t i = 0; i < n && f->n < SFQ_HEADS_MAX; i++) {
        pack_head(&f->heads[f->n++], &heads[i]);
        sfq->waiting++;
        f->cursor = heads[i].seq;
    }
    if (n > 0 && heads[0].weight > 0) {
        f->user->weight = heads[0].weight;
    }
    f->pass = sfq->pass;
    f->more = more;
    return sfq_flow_changed(sfq, f, n_before, err);
}

int sfq_load(struct sfq *sfq, const char *user_id, int lane, const struct task_head *heads,
             size_t n, bool more, struct err *err)
{
    struct sfq_flow *f =
        n > 0 ? sfq_flow_make(sfq, user_id, lane) : sfq_flow_of(sfq, user_id, lane);

    if (!f) {
        return n > 0 ? err_nomem(err) : 0;
    }
    more = more || n > SFQ_HEADS_MAX;
    n = min_size(n, SFQ_HEADS_MAX);
    if (sfq_flow_reserve(f, (int)n, err) < 0) {
        return -1;
    }
    int n_before = f->n;
    sfq->waiting -= f->n;
    f->n = 0;
    f->cursor = 0;
    return take_heads(sfq, f, heads, n, more, n_before, err);
}

int sfq_append(struct sfq *sfq, const char *user_id, int lane, const struct task_head *heads,
               size_t n, bool more, struct err *err)
{
    struct sfq_flow *f = sfq_flow_make(sfq, user_id, lane);

    if (!f) {
        return err_nomem(err);
    }
    size_t room = (size_t)(SFQ_HEADS_MAX - f->n);
    more = more || n > room;
    n = min_size(n, room);
    return sfq_flow_reserve(f, f->n + (int)n, err) < 0
               ? -1
               : take_heads(sfq, f, heads, n, more, f->n, err);
}

void sfq_known(struct sfq *sfq, bool known)
{
    sfq->known = known;
}

void sfq_begin_pass(struct sfq *sfq)
{
    sfq->pass++;
}

void sfq_end_pass(struct sfq *sfq, uint64_t before_ms)
{
    struct err err = ERR_INIT;

    for (size_t i = 0; i < sfq->n_buckets; i++) {
        for (struct sfq_user *u = sfq->buckets[i]; u; u = u->next) {
            for (int lane = 0; lane <= LANE_MAX; lane++) {
                struct sfq_flow *f = u->flows[lane];
                if (f && f->pass != sfq->pass && (f->n > 0 || f->more)) {
                    int n_before = f->n;
                    sfq->waiting -= f->n;
                    f->n = 0;
                    f->more = false;
                    (void)sfq_flow_changed(sfq, f, n_before, &err); /* removal cannot fail */
                }
            }
        }
    }
    sfq_forget_users(sfq, before_ms);
}

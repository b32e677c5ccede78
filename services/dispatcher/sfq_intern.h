/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The insides of the fair queue, shared by sfq.c (tags, turns), sfq_flow.c (users, flows, heads)
 * and sfq_view.c (what is shown of it). Invariant: a flow is in its heap if and only if it has
 * heads.
 */
#pragma once

#include "services/dispatcher/sfq.h"

#define SERVED_HALF_MS 20000.0

/* A head, small: ids in binary, user and lane by the flow that holds it. */
struct sfq_head {
    int64_t seq;
    unsigned char file[16];
    int32_t unit, generation, cost;
};

struct sfq_user {
    unsigned char id[16];
    struct sfq_user *next; /* in its bucket */
    struct sfq_flow *flows[LANE_MAX + 1];
    double weight;
    double served; /* cost, decayed up to served_ms */
    uint64_t served_ms;
    uint64_t last_ms;  /* last sent or back; 0: never */
    uint64_t bonus_ms; /* when the bonus was last given; 0: never */
    int out;
};

struct sfq_flow {
    struct sfq_user *user;
    struct sfq_head *heads; /* in order of seq */
    struct sfq_flow *hungry_next;
    double start, finish;
    double ratio;         /* measured cost / estimated, of late */
    int64_t cursor;       /* highest seq held or picked */
    uint64_t serial;      /* of its last pick */
    uint64_t waits_since; /* since it has had heads */
    double backlog_cost;  /* by the last census */
    int32_t backlog;
    uint32_t at;   /* place in the heap + 1; 0: not in it */
    uint32_t pass; /* the last pass that saw it */
    uint8_t n, cap, want, lane;
    bool more, hungry, dry;
    bool bonus; /* the start tag is a newcomer's */
};

/* One heap and clock per class: lane 0, and lanes 1 and 2. FIFO: all in the first. */
struct sfq_class {
    struct sfq_flow **heap;
    size_t n, cap;
    double v; /* start tag of the last pick */
};

struct sfq {
    enum sfq_mode mode;
    uint64_t now;
    struct sfq_user **buckets;
    size_t n_buckets, n_users;
    struct sfq_class classes[2];
    struct sfq_flow *hungry;
    size_t dry; /* flows without heads that have more */
    size_t waiting;
    int out;
    double max_finish[2];
    uint64_t serial;
    int turn; /* picks of lane 0 since the last of lanes 1 and 2 */
    uint32_t pass;
    bool known; /* who begins to wait now has waited under another leader */
};

/* sfq_flow.c */
void sfq_id_pack(unsigned char id[16], const char *text);
void sfq_id_text(char text[UUID_TEXT], const unsigned char id[16]);
struct sfq_user *sfq_find(const struct sfq *sfq, const char *user_id);
struct sfq_user *sfq_find_or_make(struct sfq *sfq, const char *user_id);
struct sfq_flow *sfq_flow_of(const struct sfq *sfq, const char *user_id, int lane);
struct sfq_flow *sfq_flow_make(struct sfq *sfq, const char *user_id, int lane);
/* Room for n heads. */
int sfq_flow_reserve(struct sfq_flow *flow, int n, struct err *err) WARN_UNUSED;
/* After each change of its heads or of `more`: hungry and dry follow. */
void sfq_flow_note(struct sfq *sfq, struct sfq_flow *flow);
void sfq_forget_users(struct sfq *sfq, uint64_t before_ms);

/* sfq_view.c */
/* The user got this much. */
void sfq_serve(const struct sfq *sfq, struct sfq_user *u, double cost);

/* sfq.c */
/* The number of heads changed, or the first one did: keeps heap, tags and totals. */
int sfq_flow_changed(struct sfq *sfq, struct sfq_flow *flow, int n_before, struct err *err);

static inline struct sfq_class *sfq_class_of(struct sfq *sfq, const struct sfq_flow *flow)
{
    return &sfq->classes[sfq->mode == SFQ_FAIR && flow->lane != LANE_FIRST ? 1 : 0];
}

static inline double sfq_flow_weight(const struct sfq_flow *flow)
{
    return flow->user->weight * (flow->lane == LANE_REPLAY ? SFQ_REPLAY_WEIGHT : 1.0);
}

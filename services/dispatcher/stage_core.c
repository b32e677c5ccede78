/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A round of a stage's leader. What the clock asks for comes first, then what waits is brought up
 * to date, then orders go out as long as there is credit and somebody waits.
 */
#include "services/dispatcher/stage_core.h"

#include <string.h>

#include "services/dispatcher/stage_core_intern.h"

#define IDLE_POLL_MS 200U
#define BUSY_POLL_MS 50U
#define PASS_POLL_MS 2U
#define QUICK_POLL_MS 5U
#define CHECK_GAP_MS                                                                               \
    10U /* every commit of a worker pokes all stages: not each is a reason to look */
#define PASS_MS 5000U
#define STRAYS_MS 1000U /* a look at the newest list; making one is io's affair */

int user_shard(const char *user_id, int shards)
{
    size_t len = strlen(user_id);

    /* The end of a UUIDv7 is random. */
    return shards > 1 && len >= 4 ? (int)(strtol(user_id + len - 4, NULL, 16) % shards) : 0;
}

bool lead_owns(const struct stage_lead *lead, const char *user_id)
{
    return lead->c.shards <= 1 || user_shard(user_id, lead->c.shards) == lead->c.shard;
}

void lead_contact(struct stage_lead *lead)
{
    uint64_t now = lead->io.now_ms(lead->io.ctx);
    uint64_t gap = now - lead->db_ok_at, lease = (uint64_t)lead->c.lease_ms, wait;

    if (lead->db_ok_at == 0 || gap > lease / 8) {
        /* Who begins cannot know of an outage before, and several short ones can cost a holder all
         * its renewals: they renew within a third. */
        wait = gap > lease / 3 && lead->db_ok_at != 0 ? lease : lease / 3;
        lead->leases_from = now + wait > lead->leases_from ? now + wait : lead->leases_from;
    }
    lead->db_ok_at = now;
}

void lead_trouble(struct stage_lead *lead, const char *what, const struct err *err)
{
    const struct lead_news news = {.note = LEAD_TROUBLE, .what = what, .err = err};

    lead->io.tell(lead->io.ctx, lead->c.stage, &news);
}

int stage_lead_new(const struct stage_lead_config *config, const struct lead_io *io,
                   struct stage_lead **ret_lead, struct err *err)
{
    struct stage_lead *lead = calloc(1, sizeof(*lead));

    if (!lead) {
        return err_nomem(err);
    }
    lead->c = *config;
    lead->io = *io;
    lead->now = io->now_ms(io->ctx);
    if (sfq_new(config->fifo ? SFQ_FIFO : SFQ_FAIR, &lead->sfq, err) < 0) {
        free(lead);
        return -1;
    }
    *ret_lead = lead;
    return 0;
}

void stage_lead_free(struct stage_lead *lead)
{
    if (lead) {
        out_done(&lead->out);
        sfq_free(lead->sfq);
        free(lead);
    }
}

void stage_lead_follow(struct stage_lead *lead)
{
    lead_contact(lead);
}

/* Tags begin at 0 for everybody: none was further than one unit's cost ahead of another that waits,
 * so nobody loses or gains more than that by a change of leaders. */
int stage_lead_take_over(struct stage_lead *lead, struct err *err)
{
    struct sfq *fresh = NULL;
    int64_t uptime = 0;

    /* A server that takes no writes is as far away as one that is down: nobody can renew. */
    if (lead->io.db_uptime(lead->io.ctx, &uptime, err) < 0 ||
        sfq_new(lead->c.fifo ? SFQ_FIFO : SFQ_FAIR, &fresh, err) < 0) {
        return -1;
    }
    sfq_free(lead->sfq);
    lead->sfq = fresh;
    out_clear(&lead->out);
    lead->now = lead->io.now_ms(lead->io.ctx);
    sfq_set_now(lead->sfq, lead->now);
    lead->broker_ok = true;
    lead->broker_at = 0;
    lead->n_partitions = 0;
    lead->swept_at = 0;
    lead->looked_at = 0;
    lead->probe_at = lead->now;
    lead->returned = 0;
    lead->passing = false;
    lead->first_pass = true;
    lead->pass_at = lead->now;
    if (lead_find_strays(lead, true, err) < 0 || lead_look_at_workers(lead, err) < 0) {
        return -1;
    }
    lead_contact(lead);
    lead->strays_at = lead->now + STRAYS_MS;
    lead->sweep_at = lead->now;
    lead->publish_at = lead->now;
    return 0;
}

static int timed_work(struct stage_lead *lead, struct err *err)
{
    if (lead->now >= lead->workers_at && lead_look_at_workers(lead, err) < 0) {
        return -1;
    }
    if (lead->now >= lead->strays_at) {
        lead->strays_at = lead->now + STRAYS_MS;
        if (lead_find_strays(lead, false, err) < 0) {
            return -1;
        }
    }
    if (lead->now >= lead->sweep_at && lead_sweep(lead, err) < 0) {
        return -1;
    }
    return lead->now >= lead->publish_at ? lead_publish(lead, err) : 0;
}

/* Everything from time to time, a page a turn; the users that were named; with nothing at hand and
 * nobody named, one probe. First in, first out needs all heads at once to be that. */
static int load_heads(struct stage_lead *lead, char (*users)[UUID_TEXT], size_t n, bool overflow,
                      struct err *err)
{
    bool any = false;

    if (!lead->passing && (lead->now >= lead->pass_at || overflow)) {
        lead->pass_at = lead->now + PASS_MS;
        lead_begin_pass(lead);
    }
    if (n > 0 && lead_load_users(lead, users, n, err) < 0) {
        return -1;
    }
    if (!lead->passing && n == 0 && sfq_waiting(lead->sfq) == 0 && lead->now >= lead->probe_at) {
        lead->probe_at = lead->now + IDLE_POLL_MS;
        if (lead->io.heads_any(lead->io.ctx, lead->c.stage, &any, err) < 0) {
            return -1;
        }
        /* With shards it may be another one's: the next pass tells. */
        if (any && lead->c.shards <= 1) {
            lead_begin_pass(lead);
        }
    }
    do {
        if (lead->passing && lead_pass_page(lead, err) < 0) {
            return -1;
        }
    } while (lead->passing && lead->c.fifo);
    return 0;
}

/* Somebody waits and the credit is used up: what came back? */
static int free_credit(struct stage_lead *lead, struct err *err)
{
    bool wanted = (sfq_waiting(lead->sfq) > 0 || lead->passing) && !lead->paused &&
                  (int)lead->out.n >= lead->credit;

    lead->check_late = wanted && lead->now - lead->checked_at < CHECK_GAP_MS;
    return wanted && !lead->check_late ? lead_check_out(lead, err) : 0;
}

static int send_orders(struct stage_lead *lead, struct err *err)
{
    bool more = true, any = false;

    if (free_credit(lead, err) < 0 || lead_refill(lead, &any, err) < 0) {
        return -1;
    }
    while (more && lead_may_send(lead)) {
        lead->now = lead->io.now_ms(lead->io.ctx);
        sfq_set_now(lead->sfq, lead->now);
        if (lead_send_batch(lead, &more, err) < 0 || lead_refill(lead, &any, err) < 0) {
            return -1;
        }
        more = more || (any && lead->broker_ok && lead_has_room(lead));
    }
    return 0;
}

int stage_lead_turn(struct stage_lead *lead, char (*users)[UUID_TEXT], size_t n, bool overflow,
                    struct err *err)
{
    lead->now = lead->io.now_ms(lead->io.ctx);
    sfq_set_now(lead->sfq, lead->now);
    if (overflow) {
        lead->workers_at = lead->publish_at = lead->now; /* a pause may be among it */
    }
    if (timed_work(lead, err) < 0 || load_heads(lead, users, n, overflow, err) < 0 ||
        send_orders(lead, err) < 0) {
        return -1;
    }
    lead_contact(lead);
    return 0;
}

unsigned stage_lead_wait_ms(const struct stage_lead *lead)
{
    if (lead->passing) {
        return PASS_POLL_MS;
    }
    if (sfq_waiting(lead->sfq) == 0 || lead->paused || !lead->broker_ok) {
        return IDLE_POLL_MS;
    }
    if (lead->check_late) {
        return CHECK_GAP_MS;
    }
    /* Credit is used up: look when about a quarter of it should be back. */
    double ms = lead->rate > 0 ? 250.0 * lead->credit / lead->rate : BUSY_POLL_MS;
    return ms >= BUSY_POLL_MS ? BUSY_POLL_MS : ms <= QUICK_POLL_MS ? QUICK_POLL_MS : (unsigned)ms;
}

static void due_user(void *arg, int stage, const char *user_id)
{
    const struct lead_io *io = arg;

    if (stage >= 1 && stage <= STAGE_MAX) {
        io->notify(io->ctx, stage, user_id);
    }
}

int stage_promote(const struct lead_io *io, struct err *err)
{
    struct lead_io copy = *io;

    return io->promote(io->ctx, due_user, &copy, err);
}

# SPDX-License-Identifier: Apache-2.0
"""The planted bugs. Each: what it breaks, the texts to replace, and the test that must find it.

Those whose catcher is modelcheck break the SQL alone: the model does not share the change. Those
named model-* make the same change in the model, as if nobody had noticed, so that the simulation
itself must find what it does to files."""

UNIT_RUN = "libcommon/unit_run.c"
UNIT_CORE = "libcommon/unit_core.c"
QUEUE = "libcommon/stage_queue.c"
OPS = "libcommon/task_ops.c"
END = "libcommon/task_end.c"
ACCEPT = "libcommon/task_accept.c"
DISPATCH = "libcommon/task_dispatch.c"
SEND = "services/dispatcher/stage_send.c"
SWEEP = "services/dispatcher/stage_sweep.c"
SFQ = "services/dispatcher/sfq.c"
MODEL = "tests/sim/model_work.c"


def mutant(name, what, catcher, *changes):
    return {"name": name, "what": what, "catcher": catcher, "changes": changes}


MUTANTS = [
    # The five of the specification.
    mutant("no-token-check", "an end needs no lease token", "modelcheck",
           (END, "AND generation = $4::int AND lease_token = $5::bigint AND state = 2\"                      \\\n"
                 "    \"  RETURNING file_id, user_id, stage",
            "AND generation = $4::int AND $5::bigint > 0 AND state = 2\"                      \\\n"
            "    \"  RETURNING file_id, user_id, stage")),
    mutant("model-no-token-check", "an end needs no lease token", "sim",
           (MODEL, "return t && t->token == token && t->state == TASK_RUNNING ? t : NULL;",
            "return t && token > 0 && t->state == TASK_RUNNING ? t : NULL;")),
    mutant("produce-before-commit", "an order is sent before its row is dispatched", "sim",
           (SEND, "    if (lead->io.dispatch(lead->io.ctx, b->keys, b->n, b->seqs, b->traces, err) < 0) {\n"
                  "        return -1; /* outcome unknown: the rows are read anew */\n    }\n",
            "    for (size_t i = 0; i < b->n; i++) {\n        b->seqs[i] = 1;\n    }\n"),
           (SEND, "        produce(lead, b);\n    }\n    return r;",
            "        produce(lead, b);\n    }\n"
            "    if (lead->io.dispatch(lead->io.ctx, b->keys, b->n, b->seqs, b->traces, err) < 0) {\n"
            "        return -1;\n    }\n    return r;")),
    mutant("commit-before-claim", "an offset is settled when its order comes in", "sim",
           (UNIT_CORE, "    if (stage_queue_push(core->queue, &item, &err) < 0) {",
            "    int pushed = stage_queue_push(core->queue, &item, &err);\n"
            "    stage_queue_settle(core->queue, partition, offset);\n    if (pushed < 0) {")),
    mutant("no-bonus", "a newly active user has no bonus", "sim",
           (SFQ, "    if (is_newcomer(sfq, f)) {", "    if (is_newcomer(sfq, f) && f->n > 1000) {")),
    mutant("one-clean", "a removed file is cleaned once", "sim",
           ("services/cleaner/stage.c",
            "if (!claim->ext_job_id || strcmp(claim->ext_job_id, SECOND_PASS) != 0) {",
            "if (!claim->ext_job_id && claim->cost > 1000) {")),
    # Leases and attempts.
    mutant("outage-is-failure", "a transient error counts as a failure", "sim",
           (UNIT_RUN, "drain ? TASK_BACK_DRAIN : TASK_BACK_TRANSIENT;",
            "drain ? TASK_BACK_DRAIN : TASK_BACK_UNKNOWN;")),
    mutant("leases-after-outage", "leases are taken back as soon as the database is back", "sim",
           (SWEEP, "lead->db_ok_at >= lead->leases_from", "lead->db_ok_at > 0")),
    mutant("renew-never", "leases are not renewed", "sim",
           (UNIT_CORE, "        core->renew_at = now + (renew(core) ?",
            "        core->renew_at = now + (core->slots > 0 ?")),
    mutant("dead-without-expiry", "a poison unit is dead although its lease is held", "sim",
           (SWEEP, "        if (e->task.expired && leases) {", "        if (e->task.running && leases) {")),
    mutant("expire-held", "a lease is taken back before it is over", "modelcheck",
           (DISPATCH, "    \"    AND lease_until < now() RETURNING user_id, file_id, stage, unit, attempts),\"",
            "    \"    RETURNING user_id, file_id, stage, unit, attempts),\"")),
    mutant("crash-limit", "a poison unit is tried for ever", "sim",
           (SWEEP, "#define CRASHES_MAX 3", "#define CRASHES_MAX 3000000")),
    mutant("not-alone", "a unit that crashed twice runs beside others", "sim",
           (UNIT_RUN, "claim->failures - claim->refunds >= CRASHES_ALONE;",
            "claim->failures - claim->refunds >= CRASHES_ALONE + 1000;")),
    mutant("claim-lost-answer", "a claim whose answer was lost is not asked for again", "sim",
           (MODEL, "bool again = t && t->state == TASK_RUNNING && t->owner == owner;",
            "bool again = t && t->state == TASK_RUNNING && t->owner == owner && owner < 0;")),
    mutant("claim-lost-answer-sql", "the same in the statement", "modelcheck",
           (OPS, "(t.state = 2 AND t.lease_owner = $6)", "(t.state = 9 AND t.lease_owner = $6)")),
    mutant("end-not-looked-behind", "an end without an answer is taken as lost", "sim",
           (UNIT_RUN, "    return unsure && was_ours(core, job, ret_end);",
            "    return unsure && core->slots > 1000 && was_ours(core, job, ret_end);")),
    mutant("refunds-not-counted", "parked units lose their attempt", "modelcheck",
           (OPS, "refunds + CASE WHEN $6 = 'unknown' THEN 0 ELSE 1 END",
            "refunds + CASE WHEN $6 = 'unknown' THEN 0 ELSE 0 END")),
    mutant("model-refunds", "parked units lose their attempt", "sim",
           (MODEL, "t->refunds += how == TASK_BACK_UNKNOWN ? 0 : 1;", "t->refunds += 0;")),
    mutant("put-back-unfenced", "a unit is put back without its token", "modelcheck",
           (OPS, "    \"    AND generation = $4::int AND lease_token = $5::bigint AND state = 2\"\n"
                 "    \"  RETURNING user_id, file_id, stage, unit, attempts, not_before),\"",
            "    \"    AND generation = $4::int AND $5::bigint > 0 AND state = 2\"\n"
            "    \"  RETURNING user_id, file_id, stage, unit, attempts, not_before),\"")),
    # Orders and offsets.
    mutant("no-dispatch-seq", "a claim does not look at the sending", "modelcheck",
           (OPS, "AND t.dispatch_seq = $5::int\"", "AND $5::int >= 0\"")),
    mutant("no-generation", "a claim does not look at the file's generation", "modelcheck",
           (OPS, "f.file_id = t.file_id AND f.generation = t.generation\"", "f.file_id = t.file_id\"")),
    mutant("hand-back-any", "an order is handed back in any state", "modelcheck",
           (OPS, "    \"   AND dispatch_seq = v.seq AND state = 1\";", "    \"   AND dispatch_seq = v.seq\";")),
    mutant("commit-passes-open", "the committed offset passes open orders", "sim",
           (QUEUE, "at = part->open[i] < at ? part->open[i] : at;",
            "at = part->open[i] < at - 1000 ? part->open[i] : at;")),
    mutant("no-reemit", "unclaimed orders are not sent again", "sim",
           (SWEEP, "            if ((double)e->waited_ms >= limit) {",
            "            if ((double)e->waited_ms >= limit * 1e9) {")),
    mutant("no-strays", "a new leader does not look for what is out", "sim",
           (SWEEP, "    return lead->io.strays(lead->io.ctx, lead->c.stage, fresh, take_stray, lead, err);",
            "    return lead->credit > 9999 && fresh\n"
            "               ? lead->io.strays(lead->io.ctx, lead->c.stage, fresh, take_stray, lead, err)\n"
            "               : 0;")),
    mutant("broker-not-looked-for", "with nothing to send nobody sees that the broker is back", "sim",
           (SWEEP, "        lead->broker_ok = lead->io.broker_alive(lead->io.ctx);",
            "        lead->broker_ok = lead->credit > 9999;")),
    # Fairness.
    mutant("credit-unlimited", "everything that waits is sent", "sim",
           (SEND, "return (size_t)(lead->slots > 0 ? lead->credit + extra : lead->credit);",
            "return (size_t)(lead->slots + extra) + 100000;"),
           (SEND, "lead->credit > (int)lead->out.n ? (size_t)lead->credit - lead->out.n : 0;",
            "DISPATCH_BATCH_MAX;"),
           (SEND, "return (int)lead->out.n < lead->credit ||", "return lead->out.n < 100000 ||")),
    mutant("first-in-first-out", "users are served in order of arrival", "sim",
           ("services/dispatcher/stage_core.c", "if (sfq_new(config->fifo ? SFQ_FIFO : SFQ_FAIR",
            "if (sfq_new(config->credit_floor > 0 ? SFQ_FIFO : SFQ_FAIR"),
           ("services/dispatcher/stage_core.c", "sfq_new(lead->c.fifo ? SFQ_FIFO : SFQ_FAIR",
            "sfq_new(lead->c.credit_floor > 0 ? SFQ_FIFO : SFQ_FAIR")),
    mutant("cap-ignored", "one user may have all of the credit while others wait", "test_sfq",
           (SFQ, "c->heap[0]->user->out < user_cap) {", "c->heap[0]->user->out < user_cap + 1000) {")),
    mutant("lanes-ignored", "bulk work starves", "test_sfq",
           (SFQ, "sfq->classes[1].n > 0 && sfq->turn < SFQ_BULK_TURN",
            "sfq->classes[1].n > 1000 && sfq->turn < SFQ_BULK_TURN")),
    # Files.
    mutant("join-forgets-failed", "a join does not count its failed units", "modelcheck",
           (END, "failed = failed + CASE WHEN $7::boolean THEN 1 ELSE 0 END FROM d",
            "failed = failed + CASE WHEN $7::boolean THEN 0 ELSE 0 END FROM d")),
    mutant("join-counts-merge", "the unit after the last range counts as a range", "modelcheck",
           (END, "AND d.unit > 0 AND d.unit <= s.total RETURNING", "AND d.unit > 0 RETURNING")),
    mutant("double-retry", "a retry takes units that are not dead", "modelcheck",
           (ACCEPT, "    \"    AND task.state = 5 AND (old.state < 6) <> (task.stage = 6)\"",
            "    \"    AND task.state >= 4 AND (old.state < 6) <> (task.stage = 6)\"")),
    mutant("retry-keeps-join", "a retried range does not open its join", "modelcheck",
           (ACCEPT, "UPDATE stage_join SET left_ = left_ + s.n, failed", "UPDATE stage_join SET left_ = left_, failed")),
    mutant("cancel-keeps-tasks", "a cancelled file's tasks go on", "modelcheck",
           (ACCEPT, "    \"    AND user_id = $2::uuid AND state = 1 ORDER BY file_id FOR UPDATE),\"\n"
                    "    \" t AS (UPDATE task SET state = 6, q = NULL",
            "    \"    AND user_id = $2::uuid AND state = 1 ORDER BY file_id FOR UPDATE),\"\n"
            "    \" t AS (UPDATE task SET state = state, q = NULL")),
    mutant("old-generation-ends", "a unit of an old generation ends the file", "modelcheck",
           (END, '"  FROM q WHERE file.file_id = $1::uuid AND file.generation = $4::int"       ',
            '"  FROM q WHERE file.file_id = $1::uuid AND $4::int > 0"                      ')),
    mutant("lane-lost", "what follows a bulk unit goes to the first lane", "modelcheck",
           (END, "greatest(x.cost, 1), x.input, g.traceparent, g.lane\"",
            "greatest(x.cost, 1), x.input, g.traceparent, 0\"")),
]

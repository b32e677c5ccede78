/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl doctor: every dependency and setting, one finding a line, with what to do.
 * Invariant: nothing is changed but a row-less object that the store check writes and removes;
 * each check ends, and none is left out because of another's failure without saying so.
 */
#pragma once

#include "libcommon/bus.h"
#include "libcommon/states.h"
#include "services/docfleetctl/client.h"

enum finding { FOUND_OK, FOUND_WARNING, FOUND_PROBLEM, FOUND_SKIPPED };

/* Settings of other programs that doctor looks behind. */
struct doctor_options {
    char *ai_backend, *ai_url, *ai_key, *ai_key_header, *ai_model;
    char *textract_endpoint, *textract_region, *textract_access_key, *textract_secret_key;
    char *oidc_issuer, *oidc_ca_file, *clamd;
};

struct doctor {
    struct ctl *ctl;
    struct doctor_options options;
    char *complaints; /* of the settings; one a line */
    struct db *db;    /* NULL: Postgres is away */
    PGconn *pooled, *direct;
    struct store *store; /* NULL: it cannot be spoken to */
    struct http_client *http;
    int partitions; /* of the work topics as they were made; 0: unknown */
    int brokers;    /* 0: Kafka is away */
    struct bus_topic_info topics[STAGE_MAX + 3];

    const struct check *at; /* the check that runs */
    json_t *found;
    int counts[4];
    bool silent; /* the check runs only for what it leaves to others */
    bool json, colours;
};

struct check {
    const char *area, *name;
    const char *asks;   /* "do the settings parse, are all names known?" */
    const char *advice; /* what to do unless the check knows better */
    void (*run)(struct doctor *d);
};

/* One finding of the running check. advice NULL: the table's. */
void found(struct doctor *d, enum finding what, const char *advice, const char *fmt, ...)
    PRINTF(4, 5);
/* Of an error. */
void found_err(struct doctor *d, enum finding what, const struct err *err);
/* True, and says so, when what the check needs is away. */
bool needs_db(struct doctor *d);
bool needs_kafka(struct doctor *d);
bool needs_store(struct doctor *d);

void check_settings(struct doctor *d);
void check_programs(struct doctor *d);
void check_secret_files(struct doctor *d);

void check_pg_reach(struct doctor *d);
void check_pg_version(struct doctor *d);
void check_pg_writable(struct doctor *d);
void check_pg_schema(struct doctor *d);
void check_pg_pooler(struct doctor *d);
void check_pg_prepared(struct doctor *d);
void check_pg_listen(struct doctor *d);
void check_pg_extensions(struct doctor *d);
void check_pg_role(struct doctor *d);
void check_pg_clock(struct doctor *d);
void check_pg_connections(struct doctor *d);
void check_pg_durability(struct doctor *d);
void check_pg_certificate(struct doctor *d);

void check_kafka_reach(struct doctor *d);
void check_kafka_topics(struct doctor *d);
void check_kafka_replicas(struct doctor *d);
void check_kafka_timestamps(struct doctor *d);
void check_kafka_groups(struct doctor *d);
void check_kafka_certificate(struct doctor *d);

void check_store_reach(struct doctor *d);
void check_store_roundtrip(struct doctor *d);
void check_store_multipart(struct doctor *d);
void check_store_clock(struct doctor *d);
void check_store_versioning(struct doctor *d);
void check_store_presigned(struct doctor *d);
void check_store_certificate(struct doctor *d);

void check_gateway_reach(struct doctor *d);
void check_gateway_keys(struct doctor *d);
void check_gateway_certificate(struct doctor *d);
void check_ai(struct doctor *d);
void check_textract(struct doctor *d);
void check_oidc(struct doctor *d);
void check_clamd(struct doctor *d);

void check_scratch(struct doctor *d);
void check_namespaces(struct doctor *d);
void check_landlock(struct doctor *d);
void check_seccomp(struct doctor *d);
void check_limits(struct doctor *d);

void check_workers(struct doctor *d);
void check_dispatcher(struct doctor *d);
void check_paused(struct doctor *d);
void check_breakers(struct doctor *d);
void check_backlog(struct doctor *d);
void check_events(struct doctor *d);
void check_letters(struct doctor *d);
void check_ledger(struct doctor *d);

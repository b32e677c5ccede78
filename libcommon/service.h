/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every process of the fleet starts with: settings, log, signals, database, store,
 * notifications, probes.
 * Invariant: until service_connect no thread exists, so a jail can be started in between.
 */
#pragma once

#include "libcommon/bus.h"
#include "libcommon/config.h"
#include "libcommon/db.h"
#include "libcommon/health.h"
#include "libcommon/notify.h"
#include "libcommon/store.h"

#include <stdatomic.h>

struct core_options {
    char *database_url;
    char *database_direct_url; /* "" : the same */
    char *ca_file;             /* CAs of every outgoing connection; "": the system's */
    char *database_ca_file;    /* this and the others: "": ca_file */
    char *kafka_brokers;
    int64_t kafka_session_ms;
    char *kafka_protocol;
    char *kafka_mechanism;
    char *kafka_username;
    char *kafka_password;
    char *kafka_ca_file;
    char *kafka_cert_file;
    char *kafka_key_file;
    char *store_driver;
    char *s3_endpoint;
    char *s3_public_endpoint; /* "" : the same */
    char *s3_region;
    char *s3_bucket;
    char *s3_access_key;
    char *s3_secret_key;
    char *s3_ca_file;
    char *probe_address;
    int64_t probe_port;
    char *log_level;
    char *log_format;
    char *otlp_endpoint; /* "" : no traces */
    char *otlp_headers;
    char *otlp_ca_file;
    double trace_sample;
    int64_t slots; /* 0: as many as cores */
    char *scratch_dir;
    char *zygote_dir; /* "" : beside the program */
    int64_t drain_grace_ms;
    int64_t lease_ms; /* of a claimed unit; renewed at a third of it */
};

extern const struct option_def core_option_defs[];
extern const size_t core_option_count;

struct otlp;

struct service {
    const char *name;
    struct core_options core;
    struct bus_access bus; /* from core */
    struct db *db;
    struct store *store;
    struct notifier *notifier;
    struct health *health;
    int pulse;               /* of the main loop: service_wait beats it */
    struct otlp *otlp;       /* NULL: no traces */
    bool generic_plans;      /* set before service_connect where all statements go by key */
    bool lazy_commit;        /* likewise; see db.h */
    bool row_security;       /* likewise */
    atomic_bool stopping;    /* set once by SIGTERM or SIGINT */
    atomic_bool store_abort; /* set at the end of the grace: running transfers stop */
    char id[96];             /* host:name:pid:random, unique for this run of the process */
};

/* Reads settings (core and own), sets up the log, raises the descriptor limit, blocks SIGTERM and
 * SIGINT for service_wait. own may be NULL. *ret_action CONFIG_EXIT: something was printed, or
 * (argument --health) the running process of the same settings was asked whether it is ready, and
 * is; if it is not, that is the error. */
int service_begin(struct service *service, const char *name, int argc, char **argv,
                  const struct option_table *own, enum config_action *ret_action,
                  struct err *err) WARN_UNUSED;
/* Opens pool, store and notifier. Nothing has to be reachable yet. */
int service_connect(struct service *service, unsigned db_conns, unsigned statement_timeout_ms,
                    struct err *err) WARN_UNUSED;
/* Starts the probe server with postgres and store (as required or not) and further dependencies. */
int service_probes(struct service *service, bool store_required, const struct health_dep *more,
                   size_t n_more, struct err *err) WARN_UNUSED;
/* Waits for SIGTERM or SIGINT up to timeout_ms; true when one came, now or before. To be called
 * again within a minute once the probes are served, or /livez fails. */
bool service_wait(struct service *service, int timeout_ms);
/* Stops and frees all. */
void service_end(struct service *service);
/* The direct DSN: for LISTEN, locks and migrations. */
const char *service_direct_url(const struct service *service);
/* From the options to the servers: fills service->bus, checks what the tables cannot say, tells the
 * libraries what they read themselves. service_begin does it; no thread exists yet.
 * ERR_FATAL "invalid_config". */
int service_access(struct service *service, struct err *err) WARN_UNUSED;
/* The CA file of one kind of connection: its own, else the one of all, else NULL (the system's). */
const char *service_ca_file(const struct service *service, const char *own);
/* Slots to run at once. */
int service_slots(const struct service *service);

/* Version of the code, from the build. */
const char *docfleet_version(void);

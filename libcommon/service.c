/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start and end of a process.
 */
#include "libcommon/service.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "libcommon/cert.h"
#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "libcommon/otlp.h"
#include "libcommon/process.h"

#ifndef DOCFLEET_VERSION
#define DOCFLEET_VERSION "0.1.0"
#endif

#ifndef DOCFLEET_COMMIT
#define DOCFLEET_COMMIT "unknown"
#endif

#define MAIN_LIMIT_MS 60000U

#define CORE(field) offsetof(struct core_options, field)

const struct option_def core_option_defs[] = {
    {"DATABASE_URL", OPTION_SECRET, CORE(database_url), NULL, 0, 0, NULL,
     "Postgres, as a libpq URI; may be a pooler"},
    {"DATABASE_DIRECT_URL", OPTION_SECRET, CORE(database_direct_url), "", 0, 0, NULL,
     "Postgres without a pooler, for LISTEN, locks and migrations; empty: DATABASE_URL"},
    {"CA_FILE", OPTION_STRING, CORE(ca_file), "", 0, 0, NULL,
     "CAs that servers' certificates are checked against, PEM; empty: the system's"},
    {"DATABASE_CA_FILE", OPTION_STRING, CORE(database_ca_file), "", 0, 0, NULL,
     "CAs of Postgres, PEM; sets sslmode=verify-full unless the URI has an sslmode; empty: CA_FILE,"
     " with the sslmode of the URI"},
    {"KAFKA_BROKERS", OPTION_STRING, CORE(kafka_brokers), "127.0.0.1:19092", 0, 0, NULL,
     "bootstrap brokers, host:port, comma separated"},
    {"KAFKA_SESSION_TIMEOUT", OPTION_DURATION, CORE(kafka_session_ms), "10s", 6000, 300000, NULL,
     "silence after which Kafka gives the partitions of a lost worker to others"},
    {"KAFKA_SECURITY_PROTOCOL", OPTION_ENUM, CORE(kafka_protocol), "PLAINTEXT", 0, 0,
     "PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL", "how the brokers are spoken to"},
    {"KAFKA_SASL_MECHANISM", OPTION_ENUM, CORE(kafka_mechanism), "PLAIN", 0, 0,
     "PLAIN|SCRAM-SHA-256|SCRAM-SHA-512",
     "how the brokers are told who we are, with SASL_*; SCRAM needs librdkafka 2.6.1 where Kafka is"
     " newer than 3.8.0"},
    {"KAFKA_USERNAME", OPTION_STRING, CORE(kafka_username), "", 0, 0, NULL, "user, with SASL_*"},
    {"KAFKA_PASSWORD", OPTION_SECRET, CORE(kafka_password), "", 0, 0, NULL,
     "password, with SASL_*"},
    {"KAFKA_CA_FILE", OPTION_STRING, CORE(kafka_ca_file), "", 0, 0, NULL,
     "CAs of the brokers, PEM; empty: CA_FILE"},
    {"KAFKA_CERT_FILE", OPTION_STRING, CORE(kafka_cert_file), "", 0, 0, NULL,
     "our certificate for the brokers, PEM; empty: none"},
    {"KAFKA_KEY_FILE", OPTION_STRING, CORE(kafka_key_file), "", 0, 0, NULL, "its key, PEM"},
    {"STORE_DRIVER", OPTION_ENUM, CORE(store_driver), "s3", 0, 0, "s3|libs3",
     "object store driver: own Signature V4, or libs3 (Signature V2)"},
    {"S3_ENDPOINT", OPTION_STRING, CORE(s3_endpoint), "http://127.0.0.1:17070", 0, 0, NULL,
     "address of the object store"},
    {"S3_PUBLIC_ENDPOINT", OPTION_STRING, CORE(s3_public_endpoint), "", 0, 0, NULL,
     "address that presigned URLs are signed for; empty: S3_ENDPOINT"},
    {"S3_REGION", OPTION_STRING, CORE(s3_region), "us-east-1", 0, 0, NULL, "region in signatures"},
    {"S3_BUCKET", OPTION_STRING, CORE(s3_bucket), "docfleet", 0, 0, NULL, "bucket"},
    {"S3_ACCESS_KEY", OPTION_SECRET, CORE(s3_access_key), NULL, 0, 0, NULL, "access key"},
    {"S3_SECRET_KEY", OPTION_SECRET, CORE(s3_secret_key), NULL, 0, 0, NULL, "secret key"},
    {"S3_CA_FILE", OPTION_STRING, CORE(s3_ca_file), "", 0, 0, NULL,
     "CAs of the object store, PEM; empty: CA_FILE"},
    {"PROBE_ADDRESS", OPTION_STRING, CORE(probe_address), "127.0.0.1", 0, 0, NULL,
     "address of livez, readyz and metrics"},
    {"PROBE_PORT", OPTION_INT, CORE(probe_port), "9100", 0, 65535, NULL,
     "port of livez, readyz and metrics; 0 takes a free one"},
    {"LOG_LEVEL", OPTION_ENUM, CORE(log_level), "info", 0, 0, "debug|info|warn|error",
     "lowest level logged"},
    {"LOG_FORMAT", OPTION_ENUM, CORE(log_format), "auto", 0, 0, "auto|json|text",
     "form of a log line; auto: text on a terminal, else json"},
    {"OTLP_ENDPOINT", OPTION_STRING, CORE(otlp_endpoint), "", 0, 0, NULL,
     "base address of a collector that takes traces by OTLP over HTTP; empty: no traces"},
    {"OTLP_HEADERS", OPTION_SECRET, CORE(otlp_headers), "", 0, 0, NULL,
     "headers of each export, name=value, comma separated"},
    {"OTLP_CA_FILE", OPTION_STRING, CORE(otlp_ca_file), "", 0, 0, NULL,
     "CAs of the collector, PEM; empty: CA_FILE"},
    {"TRACE_SAMPLE", OPTION_RATIO, CORE(trace_sample), "1", 0, 0, NULL,
     "share of new traces that are recorded; a caller's traceparent decides for its own"},
    {"SLOTS", OPTION_INT, CORE(slots), "0", 0, 256, NULL, "units run at once; 0: as many as cores"},
    {"SCRATCH_DIR", OPTION_STRING, CORE(scratch_dir), "/tmp", 0, 0, NULL,
     "folder for unlinked temporary files"},
    {"ZYGOTE_DIR", OPTION_STRING, CORE(zygote_dir), "", 0, 0, NULL,
     "folder of the zygote programs; empty: beside the service"},
    {"DRAIN_GRACE", OPTION_DURATION, CORE(drain_grace_ms), "120s", 0, 3600000, NULL,
     "time for running units after SIGTERM"},
    {"LEASE", OPTION_DURATION, CORE(lease_ms), "15s", 1000, 600000, NULL,
     "time after which a unit of a silent worker is taken back; renewed at a third of it; the same"
     " for the whole fleet"},
};
const size_t core_option_count = ARRAY_LEN(core_option_defs);

const char *docfleet_version(void)
{
    return DOCFLEET_VERSION;
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void make_id(struct service *service)
{
    char host[48] = "localhost";
    uint32_t r = 0;

    gethostname(host, sizeof(host) - 1);
    if (getrandom(&r, sizeof(r), 0) != (ssize_t)sizeof(r)) {
        r = (uint32_t)clock_mono_us();
    }
    snprintf(service->id, sizeof(service->id), "%s:%s:%d:%06x", host, service->name, (int)getpid(),
             r & 0xffffffU);
}

const char *service_ca_file(const struct service *service, const char *own)
{
    const char *file = *own ? own : service->core.ca_file;

    return *file ? file : NULL;
}

int service_access(struct service *service, struct err *err)
{
    const struct core_options *core = &service->core;
    const char *pg = service_ca_file(service, core->database_ca_file);

    service->bus = (struct bus_access){
        .brokers = core->kafka_brokers,
        .protocol = core->kafka_protocol,
        .mechanism = core->kafka_mechanism,
        .username = core->kafka_username,
        .password = core->kafka_password,
        .ca_file = service_ca_file(service, core->kafka_ca_file),
        .cert_file = core->kafka_cert_file,
        .key_file = core->kafka_key_file,
    };
    if (strncmp(core->kafka_protocol, "SASL_", 5) == 0 &&
        (!*core->kafka_username || !*core->kafka_password)) {
        return err_set(err, ERR_FATAL, "invalid_config",
                       "DOCFLEET_KAFKA_SECURITY_PROTOCOL=%s needs KAFKA_USERNAME and"
                       " KAFKA_PASSWORD",
                       core->kafka_protocol);
    }
    const char *trouble = bus_access_trouble(&service->bus);
    if (trouble) {
        log_warn("kafka may refuse the login", kv_str("reason", trouble));
    }
    if (!*core->kafka_cert_file != !*core->kafka_key_file) {
        return err_set(err, ERR_FATAL, "invalid_config",
                       "DOCFLEET_KAFKA_CERT_FILE and KAFKA_KEY_FILE go together");
    }
    if (pg && access(pg, R_OK) < 0) {
        return err_from_errno(err, errno, "the CA file of Postgres, %s", pg);
    }
    cert_watch("ca", core->ca_file, CERT_CA);
    cert_watch("postgres_ca", core->database_ca_file, CERT_CA);
    cert_watch("store_ca", core->s3_ca_file, CERT_CA);
    cert_watch("kafka_ca", core->kafka_ca_file, CERT_CA);
    cert_watch("kafka", core->kafka_cert_file, CERT_OWN);
    /* libpq's own defaults: what the URI says wins. No thread exists yet. */
    if ((pg && setenv("PGSSLROOTCERT", pg, 1) < 0) || /* NOLINT(concurrency-mt-unsafe) */
        (*core->database_ca_file &&
         setenv("PGSSLMODE", "verify-full", 1) < 0)) { /* NOLINT(concurrency-mt-unsafe) */
        return err_nomem(err);
    }
    return 0;
}

int service_begin(struct service *service, const char *name, int argc, char **argv,
                  const struct option_table *own, enum config_action *ret_action, struct err *err)
{
    struct option_table tables[2] = {
        {core_option_defs, core_option_count, &service->core},
    };
    char labels[160];
    sigset_t set;

    const bool ask = argc == 2 && strcmp(argv[1], "--health") == 0;

    *service = (struct service){.name = name};
    tables[0].target = &service->core;
    if (own) {
        tables[1] = *own;
    }
    log_setup(name, LOG_INFO);
    if (config_load(name, ask ? 1 : argc, argv, tables, own ? 2 : 1, stderr, ret_action, err) < 0) {
        return -1;
    }
    if (*ret_action == CONFIG_EXIT) {
        return 0;
    }
    if (ask) {
        *ret_action = CONFIG_EXIT;
        return health_ask(service->core.probe_address, (int)service->core.probe_port, err);
    }
    log_setup(name, (enum log_level)log_level_parse(service->core.log_level));
    log_set_format(service->core.log_format);
    if (service_access(service, err) < 0) {
        return -1;
    }
    raise_descriptor_limit();
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    /* No thread exists yet: all of them inherit the mask. */
    sigprocmask(SIG_BLOCK, &set, NULL); /* NOLINT(concurrency-mt-unsafe) */
    make_id(service);
    snprintf(labels, sizeof(labels), "version=\"%s\",commit=\"%s\"", docfleet_version(),
             DOCFLEET_COMMIT);
    metrics_set("docfleet_build_info", labels, 1);
    return 0;
}

const char *service_direct_url(const struct service *service)
{
    return *service->core.database_direct_url ? service->core.database_direct_url
                                              : service->core.database_url;
}

int service_slots(const struct service *service)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    return service->core.slots > 0 ? (int)service->core.slots : cores > 0 ? (int)cores : 1;
}

int service_connect(struct service *service, unsigned db_conns, unsigned statement_timeout_ms,
                    struct err *err)
{
    const struct core_options *core = &service->core;

    if (db_open(&(struct db_config){.url = core->database_url,
                                    .application_name = service->id,
                                    .pool = "main",
                                    .max_conns = db_conns,
                                    .generic_plans = service->generic_plans,
                                    .lazy_commit = service->lazy_commit,
                                    .row_security = service->row_security,
                                    .statement_timeout_ms = statement_timeout_ms},
                &service->db, err) < 0 ||
        store_open(&(struct store_config){.driver = core->store_driver,
                                          .endpoint = core->s3_endpoint,
                                          .public_endpoint = *core->s3_public_endpoint
                                                                 ? core->s3_public_endpoint
                                                                 : NULL,
                                          .region = core->s3_region,
                                          .bucket = core->s3_bucket,
                                          .access_key = core->s3_access_key,
                                          .secret_key = core->s3_secret_key,
                                          .ca_file = service_ca_file(service, core->s3_ca_file),
                                          .scratch_dir = core->scratch_dir,
                                          .abort = &service->store_abort},
                   &service->store, err) < 0) {
        return -1;
    }
    if (*core->otlp_endpoint &&
        otlp_start(&(struct otlp_config){.endpoint = core->otlp_endpoint,
                                         .headers = core->otlp_headers,
                                         .ca_file = service_ca_file(service, core->otlp_ca_file),
                                         .service = service->name,
                                         .instance = service->id,
                                         .version = docfleet_version(),
                                         .sample = core->trace_sample},
                   &service->otlp, err) < 0) {
        return -1;
    }
    return notifier_start(service_direct_url(service), service->id, &service->notifier, err);
}

static int check_db(void *arg, struct err *err)
{
    return db_ping(arg, err);
}

static int check_store(void *arg, struct err *err)
{
    return store_ping(arg, err);
}

/* A dependency's check, and now and then a look at the certificate it shows. */
struct looked {
    struct health_dep dep;
    struct cert_look look;
};

static int check_and_look(void *arg, struct err *err)
{
    struct looked *looked = arg;

    if (looked->dep.check(looked->dep.arg, err) < 0) {
        return -1;
    }
    cert_look(&looked->look);
    return 0;
}

/* Of one process, so there is one of each; every dependency has a thread of its own. */
static void look_at_certificates(const struct service *service, struct health_dep *deps, size_t n)
{
    static struct looked all[3];
    const bool kafka = bus_access_tls(&service->bus);
    const struct cert_look looks[ARRAY_LEN(all)] = {
        {"postgres_server", CERT_POSTGRES, service->core.database_url, 0},
        {"store_server", CERT_HTTPS, service->core.s3_endpoint, 0},
        {"kafka_server", CERT_BROKERS, kafka ? service->core.kafka_brokers : "", 0}};
    static const char *const names[ARRAY_LEN(all)] = {"postgres", "store", "kafka"};

    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < ARRAY_LEN(all); k++) {
            if (strcmp(deps[i].name, names[k]) == 0) {
                all[k] = (struct looked){deps[i], looks[k]};
                deps[i].check = check_and_look;
                deps[i].arg = &all[k];
            }
        }
    }
}

int service_probes(struct service *service, bool store_required, const struct health_dep *more,
                   size_t n_more, struct err *err)
{
    struct health_dep deps[HEALTH_DEPS_MAX] = {
        {"postgres", check_db, service->db, 0, true},
        {"store", check_store, service->store, 0, store_required},
    };

    if (n_more > HEALTH_DEPS_MAX - 2) {
        return err_set(err, ERR_FATAL, "internal", "too many dependencies");
    }
    for (size_t i = 0; i < n_more; i++) {
        deps[2 + i] = more[i];
    }
    look_at_certificates(service, deps, 2 + n_more);
    if (health_start(service->core.probe_address, (int)service->core.probe_port, deps, 2 + n_more,
                     &service->health, err) < 0) {
        return -1;
    }
    metrics_collect(process_collect_scratch, service->core.scratch_dir);
    service->pulse = health_pulse(service->health, "the main loop", MAIN_LIMIT_MS);
    return 0;
}

bool service_wait(struct service *service, int timeout_ms)
{
    struct timespec ts = {.tv_sec = timeout_ms / 1000,
                          .tv_nsec = (long)(timeout_ms % 1000) * 1000000L};
    sigset_t set;

    if (service->health) {
        health_beat(service->health, service->pulse);
    }
    if (atomic_load(&service->stopping)) {
        return true;
    }
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    int sig;
    do {
        sig = sigtimedwait(&set, NULL, &ts);
    } while (sig < 0 && errno == EINTR);
    if (sig > 0) {
        atomic_store(&service->stopping, true);
        if (service->health) {
            health_drain(service->health);
        }
    }
    return sig > 0;
}

void service_end(struct service *service)
{
    metrics_uncollect(process_collect_scratch, service->core.scratch_dir);
    health_stop(service->health);
    notifier_stop(service->notifier);
    store_free(service->store);
    db_free(service->db);
    otlp_stop(service->otlp);
    service->otlp = NULL;
}

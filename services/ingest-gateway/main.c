/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts the gateway and ends it: probes say no, listeners close, streams end with a word, requests
 * finish until the grace is over, and only then connections are cut.
 */
#include "libcommon/cert.h"
#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "libcommon/quota.h"
#include "libcommon/service.h"
#include "services/ingest-gateway/audit_late.h"
#include "services/ingest-gateway/auth.h"
#include "services/ingest-gateway/events.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/issuer.h"
#include "services/ingest-gateway/limits.h"
#include "services/ingest-gateway/options.h"
#include "services/ingest-gateway/pool.h"
#include "services/ingest-gateway/server.h"
#include "services/ingest-gateway/tls.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORK_THREADS 12U
#define UPLOAD_THREADS 16U
#define STREAM_THREADS 16U
#define ACCOUNT_SHARE 75U /* percent of what is held as long as a client likes */
#define DB_CONNS (WORK_THREADS + 8U)
#define SEARCH_CONNS 4U
#define OPENAPI_MAX ((off_t)4 << 20)
#define CUT_MS 3000U
#define REFRESH_MS 1000 /* of the certificate */

static struct service service;
static struct gateway gateway;
static struct server api_server;
static struct server stream_server;

static int parse_listen(const char *text, char *host, size_t size, unsigned *ret_port,
                        struct err *err)
{
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    int64_t port;

    if (n > 2 && text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    }
    if (n == 0 || n >= size || !decimal_parse(colon + 1, 0, 65535, &port)) {
        return err_set(err, ERR_FATAL, "config", "LISTEN is ADDRESS:PORT");
    }
    memcpy(host, text, n);
    host[n] = '\0';
    *ret_port = (unsigned)port;
    return 0;
}

/* The description is a convenience: without its file the address answers 404. */
static void load_openapi(void)
{
    CLEANUP(fd_cleanup) int fd = -1;
    char path[PATH_MAX + 32];
    struct stat st;

    if (gateway_options.openapi_file[0] != '\0') {
        snprintf(path, sizeof(path), "%s", gateway_options.openapi_file);
    } else {
        ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);
        path[n > 0 ? n : 0] = '\0';
        for (int up = 0; up < 2; up++) {
            char *slash = strrchr(path, '/');
            if (slash) {
                *slash = '\0';
            }
        }
        strncat(path, "/share/openapi.json", sizeof(path) - strlen(path) - 1);
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > OPENAPI_MAX) {
        log_warn("no API description is served", kv_str("file", path));
        return;
    }
    char *text = calloc(1, (size_t)st.st_size + 1);
    if (text && read(fd, text, (size_t)st.st_size) == st.st_size) {
        gateway.openapi = text;
        gateway.openapi_len = (size_t)st.st_size;
    } else {
        free(text);
    }
}

/* How much one may ask. */
static int start_limits(struct err *err)
{
    const struct limits_config config = {
        .per_key = gateway_options.rate_key,
        .per_user = gateway_options.rate_user,
        .per_address = gateway_options.rate_address,
        .failures = gateway_options.rate_failures,
        .window_s = gateway_options.rate_window_ms / 1000,
    };

    quota_metrics();
    return limits_new(&config, &gateway.limits, err);
}

/* Who may sign in, and how. */
static int start_accounts(struct err *err)
{
    size_t n = strlen(gateway_options.public_url);

    while (n > 0 && gateway_options.public_url[n - 1] == '/') {
        gateway_options.public_url[--n] = '\0';
    }
    if (n > 0 && (n > 200 || (strncmp(gateway_options.public_url, "http://", 7) != 0 &&
                              strncmp(gateway_options.public_url, "https://", 8) != 0))) {
        return err_set(err, ERR_FATAL, "config", "PUBLIC_URL is http:// or https:// and a host");
    }
    if (*gateway_options.oidc_ca_file == '\0' && *service.core.ca_file != '\0') {
        gateway_options.oidc_ca_file = service.core.ca_file;
    }
    gateway.public_url = gateway_options.public_url;
    gateway.session_idle_s = gateway_options.session_idle_ms / 1000;
    gateway.session_max_s = gateway_options.session_max_ms / 1000;
    gateway.password_min = gateway_options.password_min;
    gateway.share_days_max = gateway_options.share_days_max;
    return origin_rules_parse(gateway_options.trusted_proxies, &gateway.proxies, err) < 0 ||
                   cors_rules_parse(gateway_options.cors_origins, &gateway.cors, err) < 0 ||
                   start_limits(err) < 0
               ? -1
               : issuer_new(&gateway_options, &gateway.issuer, err);
}

static int start_parts(struct err *err)
{
    struct db_config search = {.url = service.core.database_url,
                               .application_name = "ingest-gateway-search",
                               .pool = "search",
                               .max_conns = SEARCH_CONNS,
                               .row_security = true,
                               .statement_timeout_ms = 1000};

    service.row_security = true;
    if (service_connect(&service, DB_CONNS, 5000, err) < 0 ||
        db_open(&search, &gateway.search_db, err) < 0 || auth_cache_new(&gateway.auth, err) < 0 ||
        audit_late_new(&gateway.audit_late, err) < 0 ||
        pool_new("work", WORK_THREADS, 512, 100, &gateway.work, err) < 0 ||
        pool_new("upload", UPLOAD_THREADS, 96, ACCOUNT_SHARE, &gateway.uploads, err) < 0 ||
        pool_new("stream", STREAM_THREADS, 96, ACCOUNT_SHARE, &gateway.streams, err) < 0) {
        return -1;
    }
    gateway.db = service.db;
    gateway.store = service.store;
    gateway.notifier = service.notifier;
    if (start_accounts(err) < 0) {
        return -1;
    }
    gateway.file_bytes_max = (uint64_t)gateway_options.max_file_size;
    gateway.console_dir =
        gateway_options.console_dir[0] != '\0' ? gateway_options.console_dir : NULL;
    load_openapi();
    return event_hub_start(&gateway, &service.bus, "docfleet.events.v1", &gateway.hub, err);
}

static int start_servers(struct err *err)
{
    char host[64];
    unsigned port = 0;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (parse_listen(gateway_options.listen, host, sizeof(host), &port, err) < 0) {
        return -1;
    }
    struct server_config config = {
        .name = "api",
        .host = host,
        .port = port,
        .threads = cores < 2   ? 2
                   : cores > 4 ? 4
                               : (unsigned)cores,
        .header_timeout_ms = (unsigned)gateway_options.header_timeout_ms,
        .idle_timeout_s = (unsigned)(gateway_options.idle_timeout_ms / 1000),
        .slow_timeout_ms = (unsigned)gateway_options.slow_timeout_ms,
        .min_bytes = 4096,
        .max_conns = (unsigned)gateway_options.max_connections,
        .max_conns_address = (unsigned)gateway_options.max_connections_address,
        .memory = 32768,
        .tls = *gateway_options.tls_cert_file != '\0',
    };
    if (config.tls != (*gateway_options.tls_key_file != '\0')) {
        return err_set(err, ERR_FATAL, "config", "TLS_CERT_FILE and TLS_KEY_FILE go together");
    }
    if (config.tls &&
        tls_open(gateway_options.tls_cert_file, gateway_options.tls_key_file, err) < 0) {
        return -1;
    }
    if (server_start(&api_server, &gateway, &config, err) < 0) {
        return -1;
    }
    if (gateway_options.stream_port > 0) {
        config.name = "stream";
        config.port = (unsigned)gateway_options.stream_port;
        config.threads = 2;
        config.memory = 8192;
        if (server_start(&stream_server, &gateway, &config, err) < 0) {
            return -1;
        }
    }
    log_info("listening", kv_str("address", host), kv_u64("port", api_server.port),
             kv_bool("tls", config.tls),
             kv_u64("streamPort", stream_server.daemon ? stream_server.port : 0));
    return 0;
}

/* Without Kafka uploads go on, and streams are fed by looking into Postgres. */
static int start_probes(struct err *err)
{
    const struct health_dep kafka = {"kafka", event_hub_check, gateway.hub, 0, false};

    metrics_set("docfleet_event_streams", "", 0);
    cert_watch("oidc_ca", gateway_options.oidc_ca_file, CERT_CA);
    return service_probes(&service, true, &kafka, 1, err);
}

static unsigned active(void)
{
    return server_active(&api_server) + (stream_server.daemon ? server_active(&stream_server) : 0);
}

static void stop_all(void)
{
    uint64_t until = clock_mono_ms() + (uint64_t)service.core.drain_grace_ms;

    health_drain(service.health);
    atomic_store(&gateway.draining, true);
    event_hub_drain(gateway.hub);
    server_quiesce(&api_server);
    server_quiesce(&stream_server);
    while (active() > 0 && clock_mono_ms() < until) {
        usleep(20000);
    }
    atomic_store(&service.store_abort, true);
    bool clean = server_cut(&api_server, CUT_MS);
    if (stream_server.daemon) {
        clean = server_cut(&stream_server, CUT_MS) && clean;
    }
    if (!clean) {
        audit_late_flush(gateway.audit_late, gateway.db);
        /* A request that a worker still holds would abort the HTTP library's stop. */
        log_warn("ending with requests in work", kv_u64("requests", active()));
        _exit(0);
    }
    server_stop(&api_server);
    if (stream_server.daemon) {
        server_stop(&stream_server);
    }
    health_stop(service.health); /* it asks the hub */
    service.health = NULL;
    tls_close();
    event_hub_stop(gateway.hub);
    pool_free(gateway.streams);
    pool_free(gateway.uploads);
    pool_free(gateway.work);
    auth_cache_free(gateway.auth);
    audit_late_flush(gateway.audit_late, gateway.db);
    audit_late_free(gateway.audit_late);
    limits_free(gateway.limits);
    cors_rules_done(&gateway.cors);
    issuer_free(gateway.issuer);
    db_free(gateway.search_db);
    service_end(&service);
    free((void *)(uintptr_t)gateway.openapi);
}

int main(int argc, char **argv)
{
    enum config_action action = CONFIG_RUN;
    struct err err = ERR_INIT;

    if (service_begin(&service, "ingest-gateway", argc, argv, &gateway_option_table, &action,
                      &err) < 0) {
        log_err(LOG_ERROR, "cannot start", &err);
        return 2;
    }
    if (action == CONFIG_EXIT) {
        return 0;
    }
    if (start_parts(&err) < 0 || start_servers(&err) < 0 || start_probes(&err) < 0) {
        log_err(LOG_ERROR, "cannot start", &err);
        return 1;
    }
    while (!service_wait(&service, REFRESH_MS)) {
        tls_refresh();
        audit_late_flush(gateway.audit_late, gateway.db);
    }
    log_info("draining", kv_u64("requests", active()));
    stop_all();
    log_info("stopped");
    return 0;
}

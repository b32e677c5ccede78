/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of checks, and how findings are told. docs/troubleshooting.md has the table from
 * `docfleetctl doctor --list`.
 */
#include "services/docfleetctl/doctor.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct check checks[] = {
    {"settings", "values", "do all settings parse, and is every DOCFLEET_ name known?",
     "correct the name or the value; docs/configuration.md lists them", check_settings},
    {"settings", "programs", "does each program beside this one take the same settings?",
     "correct what it complains of; PROGRAM --print-config shows what holds", check_programs},
    {"settings", "secrets", "are files that hold secrets closed to other users?",
     "chmod 600 the file, or in Kubernetes mount the secret with mode 0400", check_secret_files},
    {"postgres", "reach", "does Postgres answer at DATABASE_URL and DATABASE_DIRECT_URL?",
     "start the server, or correct host, port, user and password", check_pg_reach},
    {"postgres", "version", "is it 15 or newer, with UTF-8?",
     "use Postgres 15 or newer, a database with encoding UTF8", check_pg_version},
    {"postgres", "writable", "does it take writes?",
     "point DATABASE_URL at the primary; a standby or a read-only role does not do",
     check_pg_writable},
    {"postgres", "schema", "are all migrations applied that this version knows?",
     "run docfleetctl migrate", check_pg_schema},
    {"postgres", "pooler", "is a pooler in between, and does the direct address pass it by?",
     "set DATABASE_DIRECT_URL to the server itself: locks, LISTEN and migrations need it",
     check_pg_pooler},
    {"postgres", "prepared", "do prepared statements live from one transaction to the next?",
     "pgbouncer 1.21 or newer with max_prepared_statements above 0, or pool_mode=session",
     check_pg_prepared},
    {"postgres", "notify", "does a NOTIFY arrive on the direct address?",
     "set DATABASE_DIRECT_URL to the server itself; without it work starts up to 5 s late",
     check_pg_listen},
    {"postgres", "extensions", "is pg_trgm there, for the search by name?",
     "install postgresql-contrib; CREATE EXTENSION pg_trgm, as its owner", check_pg_extensions},
    {"postgres", "role", "do services connect as an ordinary role?",
     "give the services a role of their own that is no superuser", check_pg_role},
    {"postgres", "clock", "does its clock agree with this machine's?",
     "set up NTP on both: leases and times of retries go by the database's clock", check_pg_clock},
    {"postgres", "connections", "are connections left?",
     "raise max_connections, put a pooler in front, or run fewer replicas", check_pg_connections},
    {"postgres", "durability", "do commits survive a crash, does autovacuum run?",
     "fsync, full_page_writes, synchronous_commit and autovacuum belong on", check_pg_durability},
    {"postgres", "certificate", "does the certificate it shows last?",
     "renew it (runbook DocfleetCertificateExpiring)", check_pg_certificate},
    {"kafka", "reach", "does a broker answer at KAFKA_BROKERS?",
     "start it, or correct the address; its advertised.listeners must be reachable from here",
     check_kafka_reach},
    {"kafka", "topics", "is every topic there with its partitions?",
     "docfleetctl migrate --topics makes what is missing; kafka-topics --alter adds partitions",
     check_kafka_topics},
    {"kafka", "replicas", "has every partition a leader and all its replicas?",
     "bring the missing broker back; with three or more brokers topics want 3 replicas and "
     "min.insync.replicas 2",
     check_kafka_replicas},
    {"kafka", "timestamps", "are records dated by the broker?",
     "kafka-configs --alter --add-config message.timestamp.type=LogAppendTime for the topic: else "
     "a wrong clock of the dispatcher stops the sending",
     check_kafka_timestamps},
    {"kafka", "groups", "have workers joined their groups, and is little waiting in the topics?",
     "docfleetctl migrate --topics gives a group its first offsets; a lag beyond the credit means "
     "workers that do not claim: look at their logs",
     check_kafka_groups},
    {"kafka", "certificate", "does the certificate it shows last?",
     "renew it (runbook DocfleetCertificateExpiring)", check_kafka_certificate},
    {"store", "reach", "is the bucket there, and are the keys right?",
     "docfleetctl bucket create makes it; else correct S3_ENDPOINT, S3_BUCKET and the keys",
     check_store_reach},
    {"store", "roundtrip", "does what is written come back the same, whole and in part, and go?",
     "give the key the right to put, get and delete objects of the bucket", check_store_roundtrip},
    {"store", "multipart", "can a large object be sent in parts?",
     "give the key s3:AbortMultipartUpload and s3:ListMultipartUploadParts; files above 8 MiB need "
     "it",
     check_store_multipart},
    {"store", "clock", "does its clock agree with this machine's?",
     "set up NTP: signatures are refused from 15 minutes on", check_store_clock},
    {"store", "versioning", "is the bucket without versions?",
     "removed files stay as old versions: suspend versioning, or expire them by a lifecycle rule",
     check_store_versioning},
    {"store", "presigned", "is an address that is given to browsers taken?",
     "S3_PUBLIC_ENDPOINT must be the address under which the store itself answers",
     check_store_presigned},
    {"store", "certificate", "does the certificate it shows last?",
     "renew it (runbook DocfleetCertificateExpiring)", check_store_certificate},
    {"gateway", "reach", "does the gateway answer at URL?",
     "start it, or correct URL (and URL_CA_FILE for https)", check_gateway_reach},
    {"gateway", "keys", "does it know the keys that are set?",
     "docfleetctl keys create, or user create for the first one; then set API_KEY or ADMIN_KEY",
     check_gateway_keys},
    {"gateway", "certificate", "does the certificate it shows last?",
     "renew it (runbook DocfleetCertificateExpiring)", check_gateway_certificate},
    {"providers", "ai", "does the AI service answer and take the key?",
     "correct AI_URL, AI_KEY and AI_MODEL, or use AI_BACKEND=rules", check_ai},
    {"providers", "textract", "does Textract answer and take the keys?",
     "correct TEXTRACT_ENDPOINT, its region and keys, or leave it empty", check_textract},
    {"providers", "oidc", "does the identity provider answer, as its own document says?",
     "correct OIDC_ISSUER (exactly as the provider writes it) and OIDC_CA_FILE, or leave it empty",
     check_oidc},
    {"providers", "clamd", "does the virus scanner answer?",
     "start clamd, or correct CLAMD; while it is away uploads wait, unscanned", check_clamd},
    {"host", "scratch", "is there room to write in SCRATCH_DIR?",
     "point SCRATCH_DIR at a disk with some gigabytes; files up to 5 GiB pass through it",
     check_scratch},
    {"host", "namespaces", "may processes here have user namespaces, for office files?",
     "sysctl user.max_user_namespaces and kernel.unprivileged_userns_clone, or the pod's seccomp "
     "profile; without them office files are converted one at a time",
     check_namespaces},
    {"host", "landlock", "has the kernel Landlock, a wall of the jail?",
     "a kernel of 5.13 or newer with landlock in its lsm= list; the other walls stand without",
     check_landlock},
    {"host", "seccomp", "can a child be filtered, the main wall of the jail?",
     "allow the system call seccomp in the container's profile (RuntimeDefault does)",
     check_seccomp},
    {"host", "limits", "may a process open enough files?",
     "raise the hard limit of open files to 4096 or more", check_limits},
    {"fleet", "workers", "does a worker of every stage live?",
     "start it; its log and /readyz say what keeps it from working", check_workers},
    {"fleet", "dispatcher", "has every stage a leading dispatcher?",
     "start a dispatcher; its log says what it waits for", check_dispatcher},
    {"fleet", "paused", "is no stage paused?", "docfleetctl stages resume STAGE", check_paused},
    {"fleet", "breakers", "is every breaker closed?",
     "a worker's dependency fails: see store and providers above, and the worker's /readyz",
     check_breakers},
    {"fleet", "backlog", "does nothing wait for long?",
     "more workers or slots of the stage (docfleetctl stages list), unless it is paused",
     check_backlog},
    {"fleet", "events", "do events get their positions?",
     "a dispatcher must lead the events: without it nobody sees progress live", check_events},
    {"fleet", "letters", "is nothing given up lately?",
     "docfleetctl dead-letters groups says why; replay once the cause is gone", check_letters},
    {"fleet", "ledger", "do the counts of the last week's batches add up?",
     "docfleetctl ledger names them; it is a defect: report it", check_ledger},
};

static const char *const words[] = {"ok", "warning", "problem", "skipped"};
static const char *const colours[] = {"\033[32m", "\033[33m", "\033[31m", "\033[2m"};

static void tell(struct doctor *d, enum finding what, const char *detail, const char *advice)
{
    if (d->json) {
        json_array_append_new(d->found, json_pack("{s:s, s:s, s:s, s:s, s:s?}", "area", d->at->area,
                                                  "check", d->at->name, "state", words[what],
                                                  "detail", detail, "advice", advice));
        return;
    }
    printf("%s%-8s%s %-10s %-12s %s\n", d->colours ? colours[what] : "", words[what],
           d->colours ? "\033[0m" : "", d->at->area, d->at->name, detail);
    if (advice) {
        printf("%33s-> %s\n", "", advice);
    }
    fflush(stdout);
}

void found(struct doctor *d, enum finding what, const char *advice, const char *fmt, ...)
{
    char detail[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(detail, sizeof(detail), fmt, ap);
    va_end(ap);
    if (d->silent) {
        return;
    }
    d->counts[what]++;
    bool wanted = what == FOUND_WARNING || what == FOUND_PROBLEM;
    tell(d, what, api_clean(detail), wanted ? (advice ? advice : d->at->advice) : NULL);
}

void found_err(struct doctor *d, enum finding what, const struct err *err)
{
    found(d, what, NULL, "%s", err->msg);
}

bool needs_db(struct doctor *d)
{
    if (!d->db) {
        found(d, FOUND_SKIPPED, NULL, "Postgres is away");
    }
    return !d->db;
}

bool needs_kafka(struct doctor *d)
{
    if (d->brokers == 0) {
        found(d, FOUND_SKIPPED, NULL, "Kafka is away");
    }
    return d->brokers == 0;
}

bool needs_store(struct doctor *d)
{
    if (!d->store) {
        found(d, FOUND_SKIPPED, NULL, "the store is away");
    }
    return !d->store;
}

/* Running ---------------------------------------------------------------------------------------*/

#define OWN(field) offsetof(struct doctor_options, field)

/* As their programs have them; what those say of a value is checked by running them. */
static const struct option_def others[] = {
    {"AI_BACKEND", OPTION_STRING, OWN(ai_backend), "rules", 0, 0, NULL, ""},
    {"AI_URL", OPTION_STRING, OWN(ai_url), "", 0, 0, NULL, ""},
    {"AI_KEY", OPTION_SECRET, OWN(ai_key), "", 0, 0, NULL, ""},
    {"AI_KEY_HEADER", OPTION_STRING, OWN(ai_key_header), "authorization", 0, 0, NULL, ""},
    {"AI_MODEL", OPTION_STRING, OWN(ai_model), "", 0, 0, NULL, ""},
    {"OIDC_ISSUER", OPTION_STRING, OWN(oidc_issuer), "", 0, 0, NULL, ""},
    {"OIDC_CA_FILE", OPTION_STRING, OWN(oidc_ca_file), "", 0, 0, NULL, ""},
    {"CLAMD", OPTION_STRING, OWN(clamd), "", 0, 0, NULL, ""},
    {"TEXTRACT_ENDPOINT", OPTION_STRING, OWN(textract_endpoint), "", 0, 0, NULL, ""},
    {"TEXTRACT_REGION", OPTION_STRING, OWN(textract_region), "us-east-1", 0, 0, NULL, ""},
    {"TEXTRACT_ACCESS_KEY", OPTION_STRING, OWN(textract_access_key), "", 0, 0, NULL, ""},
    {"TEXTRACT_SECRET_KEY", OPTION_SECRET, OWN(textract_secret_key), "", 0, 0, NULL, ""},
};

/* What cannot be read keeps its default or stays empty, so that the other checks go on. */
static int load(struct doctor *d, struct err *err)
{
    struct option_table tables[] = {
        {core_option_defs, core_option_count, &d->ctl->service.core},
        {ctl_option_defs, ctl_option_count, &d->ctl->options},
        {others, ARRAY_LEN(others), &d->options},
    };
    char name[] = "docfleetctl";
    char *argv[] = {name, NULL};
    enum config_action action;
    struct err first = ERR_INIT;
    size_t size = 0;
    FILE *out = open_memstream(&d->complaints, &size);

    if (!out) {
        return err_nomem(err);
    }
    int rc = config_load(name, 1, argv, tables, ARRAY_LEN(tables), out, &action, &first);
    fclose(out);
    (void)rc; /* the complaints say it */
    for (size_t t = 0; t < ARRAY_LEN(tables); t++) {
        for (size_t i = 0; i < tables[t].n; i++) {
            const struct option_def *def = &tables[t].defs[i];
            bool text = def->type == OPTION_STRING || def->type == OPTION_SECRET ||
                        def->type == OPTION_ENUM;
            char **field = (char **)((char *)tables[t].target + def->offset);
            if (text && !*field && !(*field = strdup(""))) {
                return err_nomem(err);
            }
        }
    }
    if (service_access(&d->ctl->service, &first) < 0) {
        CLEANUP(free_cleanup) char *before = STEAL(d->complaints);
        if (asprintf(&d->complaints, "%s%s\n", before, first.msg) < 0) {
            d->complaints = NULL;
            return err_nomem(err);
        }
    }
    struct http_client_config config = {
        .user_agent = "docfleetctl",
        .ca_file = *d->ctl->options.url_ca_file ? d->ctl->options.url_ca_file : NULL};
    return http_client_new(&config, &d->http, err);
}

static bool wanted(const char *only, const char *area)
{
    size_t len = strlen(area);

    for (const char *p = only; p; p = strchr(p, ','), p = p ? p + 1 : NULL) {
        if (strncmp(p, area, len) == 0 && (p[len] == ',' || p[len] == '\0')) {
            return true;
        }
    }
    return only == NULL;
}

static int check_only(const char *only, struct err *err)
{
    for (const char *p = only; p && *p;) {
        size_t n = strcspn(p, ","), i = 0;
        while (i < ARRAY_LEN(checks) &&
               (strlen(checks[i].area) != n || strncmp(checks[i].area, p, n) != 0)) {
            i++;
        }
        if (i == ARRAY_LEN(checks)) {
            return err_set(err, ERR_PERMANENT, "usage",
                           "--only takes settings, postgres, kafka, store, gateway, providers, "
                           "host, fleet");
        }
        p += n + (p[n] == ',');
    }
    return 0;
}

static int list(void)
{
    printf("| check | asks | what to do |\n|---|---|---|\n");
    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        printf("| %s %s | %s | %s |\n", checks[i].area, checks[i].name, checks[i].asks,
               checks[i].advice);
    }
    return 0;
}

static int summary(struct doctor *d, struct err *err)
{
    const int *c = d->counts;

    if (!d->json) {
        printf("%d ok, %d warnings, %d problems, %d skipped\n", c[FOUND_OK], c[FOUND_WARNING],
               c[FOUND_PROBLEM], c[FOUND_SKIPPED]);
        return 0;
    }
    CLEANUP(json_cleanup)
    json_t *doc =
        json_pack("{s:O, s:i, s:i, s:i, s:i}", "checks", d->found, "ok", c[FOUND_OK], "warnings",
                  c[FOUND_WARNING], "problems", c[FOUND_PROBLEM], "skipped", c[FOUND_SKIPPED]);
    return doc ? api_print_json(doc, err) : err_nomem(err);
}

static void done(struct doctor *d)
{
    PQfinish(d->pooled);
    PQfinish(d->direct);
    db_free(d->db);
    store_free(d->store);
    http_client_free(d->http);
    json_decref(d->found);
    free(d->complaints);
}

int ctl_doctor(struct ctl *ctl, struct err *err)
{
    struct doctor d = {.ctl = ctl,
                       .json = ctl_flag(ctl, "--json"),
                       .colours = ctl_colours(ctl, STDOUT_FILENO),
                       .found = json_array()};
    const char *only = ctl_option(ctl, "--only");

    if (ctl_flag(ctl, "--list")) {
        json_decref(d.found);
        return list();
    }
    signal(SIGPIPE, SIG_IGN);
    int rc = check_only(only, err) < 0 || load(&d, err) < 0 ? -1 : 0;
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(checks); i++) {
        /* Others stand on Postgres: it is reached in any case, silently when nobody asked. */
        d.at = &checks[i];
        d.silent = !wanted(only, checks[i].area);
        if (!d.silent || checks[i].run == check_pg_reach) {
            checks[i].run(&d);
        }
    }
    rc = rc == 0 ? summary(&d, err) : rc;
    bool warned = d.counts[FOUND_WARNING] > 0 && !ctl_flag(ctl, "--lenient");
    ctl->exit = d.counts[FOUND_PROBLEM] > 0 ? 2 : warned ? 1 : 0;
    done(&d);
    return rc;
}

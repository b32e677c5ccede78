/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading settings from defaults, a file and the environment, in that order.
 */
#include "libcommon/config.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "libcommon/buf.h"

#define PREFIX "DOCFLEET_"
#define VALUE_MAX 8192U
#define FILE_MAX_BYTES 65536U

extern char **environ;

/* Names of all programs, so that one environment can serve the whole fleet. Kept complete by
 * tests/unit/test_config.c and by config_load itself, which knows its own tables. */
static const char *const known_names[] = {
    "ADMIN_KEY",
    "AI_BACKEND",
    "AI_COMPLETION_PRICE",
    "AI_CONTEXT_TOKENS",
    "AI_FILE_COST",
    "AI_FILE_TOKENS",
    "AI_KEY",
    "AI_KEY_HEADER",
    "AI_MAX_TOKENS",
    "AI_MAX_TOKENS_FIELD",
    "AI_MODEL",
    "AI_PROMPT_PRICE",
    "AI_SCHEMA_MODE",
    "AI_TIMEOUT",
    "AI_UNIT_COST",
    "AI_UNIT_TOKENS",
    "AI_URL",
    "API_KEY",
    "CACHE_DIR",
    "CLAMD",
    "CLEAN_INTERVAL",
    "CONFIG",
    "CONSOLE_DIR",
    "CRASH_AT",
    "STOP_AT",
    "CREDIT_FLOOR",
    "DATABASE_DIRECT_URL",
    "DISPATCH_TIMEOUT",
    "DATABASE_URL",
    "DRAIN_GRACE",
    "EVENT_DAYS",
    "FLEET_DATABASE_URL",
    "GATEWAY_DATABASE_URL",
    "IDLE_TIMEOUT",
    "IMPORTER_DATABASE_URL",
    "IMPORT_ALERT_PRIVATE",
    "IMPORT_ALERT_URL",
    "IMPORT_MAX_OBJECTS",
    "IMPORT_RETRY",
    "IMPORT_RUNS_KEPT",
    "IMPORT_RUN_MAX",
    "IMPORT_SOURCES",
    "IMPORT_TRIES",
    "IMPORT_WATCH",
    "KAFKA_BROKERS",
    "KAFKA_SESSION_TIMEOUT",
    "LEASE",
    "LISTEN",
    "LOG_LEVEL",
    "MAX_FILE_SIZE",
    "OCR_ENGINE",
    "OCR_LANGUAGES",
    "OCR_MIN_CONFIDENCE",
    "OPENAPI_FILE",
    "ORPHAN_GRACE",
    "OIDC_ADMINS",
    "OIDC_ALGORITHMS",
    "OIDC_AUDIENCE",
    "OIDC_CA_FILE",
    "OIDC_CLIENT_ID",
    "OIDC_CLIENT_SECRET",
    "OIDC_ISSUER",
    "OIDC_JWKS_URL",
    "OIDC_KEYS_REFRESH",
    "OIDC_NAME",
    "OIDC_OPERATORS",
    "OIDC_PROVISION",
    "OIDC_ROLE_CLAIM",
    "OIDC_SCOPES",
    "PARTITIONING",
    "PASSWORD_MIN",
    "PREVIEW_MAX_PAGES",
    "PROFILE",
    "PROBE_ADDRESS",
    "PROBE_PORT",
    "PUBLIC_URL",
    "S3_ACCESS_KEY",
    "S3_BUCKET",
    "S3_ENDPOINT",
    "S3_PUBLIC_ENDPOINT",
    "S3_REGION",
    "S3_SECRET_KEY",
    "SCAN_TIMEOUT",
    "SCAN_TOO_LARGE",
    "SCHEDULING",
    "SCHEMA_DIR",
    "SECOND_PASS",
    "SCRATCH_DIR",
    "SESSION_IDLE",
    "SESSION_MAX",
    "SHARDS",
    "SHARED",
    "SHARE_DAYS_MAX",
    "SLEEP_MAX",
    "SLEEP_MIN",
    "SLEEP_PUTS",
    "SLEEP_THUMBNAIL",
    "SLOTS",
    "STALE_UPLOAD",
    "STORE_DRIVER",
    "STREAM_PORT",
    "SWEEP_INTERVAL",
    "TEXTRACT_ACCESS_KEY",
    "TEXTRACT_ASYNC",
    "TEXTRACT_ENDPOINT",
    "TEXTRACT_POLL",
    "TEXTRACT_PRICE",
    "TEXTRACT_REGION",
    "TEXTRACT_SECRET_KEY",
    "TRUSTED_PROXIES",
    "RATE_KEY",
    "RATE_USER",
    "RATE_ADDRESS",
    "RATE_WINDOW",
    "RATE_FAILURES",
    "CORS_ORIGINS",
    "HEADER_TIMEOUT",
    "MAX_CONNECTIONS",
    "MAX_CONNECTIONS_ADDRESS",
    "SLOW_TIMEOUT",
    "URL",
    "URL_CA_FILE",
    "ZYGOTE_DIR",
    "CA_FILE",
    "DATABASE_CA_FILE",
    "S3_CA_FILE",
    "AI_CA_FILE",
    "TEXTRACT_CA_FILE",
    "OTLP_CA_FILE",
    "OTLP_ENDPOINT",
    "OTLP_HEADERS",
    "TRACE_SAMPLE",
    "LOG_FORMAT",
    "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_SASL_MECHANISM",
    "KAFKA_USERNAME",
    "KAFKA_PASSWORD",
    "KAFKA_CA_FILE",
    "KAFKA_CERT_FILE",
    "KAFKA_KEY_FILE",
    "TLS_CERT_FILE",
    "TLS_KEY_FILE",
};

bool config_name_known(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(known_names); i++) {
        if (strcmp(name, known_names[i]) == 0) {
            return true;
        }
    }
    return strncmp(name, "TEST_", 5) == 0; /* the test rig's own */
}

struct complaints {
    FILE *out;
    struct err *err;
    unsigned n;
};

static void complain(struct complaints *c, const char *name, const char *what)
{
    if (c->n++ == 0) {
        err_set(c->err, ERR_FATAL, "invalid_config", "%s%s: %s", PREFIX, name, what);
    }
    if (c->out) {
        fprintf(c->out, "%s%s: %s\n", PREFIX, name, what);
    }
}

static int parse_unit(const char *text, const char *const *units, const int64_t *factors, size_t n,
                      int64_t *ret)
{
    char *end = NULL;

    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || errno || value < 0) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        if (strcmp(end, units[i]) == 0) {
            if (value > INT64_MAX / factors[i]) {
                return -1;
            }
            *ret = value * factors[i];
            return 0;
        }
    }
    return -1;
}

int config_parse_duration(const char *text, int64_t *ret_ms)
{
    static const char *const units[] = {"ms", "s", "m", "h", "d"};
    static const int64_t factors[] = {1, 1000, 60000, 3600000, 86400000};

    return parse_unit(text, units, factors, ARRAY_LEN(units), ret_ms);
}

int config_parse_size(const char *text, int64_t *ret_bytes)
{
    static const char *const units[] = {"", "B", "kB", "KiB", "MB", "MiB", "GB", "GiB"};
    static const int64_t factors[] = {1, 1, 1000, 1024, 1000000, 1048576, 1000000000, 1073741824};

    return parse_unit(text, units, factors, ARRAY_LEN(units), ret_bytes);
}

static bool choice_ok(const char *choices, const char *text)
{
    size_t n = strcspn(text, "|");

    if (text[n] != '\0') {
        return false; /* two choices are none */
    }
    for (const char *p = choices; p; p = strchr(p, '|'), p = p ? p + 1 : NULL) {
        if (strncmp(p, text, n) == 0 && (p[n] == '|' || p[n] == '\0') && n > 0) {
            return true;
        }
    }
    return false;
}

static void set_number(struct complaints *c, const struct option_def *def, void *field,
                       const char *text)
{
    int64_t value = 0;
    char *end = NULL;
    int r = 0;

    errno = 0;
    if (def->type == OPTION_DURATION) {
        r = config_parse_duration(text, &value);
    } else if (def->type == OPTION_SIZE) {
        r = config_parse_size(text, &value);
    } else {
        value = strtoll(text, &end, 10);
        r = end == text || *end || errno ? -1 : 0;
    }
    if (r < 0) {
        complain(c, def->name,
                 def->type == OPTION_DURATION ? "not a duration such as 15s"
                 : def->type == OPTION_SIZE   ? "not a size such as 512MiB"
                                              : "not a whole number");
    } else if ((def->min || def->max) && (value < def->min || value > def->max)) {
        complain(c, def->name, "out of range");
    } else {
        *(int64_t *)field = value;
    }
}

static void set_ratio(struct complaints *c, const struct option_def *def, double *field,
                      const char *text)
{
    char *end = NULL;
    double value = strtod(text, &end);

    if (end == text || *end || !(value >= 0 && value <= 1)) {
        complain(c, def->name, "not a number from 0 to 1");
    } else {
        *field = value;
    }
}

static void set_value(struct complaints *c, const struct option_table *table,
                      const struct option_def *def, const char *text)
{
    void *field = (char *)table->target + def->offset;

    switch (def->type) {
    case OPTION_ENUM:
        if (!choice_ok(def->choices, text)) {
            complain(c, def->name, "not one of the choices");
            return;
        }
        /* fall through */
    case OPTION_STRING:
    case OPTION_SECRET: {
        char *copy = strdup(text);
        if (!copy) {
            complain(c, def->name, "out of memory");
            return;
        }
        free(*(char **)field);
        *(char **)field = copy;
        break;
    }
    case OPTION_BOOL:
        if (strcmp(text, "true") == 0 || strcmp(text, "1") == 0) {
            *(bool *)field = true;
        } else if (strcmp(text, "false") == 0 || strcmp(text, "0") == 0) {
            *(bool *)field = false;
        } else {
            complain(c, def->name, "neither true nor false");
        }
        break;
    case OPTION_RATIO:
        set_ratio(c, def, field, text);
        break;
    case OPTION_INT:
    case OPTION_DURATION:
    case OPTION_SIZE:
        set_number(c, def, field, text);
        break;
    }
}

static int read_text_file(const char *path, struct buf *ret_buf, struct err *err)
{
    char chunk[4096];
    size_t n;
    FILE *f = fopen(path, "re");

    if (!f) {
        return err_from_errno(err, errno, "%s", path);
    }
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0) {
        if (buf_append(ret_buf, chunk, n, err) < 0) {
            fclose(f);
            return -1;
        }
    }
    int error = ferror(f) ? errno : 0; /* a folder opens, but does not read */
    fclose(f);
    return error ? err_from_errno(err, error, "%s", path) : 0;
}

static void set_from_secret_file(struct complaints *c, const struct option_table *table,
                                 const struct option_def *def, const char *path)
{
    CLEANUP(buf_done) struct buf buf;
    struct err err = ERR_INIT;

    buf_init(&buf, VALUE_MAX);
    if (read_text_file(path, &buf, &err) < 0) {
        complain(c, def->name, err.msg);
        return;
    }
    while (buf.len > 0 && (buf.data[buf.len - 1] == '\n' || buf.data[buf.len - 1] == '\r')) {
        buf.data[--buf.len] = '\0';
    }
    set_value(c, table, def, buf.data ? buf.data : "");
}

/* Applies NAME=value; the name comes without the prefix. */
static void apply(struct complaints *c, const struct option_table *tables, size_t n_tables,
                  const char *name, const char *value)
{
    size_t len = strlen(name);
    bool is_file = len > 5 && strcmp(name + len - 5, "_FILE") == 0;

    for (size_t t = 0; t < n_tables; t++) {
        for (size_t i = 0; i < tables[t].n; i++) {
            const struct option_def *def = &tables[t].defs[i];
            if (strcmp(def->name, name) == 0) {
                set_value(c, &tables[t], def, value);
                return;
            }
            if (is_file && def->type == OPTION_SECRET && strlen(def->name) == len - 5 &&
                strncmp(def->name, name, len - 5) == 0) {
                set_from_secret_file(c, &tables[t], def, value);
                return;
            }
        }
    }
    char base[64];
    snprintf(base, sizeof(base), "%.*s", (int)(is_file ? len - 5 : len), name);
    if (!config_name_known(name) && !config_name_known(base)) {
        complain(c, name, "no program of docfleet has this option");
    }
}

static void apply_file(struct complaints *c, const struct option_table *tables, size_t n_tables,
                       const char *path)
{
    CLEANUP(buf_done) struct buf buf;
    struct err err = ERR_INIT;
    char *save = NULL;

    buf_init(&buf, FILE_MAX_BYTES);
    if (read_text_file(path, &buf, &err) < 0) {
        complain(c, "CONFIG", err.msg);
        return;
    }
    for (char *line = buf.data ? strtok_r(buf.data, "\n", &save) : NULL; line;
         line = strtok_r(NULL, "\n", &save)) {
        while (isspace((unsigned char)*line)) {
            line++;
        }
        char *eq = strchr(line, '=');
        if (*line == '#' || *line == '\0') {
            continue;
        }
        if (!eq) {
            complain(c, "CONFIG", "a line without =");
            continue;
        }
        *eq = '\0';
        size_t end = strlen(eq + 1);
        while (end > 0 && isspace((unsigned char)eq[end])) {
            eq[end--] = '\0';
        }
        apply(c, tables, n_tables,
              strncmp(line, PREFIX, sizeof(PREFIX) - 1) == 0 ? line + sizeof(PREFIX) - 1 : line,
              eq + 1);
    }
}

static void apply_environment(struct complaints *c, const struct option_table *tables,
                              size_t n_tables)
{
    for (char **e = environ; *e; e++) {
        const char *eq = strchr(*e, '=');
        char name[80];
        if (strncmp(*e, PREFIX, sizeof(PREFIX) - 1) != 0 || !eq) {
            continue;
        }
        snprintf(name, sizeof(name), "%.*s", (int)(eq - *e - (long)sizeof(PREFIX) + 1),
                 *e + sizeof(PREFIX) - 1);
        if (strlen(eq + 1) > VALUE_MAX) {
            complain(c, name, "too long");
            continue;
        }
        apply(c, tables, n_tables, name, eq + 1);
    }
}

static void check_required(struct complaints *c, const struct option_table *tables, size_t n_tables)
{
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t i = 0; i < tables[t].n; i++) {
            const struct option_def *def = &tables[t].defs[i];
            bool text = def->type == OPTION_STRING || def->type == OPTION_SECRET ||
                        def->type == OPTION_ENUM;
            if (!def->fallback && text && !*(char **)((char *)tables[t].target + def->offset)) {
                complain(c, def->name, "required and not set");
            }
        }
    }
}

static void print_help(const char *program, const struct option_table *tables, size_t n)
{
    printf("usage: %s [--config FILE] [--help | --print-config | --print-docs]\n"
           "       %s --health        is the one running here ready?\n\n"
           "Settings come from the file, then from the environment:\n",
           program, program);
    for (size_t t = 0; t < n; t++) {
        for (size_t i = 0; i < tables[t].n; i++) {
            const struct option_def *def = &tables[t].defs[i];
            printf("  " PREFIX "%s\n      %s (%s%s%s)\n", def->name, def->help,
                   def->fallback ? "default: " : "required",
                   def->fallback ? (*def->fallback ? def->fallback : "none") : "",
                   def->type == OPTION_SECRET ? "; also _FILE" : "");
        }
    }
}

static void print_doc_row(const struct option_def *def)
{
    const char *tick = def->fallback && *def->fallback ? "`" : "";
    const char *fallback = !def->fallback ? "required" : *def->fallback ? def->fallback : "–";

    printf("| `" PREFIX "%s`%s | %s%s%s | %s", def->name,
           def->type == OPTION_SECRET ? ", `…_FILE`" : "", tick, fallback, tick, def->help);
    if (def->choices) {
        printf(" (%s)", def->choices);
    }
    printf(" |\n");
}

static void print_docs(const char *program, const struct option_table *tables, size_t n)
{
    printf("## %s\n\n| name | default | meaning |\n|---|---|---|\n", program);
    for (size_t t = 0; t < n; t++) {
        for (size_t i = 0; i < tables[t].n; i++) {
            print_doc_row(&tables[t].defs[i]);
        }
    }
    printf("\n");
}

static void print_config(const struct option_table *tables, size_t n)
{
    for (size_t t = 0; t < n; t++) {
        for (size_t i = 0; i < tables[t].n; i++) {
            const struct option_def *def = &tables[t].defs[i];
            const void *field = (const char *)tables[t].target + def->offset;
            const char *text = NULL;
            printf(PREFIX "%s=", def->name);
            switch (def->type) {
            case OPTION_STRING:
            case OPTION_ENUM:
                text = *(char *const *)field;
                printf("%s\n", text ? text : "");
                break;
            case OPTION_SECRET:
                text = *(char *const *)field;
                printf("%s\n", text && *text ? "***" : "");
                break;
            case OPTION_BOOL:
                printf("%s\n", *(const bool *)field ? "true" : "false");
                break;
            case OPTION_RATIO:
                printf("%g\n", *(const double *)field);
                break;
            case OPTION_DURATION:
                printf("%" PRId64 "ms\n", *(const int64_t *)field);
                break;
            case OPTION_INT:
            case OPTION_SIZE:
                printf("%" PRId64 "\n", *(const int64_t *)field);
                break;
            }
        }
    }
}

int config_load(const char *program, int argc, char **argv, const struct option_table *tables,
                size_t n_tables, FILE *complaints, enum config_action *ret_action, struct err *err)
{
    struct complaints c = {.out = complaints, .err = err};
    const char *file = getenv(PREFIX "CONFIG");
    const char *print = NULL;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--config") == 0 && i + 1 < argc) {
            file = argv[++i];
        } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "--print-config") == 0 ||
                   strcmp(argv[i], "--print-docs") == 0) {
            print = argv[i];
        } else {
            return err_set(err, ERR_FATAL, "usage", "unknown argument %s; try --help", argv[i]);
        }
    }
    *ret_action = CONFIG_EXIT;
    if (print && strcmp(print, "--help") == 0) {
        print_help(program, tables, n_tables);
        return 0;
    }
    if (print && strcmp(print, "--print-docs") == 0) {
        print_docs(program, tables, n_tables);
        return 0;
    }
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t i = 0; i < tables[t].n; i++) {
            if (tables[t].defs[i].fallback) {
                const char *fallback = tables[t].defs[i].fallback;
                if (*fallback || tables[t].defs[i].type <= OPTION_SECRET) {
                    set_value(&c, &tables[t], &tables[t].defs[i], fallback);
                }
            }
        }
    }
    if (file) {
        apply_file(&c, tables, n_tables, file);
    }
    apply_environment(&c, tables, n_tables);
    check_required(&c, tables, n_tables);
    if (c.n > 0) {
        return -1;
    }
    if (print) {
        print_config(tables, n_tables);
        return 0;
    }
    *ret_action = CONFIG_RUN;
    return 0;
}

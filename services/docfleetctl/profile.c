/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ~/.config/docfleet/config: addresses and keys of several installations, in sections.
 *   url = https://docfleet.example.org
 *   api_key_file = ~/.config/docfleet/key
 *   [test]
 *   url = http://127.0.0.1:8080
 * What stands before the first section is the profile `default`.
 * Invariant: a file that others can read is refused, since it may hold keys.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libcommon/buf.h"
#include "services/docfleetctl/ctl.h"

#define PROFILE_BYTES_MAX 65536U
#define VALUE_MAX 4096U

static const struct {
    const char *name, *setting;
    bool path;
} settings[] = {
    {"url", "URL", false},
    {"ca_file", "URL_CA_FILE", true},
    {"api_key", "API_KEY", false},
    {"api_key_file", "API_KEY_FILE", true},
    {"admin_key", "ADMIN_KEY", false},
    {"admin_key_file", "ADMIN_KEY_FILE", true},
};

static char *trim(char *s)
{
    while (*s == ' ' || *s == '\t') {
        s++;
    }
    size_t n = strlen(s);
    while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\t' || s[n - 1] == '\r')) {
        s[--n] = '\0';
    }
    return s;
}

static bool known(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        if (strcmp(settings[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

int profile_parse(char *text, const char *profile, profile_fn fn, void *ctx, bool *ret_found,
                  struct err *err)
{
    bool here = strcmp(profile, "default") == 0, found = here;
    int line_no = 0;

    for (char *next = text; next && *next; line_no++) {
        char *line = strsep(&next, "\n");
        line = trim(line);
        if (*line == '\0' || *line == '#' || *line == ';') {
            continue;
        }
        if (*line == '[') {
            char *end = strchr(line, ']');
            if (!end || end[1] != '\0') {
                return err_set(err, ERR_PERMANENT, "invalid_config", "line %d: no section [name]",
                               line_no + 1);
            }
            *end = '\0';
            here = strcmp(trim(line + 1), profile) == 0;
            found = found || here;
            continue;
        }
        char *value = strchr(line, '=');
        if (!value) {
            return err_set(err, ERR_PERMANENT, "invalid_config", "line %d has no =", line_no + 1);
        }
        *value++ = '\0';
        char *name = trim(line);
        if (!known(name)) {
            return err_set(err, ERR_PERMANENT, "invalid_config", "line %d: unknown setting %.40s",
                           line_no + 1, name);
        }
        if (here && fn(ctx, name, trim(value), err) < 0) {
            return -1;
        }
    }
    *ret_found = found;
    return 0;
}

/* No thread exists yet. NOLINTBEGIN(concurrency-mt-unsafe) */

/* The environment wins: for a secret, in either of its two forms. */
static bool is_set(const char *setting)
{
    char name[80];
    size_t len = strlen(setting);
    bool file =
        len > 5 && strcmp(setting + len - 5, "_FILE") == 0 && strcmp(setting, "URL_CA_FILE") != 0;

    snprintf(name, sizeof(name), "DOCFLEET_%s", setting);
    if (getenv(name)) {
        return true;
    }
    snprintf(name, sizeof(name), "DOCFLEET_%.*s%s", (int)(file ? len - 5 : len), setting,
             file ? "" : "_FILE");
    return getenv(name) != NULL;
}

static int apply(void *ctx, const char *name, const char *value, struct err *err)
{
    const char *home = getenv("HOME");
    char path[VALUE_MAX], env[80];

    (void)ctx;
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        if (strcmp(settings[i].name, name) != 0 || is_set(settings[i].setting)) {
            continue;
        }
        bool tilde = settings[i].path && strncmp(value, "~/", 2) == 0 && home;
        int n = snprintf(path, sizeof(path), "%s%s", tilde ? home : "", tilde ? value + 1 : value);
        snprintf(env, sizeof(env), "DOCFLEET_%s", settings[i].setting);
        if (n < 0 || (size_t)n >= sizeof(path)) {
            return err_set(err, ERR_PERMANENT, "invalid_config", "%s is too long", name);
        }
        if (setenv(env, path, 1) < 0) {
            return err_nomem(err);
        }
    }
    return 0;
}

static int config_path(char *path, size_t size)
{
    const char *xdg = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    int n = -1;

    if (xdg && *xdg == '/') {
        n = snprintf(path, size, "%s/docfleet/config", xdg);
    } else if (home && *home == '/') {
        n = snprintf(path, size, "%s/.config/docfleet/config", home);
    }
    return n > 0 && (size_t)n < size ? 0 : -1;
}

/* NOLINTEND(concurrency-mt-unsafe) */

/* 1: *text is the file; 0: there is none. */
static int read_config(const char *path, struct buf *text, struct err *err)
{
    CLEANUP(fd_cleanup) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    char chunk[4096];
    ssize_t n;

    if (fd < 0) {
        return errno == ENOENT || errno == ENOTDIR ? 0 : err_from_errno(err, errno, "%s", path);
    }
    if (fstat(fd, &st) < 0) {
        return err_from_errno(err, errno, "%s", path);
    }
    if (!S_ISREG(st.st_mode) || (st.st_mode & 077) != 0 ||
        (st.st_uid != geteuid() && geteuid() != 0)) {
        return err_set(err, ERR_PERMANENT, "invalid_config",
                       "%s may hold keys and is open to others: chmod 600", path);
    }
    while ((n = read(fd, chunk, sizeof(chunk))) > 0) {
        if (buf_append(text, chunk, (size_t)n, err) < 0) {
            return -1;
        }
    }
    return n < 0 ? err_from_errno(err, errno, "%s", path) : 1;
}

int profile_load(const char *name, struct err *err)
{
    CLEANUP(buf_done) struct buf text;
    const char *profile = name && *name ? name : "default";
    char path[4096];
    bool found = false;
    int rc = 0;

    buf_init(&text, PROFILE_BYTES_MAX);
    if (config_path(path, sizeof(path)) == 0) {
        rc = read_config(path, &text, err);
    }
    if (rc < 0) {
        return -1;
    }
    if (rc > 0 && text.data && profile_parse(text.data, profile, apply, NULL, &found, err) < 0) {
        return err_wrap(err, "%s", path);
    }
    if (!found && strcmp(profile, "default") != 0) {
        return err_set(err, ERR_PERMANENT, "invalid_config",
                       "there is no profile [%.40s] in ~/.config/docfleet/config", profile);
    }
    return 0;
}

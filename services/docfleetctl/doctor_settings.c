/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings: as this program reads them, and as each program beside it does.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "services/docfleetctl/doctor.h"

#define PROGRAM_MS 10000

void check_settings(struct doctor *d)
{
    const char *line = d->complaints;

    if (*line == '\0') {
        found(d, FOUND_OK, NULL, "all are well-formed and known");
    }
    while (*line) {
        int n = (int)strcspn(line, "\n");
        found(d, FOUND_PROBLEM, NULL, "%.*s", n, line);
        line += n + (line[n] == '\n');
    }
}

/* Reads what comes until the end or the time is over; true at the end. */
static bool drain(int fd, struct buf *out)
{
    uint64_t until = clock_mono_ms() + PROGRAM_MS;
    struct err ignored = ERR_INIT;
    char chunk[4096];

    for (;;) {
        uint64_t now = clock_mono_ms();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (now >= until || poll(&p, 1, (int)(until - now)) <= 0) {
            return false;
        }
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n <= 0) {
            return n == 0;
        }
        if (buf_append(out, chunk, (size_t)n, &ignored) < 0) {
            return false;
        }
    }
}

/* `PROGRAM --print-config`: its status, or -1; what it complained of in *out. */
static int run_program(const char *path, struct buf *out)
{
    char flag[] = "--print-config", *name = strdup(path);
    char *argv[] = {name, flag, NULL};
    posix_spawn_file_actions_t actions;
    int pipes[2], status = -1;
    pid_t pid = 0;

    if (!name || pipe2(pipes, O_CLOEXEC) < 0) {
        free(name);
        return -1;
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, pipes[1], 2);
    int rc = posix_spawn(&pid, path, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(pipes[1]);
    if (rc == 0) {
        if (!drain(pipes[0], out)) {
            kill(pid, SIGKILL);
        }
        if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status)) {
            status = -1;
        } else {
            status = WEXITSTATUS(status);
        }
    }
    close(pipes[0]);
    free(name);
    return status;
}

void check_programs(struct doctor *d)
{
    static const char *const names[] = {
        "ingest-gateway", "dispatcher",       "text-extractor", "ocr-fallback", "ai-extractor",
        "preview-worker", "thumbnail-worker", "cleaner",        "importer",     "scan-worker"};
    char self[4096], path[4200];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    int n = 0, wrong = 0;

    self[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(self, '/');
    for (size_t i = 0; slash && i < ARRAY_LEN(names); i++) {
        CLEANUP(buf_done) struct buf out;
        buf_init(&out, 65536);
        snprintf(path, sizeof(path), "%.*s/%s", (int)(slash - self), self, names[i]);
        if (access(path, X_OK) < 0) {
            continue;
        }
        n++;
        if (run_program(path, &out) != 0) {
            char *line = out.data ? out.data : path;
            line[strcspn(line, "\n")] = '\0';
            if (!strstr(d->complaints, line)) { /* told already */
                found(d, FOUND_PROBLEM, NULL, "%s: %s", names[i], line);
            }
            wrong++;
        }
    }
    if (n == 0) {
        found(d, FOUND_SKIPPED, NULL, "no other program lies beside this one");
    } else if (wrong < n) {
        found(d, FOUND_OK, NULL, "%d of %d programs take them", n - wrong, n);
    }
}

void check_secret_files(struct doctor *d)
{
    int n = 0, wrong = 0;
    struct stat st;

    for (char **e = environ; *e; e++) {
        const char *eq = strchr(*e, '=');
        if (strncmp(*e, "DOCFLEET_", 9) != 0 || !eq || eq - *e < 15 ||
            strncmp(eq - 5, "_FILE", 5) != 0 || strstr(*e, "CA_FILE=") || stat(eq + 1, &st) < 0) {
            continue;
        }
        n++;
        if (st.st_mode & S_IROTH) {
            found(d, FOUND_WARNING, NULL, "every user of this machine can read %s", eq + 1);
            wrong++;
        }
    }
    if (wrong == 0) {
        found(d, FOUND_OK, NULL, n > 0 ? "%d files are closed" : "no secret is in a file", n);
    }
}

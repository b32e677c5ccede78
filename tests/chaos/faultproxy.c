/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TCP proxy that breaks connections on demand: between the services of a test and Postgres,
 * Kafka, the object store and the stubs. Speaks a line protocol on a Unix socket, one answer a
 * line:
 *
 *   link NAME PORT HOST UPSTREAM_PORT [http]     set NAME KEY VALUE [KEY VALUE]...
 *   reset NAME|*     cut NAME|*     stats NAME|*     ping
 *
 * Keys of `set`: mode pass|refuse|blackhole|mute, delay, jitter (ms), bandwidth (bytes/s),
 * cut_after (bytes), match (hex), match_p, match_do forward|drop|reply|any, seed; for http links
 * method, path, error_p, error_code, hang_p, truncate_p, flip_p, swallow_p. It refuses to guess: an
 * unknown key is an error and changes nothing of the link but the keys before it.
 */
#include "tests/chaos/faultproxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CONTROLS_MAX 64
#define LINE_SIZE 1024U

struct control {
    int fd;
    char line[LINE_SIZE];
    size_t len;
};

static struct link links[LINKS_MAX];
static size_t n_links;
static struct control controls[CONTROLS_MAX];
static int epoll_fd = -1, control_fd = -1;

uint64_t now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000U + (uint64_t)ts.tv_nsec / 1000U;
}

double link_random(struct link *link)
{
    uint64_t z = link->rng += 0x9E3779B97F4A7C15U;

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

static void watch(int fd, void *ptr)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = ptr};

    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

/* Links -----------------------------------------------------------------------------------------*/

static const char *link_listen(struct link *link)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(link->port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0) {
        return "no socket";
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 512) < 0) {
        close(fd);
        return "port is taken";
    }
    link->listen_fd = fd;
    watch(fd, link);
    return NULL;
}

static void set_mode(struct link *link, enum link_mode mode)
{
    link->faults.mode = mode;
    if (mode == MODE_REFUSE && link->listen_fd >= 0) {
        close(link->listen_fd);
        link->listen_fd = -1;
    } else if (mode != MODE_REFUSE && link->listen_fd < 0) {
        link_listen(link);
    }
}

static struct link *link_find(const char *name)
{
    for (size_t i = 0; i < n_links; i++) {
        if (strcmp(links[i].name, name) == 0) {
            return &links[i];
        }
    }
    return NULL;
}

static const char *link_new(char **words, size_t n)
{
    if (n < 5 || n > 6 || (n == 6 && strcmp(words[5], "http") != 0)) {
        return "usage: link NAME PORT HOST UPSTREAM_PORT [http]";
    }
    if (n_links == LINKS_MAX || link_find(words[1])) {
        return "too many links, or the name is taken";
    }
    struct link *link = &links[n_links];
    *link = (struct link){.listen_fd = -1, .http = n == 6, .rng = n_links + 1};
    snprintf(link->name, sizeof(link->name), "%s", words[1]);
    snprintf(link->host, sizeof(link->host), "%s", words[3]);
    link->port = (uint16_t)strtoul(words[2], NULL, 10);
    link->upstream = (uint16_t)strtoul(words[4], NULL, 10);
    link->faults.error_code = 503;
    const char *problem = link_listen(link);
    n_links += problem ? 0 : 1;
    return problem;
}

static const char *set_match(struct faults *faults, const char *hex)
{
    size_t n = strlen(hex) / 2;

    if (n > MATCH_MAX || strlen(hex) % 2) {
        return "match is hex, at most 64 bytes";
    }
    for (size_t i = 0; i < n; i++) {
        char two[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        char *end = NULL;
        faults->match[i] = (unsigned char)strtoul(two, &end, 16);
        if (*end) {
            return "match is hex";
        }
    }
    faults->match_len = n;
    return NULL;
}

static int word_of(const char *value, const char *const *words)
{
    for (int i = 0; words[i]; i++) {
        if (strcmp(words[i], value) == 0) {
            return i;
        }
    }
    return -1;
}

static const char *set_words(struct link *link, const char *key, const char *value)
{
    static const char *const modes[] = {"pass", "refuse", "blackhole", "mute", NULL};
    static const char *const dos[] = {"forward", "drop", "reply", "any", NULL};
    struct faults *f = &link->faults;
    int word;

    if (strcmp(key, "mode") == 0) {
        if ((word = word_of(value, modes)) < 0) {
            return "no such mode";
        }
        set_mode(link, (enum link_mode)word);
    } else if (strcmp(key, "match_do") == 0) {
        if ((word = word_of(value, dos)) < 0) {
            return "no such match_do";
        }
        f->match_do = (enum match_do)word;
    } else if (strcmp(key, "match") == 0) {
        return set_match(f, value);
    } else if (strcmp(key, "method") == 0) {
        snprintf(f->method, sizeof(f->method), "%s", strcmp(value, "*") == 0 ? "" : value);
    } else if (strcmp(key, "path") == 0) {
        snprintf(f->path, sizeof(f->path), "%s", strcmp(value, "*") == 0 ? "" : value);
    } else {
        return "no such key";
    }
    return NULL;
}

static const char *set_one(struct link *link, const char *key, const char *value)
{
    struct faults *f = &link->faults;
    const struct {
        const char *name;
        double *p;
    } shares[] = {{"match_p", &f->match_p}, {"error_p", &f->error_p},
                  {"hang_p", &f->hang_p},   {"truncate_p", &f->truncate_p},
                  {"flip_p", &f->flip_p},   {"swallow_p", &f->swallow_p}};
    const struct {
        const char *name;
        uint64_t *n;
        uint64_t factor;
    } numbers[] = {{"delay", &f->delay_us, 1000},
                   {"jitter", &f->jitter_us, 1000},
                   {"bandwidth", &f->bandwidth, 1},
                   {"cut_after", &f->cut_after, 1},
                   {"seed", &link->rng, 1}};

    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
        if (strcmp(key, shares[i].name) == 0) {
            *shares[i].p = strtod(value, NULL);
            return NULL;
        }
    }
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (strcmp(key, numbers[i].name) == 0) {
            *numbers[i].n = strtoull(value, NULL, 10) * numbers[i].factor;
            return NULL;
        }
    }
    if (strcmp(key, "error_code") == 0) {
        f->error_code = (int)strtol(value, NULL, 10);
        return NULL;
    }
    return set_words(link, key, value);
}

static void link_reset(struct link *link)
{
    link->faults = (struct faults){.error_code = 503};
    set_mode(link, MODE_PASS);
    conns_rearm(link);
}

/* Control ---------------------------------------------------------------------------------------*/

static void print_stats(FILE *out, const struct link *link)
{
    const struct link_stats *s = &link->stats;

    fprintf(out,
            "\"%s\":{\"open\":%u,\"accepted\":%" PRIu64 ",\"unreachable\":%" PRIu64
            ",\"cut\":%" PRIu64 ",\"matched\":%" PRIu64 ",\"up\":%" PRIu64 ",\"down\":%" PRIu64
            ",\"requests\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"hangs\":%" PRIu64
            ",\"truncated\":%" PRIu64 ",\"flipped\":%" PRIu64 ",\"swallowed\":%" PRIu64 "}",
            link->name, link->open, s->accepted, s->unreachable, s->cut, s->matched, s->up, s->down,
            s->requests, s->errors, s->hangs, s->truncated, s->flipped, s->swallowed);
}

static const char *set_keys(struct link *link, char **words, size_t n)
{
    if (n < 4 || n % 2) {
        return "usage: set NAME KEY VALUE...";
    }
    for (size_t i = 2; i + 1 < n; i += 2) {
        const char *problem = set_one(link, words[i], words[i + 1]);
        if (problem) {
            return problem;
        }
    }
    conns_rearm(link);
    return NULL;
}

/* One of set, reset, cut, stats, for one link or all. */
static const char *for_links(char **words, size_t n, FILE *out)
{
    bool all = n >= 2 && strcmp(words[1], "*") == 0, any = false;
    unsigned count = 0;

    for (size_t i = 0; i < n_links && n >= 2; i++) {
        const char *problem = NULL;
        if (!all && strcmp(links[i].name, words[1]) != 0) {
            continue;
        }
        if (strcmp(words[0], "set") == 0) {
            problem = set_keys(&links[i], words, n);
        } else if (strcmp(words[0], "reset") == 0) {
            link_reset(&links[i]);
        } else if (strcmp(words[0], "cut") == 0) {
            count += conns_cut(&links[i]);
        } else if (strcmp(words[0], "stats") == 0) {
            fputs(any ? "," : "ok {", out);
            print_stats(out, &links[i]);
        } else {
            problem = "no such command";
        }
        if (problem) {
            return problem;
        }
        any = true;
    }
    if (!any && !all) {
        return "no such link";
    }
    if (strcmp(words[0], "stats") == 0) {
        fputs(any ? "}\n" : "ok {}\n", out);
    } else {
        fprintf(out, "ok %u\n", count);
    }
    return NULL;
}

static void run_line(char *line, FILE *out)
{
    char *words[40], *rest = NULL;
    const char *problem = NULL;
    size_t n = 0;

    for (char *w = strtok_r(line, " \t\r", &rest); w && n < 40;
         w = strtok_r(NULL, " \t\r", &rest)) {
        words[n++] = w;
    }
    if (n == 0 || strcmp(words[0], "ping") == 0) {
        fputs("ok\n", out);
    } else if (strcmp(words[0], "link") == 0) {
        problem = link_new(words, n);
        fputs(problem ? "" : "ok\n", out);
    } else {
        problem = for_links(words, n, out);
    }
    if (problem) {
        fprintf(out, "error %s\n", problem);
    }
}

static void control_close(struct control *control)
{
    close(control->fd);
    control->fd = -1;
}

/* Answers every whole line; a client that does not read its answers waits for itself. */
static void control_event(struct control *control)
{
    char *answer = NULL;
    size_t answer_len = 0;
    ssize_t got = read(control->fd, control->line + control->len, LINE_SIZE - 1 - control->len);

    if (got <= 0) {
        control_close(control);
        return;
    }
    control->len += (size_t)got;
    FILE *out = open_memstream(&answer, &answer_len);
    for (char *end; out && (end = memchr(control->line, '\n', control->len));) {
        size_t used = (size_t)(end - control->line) + 1;
        *end = '\0';
        run_line(control->line, out);
        memmove(control->line, control->line + used, control->len - used);
        control->len -= used;
    }
    if (out) {
        fclose(out);
    }
    size_t sent = 0;
    while (sent < answer_len) {
        ssize_t n = send(control->fd, answer + sent, answer_len - sent, MSG_NOSIGNAL);
        if (n <= 0) {
            break;
        }
        sent += (size_t)n;
    }
    free(answer);
    if (control->len == LINE_SIZE - 1) {
        control_close(control);
    }
}

static void control_accept(void)
{
    int fd = accept4(control_fd, NULL, NULL, SOCK_CLOEXEC);

    for (size_t i = 0; i < CONTROLS_MAX && fd >= 0; i++) {
        if (controls[i].fd < 0) {
            controls[i] = (struct control){.fd = fd};
            watch(fd, &controls[i]);
            return;
        }
    }
    if (fd >= 0) {
        close(fd);
    }
}

static int control_open(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(addr.sun_path)) {
        fprintf(stderr, "the socket's path is too long\n");
        return -1;
    }
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    unlink(path);
    control_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (control_fd < 0 || bind(control_fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        listen(control_fd, 16) < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    watch(control_fd, &control_fd);
    return 0;
}

static void dispatch(void *ptr, uint32_t events)
{
    char *p = ptr;

    if (ptr == &control_fd) {
        control_accept();
    } else if (p >= (char *)controls && p < (char *)(controls + CONTROLS_MAX)) {
        control_event(ptr);
    } else if (p >= (char *)links && p < (char *)(links + LINKS_MAX)) {
        conn_accept(ptr);
    } else {
        conn_event(ptr, events);
    }
}

int main(int argc, char **argv)
{
    struct epoll_event events[256];

    if (argc != 2) {
        fprintf(stderr, "usage: faultproxy CONTROL_SOCKET\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (size_t i = 0; i < CONTROLS_MAX; i++) {
        controls[i].fd = -1;
    }
    conns_init(epoll_fd);
    if (epoll_fd < 0 || control_open(argv[1]) < 0) {
        return 1;
    }
    for (int timeout = -1;; timeout = conns_turn()) {
        int n = epoll_wait(epoll_fd, events, 256, timeout);
        for (int i = 0; i < n; i++) {
            dispatch(events[i].data.ptr, events[i].events);
        }
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs one operation of a zygote on files from the command line, as a service would, and shows
 * the frames that come back: for looking at results by hand.
 *   jailrun ZYGOTE OP FILE [PARAMS_JSON [FOLDER]]
 * Payloads go to FOLDER, numbered. JAILRUN_AS_MB, JAILRUN_CPU_S and JAILRUN_WALL_MS change limits;
 * JAILRUN_REPEAT runs the unit that many times (payloads of the last one).
 */
#include "libcommon/jail.h"
#include "libcommon/jget.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static uint64_t env_number(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 10) : fallback;
}

static int save_payload(const char *folder, unsigned number, const struct frame *frame,
                        struct err *err)
{
    const bool image = strcmp(frame->type, "image") == 0;
    const bool pdf = strcmp(frame->type, "pdf") == 0;
    const bool words = strcmp(frame->type, "words") == 0;
    char path[1024];

    if (!folder || frame->len == 0) {
        return 0;
    }
    snprintf(path, sizeof(path), "%s/%03u-%.20s.%s", folder, number, frame->type,
             image   ? "webp"
             : pdf   ? "pdf"
             : words ? "json"
                     : "txt");
    CLEANUP(fd_cleanup) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (fd < 0 || write(fd, frame->payload, frame->len) != (ssize_t)frame->len) {
        return err_from_errno(err, errno, "writing %s", path);
    }
    return 0;
}

static int show_frames(struct frames *frames, const char *folder, struct err *err)
{
    struct frame frame;
    unsigned number = 0;
    int rc;

    while ((rc = frames_next(frames, &frame, err)) > 0) {
        CLEANUP(free_cleanup) char *meta = json_dumps(frame.meta, JSON_COMPACT);

        printf("%s %s %zu\n", frame.type, meta ? meta : "?", frame.len);
        if (save_payload(folder, number++, &frame, err) != 0) {
            return -1;
        }
    }
    return rc;
}

static int run_once(struct jail *jail, struct jail_request *request, const char *path,
                    const char *folder, struct err *err)
{
    CLEANUP(frames_cleanup) struct frames *frames = NULL;
    CLEANUP(fd_cleanup) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct jail_usage usage = {0};

    if (fd < 0) {
        return err_from_errno(err, errno, "opening %s", path);
    }
    request->input_fd = fd;
    int rc = jail_run(jail, request, &frames, &usage, err);

    if (rc == 0) {
        rc = show_frames(frames, folder, err);
    }
    if (rc != 0) {
        printf("error %s %s %s\n", err_class_name(err->class), err->code, err->msg);
    }
    printf("child %s signal %d cpu %" PRIu64 " ms rss %" PRIu64 " MB\n", usage.reason, usage.signal,
           usage.cpu_us / 1000, usage.max_rss >> 20);
    return rc;
}

int main(int argc, char **argv)
{
    CLEANUP(jail_cleanup) struct jail *jail = NULL;
    CLEANUP(json_cleanup) json_t *params = NULL;
    struct err err = ERR_INIT;
    const struct jail_limits limits = {
        .as_bytes = env_number("JAILRUN_AS_MB", 1024) << 20,
        .cpu_s = (unsigned)env_number("JAILRUN_CPU_S", 60),
        .wall_ms = (unsigned)env_number("JAILRUN_WALL_MS", 60000),
        .out_bytes = 64ULL << 20,
    };
    int rc = 0;

    if (argc < 4) {
        fprintf(stderr, "usage: jailrun ZYGOTE OP FILE [PARAMS_JSON [FOLDER]]\n");
        return 2;
    }
    if (argc > 4 && jget_load(argv[4], strlen(argv[4]), 65536, &params, &err) != 0) {
        fprintf(stderr, "jailrun: parameters: %s\n", err.msg);
        return 2;
    }
    if (jail_start(argv[1], &limits, &jail, &err) != 0) {
        fprintf(stderr, "jailrun: %s\n", err.msg);
        return 2;
    }
    struct jail_request request = {.op = argv[2], .params = params, .aux_fd = -1};

    for (uint64_t i = env_number("JAILRUN_REPEAT", 1); i > 0; i--) {
        rc = run_once(jail, &request, argv[3], argc > 5 ? argv[5] : NULL, &err);
    }
    return rc == 0 ? 0 : 1;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the text parsers in this very process, without a jail: for sanitizers, fuzzing by files and
 * for looking at what comes out. Never part of a service.
 *   textplain [-q] FILE...     -q: one line per file
 */
#include "services/text-extractor/format.h"

#include <errno.h>
#include <fcntl.h>
#include <gmime/gmime.h>
#include <libxml/parser.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int show(int fd, bool quiet, struct err *err)
{
    CLEANUP(frames_cleanup) struct frames *frames = NULL;
    struct frame frame;
    int rc;

    if (frames_open(fd, 64U << 20, &frames, err)) {
        return -1;
    }
    while ((rc = frames_next(frames, &frame, err)) == 1) {
        char *meta = json_dumps(frame.meta, JSON_COMPACT);

        if (!quiet) {
            printf("== %s %s\n", frame.type, meta);
            (void)fwrite(frame.payload, 1, frame.len, stdout);
            printf("%s", frame.len > 0 ? "\n" : "");
        }
        free(meta);
    }
    return rc;
}

static int run(const char *path, bool quiet, struct err *err)
{
    CLEANUP(fd_cleanup) int fd = open(path, O_RDONLY | O_CLOEXEC);
    CLEANUP(fd_cleanup) int sink = memfd_create("text", MFD_CLOEXEC);
    struct text_input in = {.fd = -1, .name = path};
    struct frame_writer writer;
    struct text_out out;
    struct stat st;
    struct err why = ERR_INIT;
    void *map = NULL;

    if (fd < 0 || sink < 0 || fstat(fd, &st)) {
        return err_from_errno(err, errno, "%s", path);
    }
    /* A private heap copy of the exact size, so that a sanitizer sees a step beyond it. */
    in.len = (size_t)st.st_size;
    map = malloc(in.len + 1);
    if (!map || read(fd, map, in.len) != (ssize_t)in.len) {
        free(map);
        return err_from_errno(err, EIO, "%s", path);
    }
    in.data = realloc(map, in.len > 0 ? in.len : 1);
    frame_writer_init(&writer, sink);
    text_out_init(&out, &writer, 0);
    int rc = text_extract(&in, &out, &why);
    text_out_done(&out);
    free((void *)(uintptr_t)in.data);
    if (rc && frame_write_error(&writer, &why, err)) {
        return -1;
    }
    return show(sink, quiet, err);
}

int main(int argc, char **argv)
{
    bool quiet = argc > 1 && !strcmp(argv[1], "-q");
    struct err err = ERR_INIT;
    int failed = 0;

    g_mime_init();
    xmlInitParser();
    if (format_pdf_warm(&err)) {
        fprintf(stderr, "%s\n", err.msg);
        return 2;
    }
    for (int i = quiet ? 2 : 1; i < argc; i++) {
        err = ERR_INIT;
        if (run(argv[i], quiet, &err)) {
            failed++;
        }
        if (quiet || err.class != ERR_NONE) {
            printf("%s\t%s %s: %s\n", argv[i], err_class_name(err.class), err.code, err.msg);
        }
        (void)fflush(stdout);
    }
    return failed ? 1 : 0;
}

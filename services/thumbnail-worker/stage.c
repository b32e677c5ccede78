/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One unit is one file: a picture itself, or page 1 of a document's preview.
 */
#include "services/thumbnail-worker/stage.h"

#include <stdio.h>
#include <string.h>

#include "libcommon/filetype.h"
#include "libcommon/jget.h"

#define PAGE_MAX_BYTES (64ULL << 20)

/* Page 1 of the preview. */
static int page_input(struct job *job, int *ret_fd, struct err *err)
{
    int r = job_artifact(job, "page", 1, PAGE_MAX_BYTES, ret_fd, err);

    return r == 0 ? err_set(err, ERR_PERMANENT, "no_preview", "there is no first page to picture")
                  : (r < 0 ? -1 : 0);
}

static int put_thumb(struct job *job, const struct frame *frame, struct err *err)
{
    int64_t size, width, height;
    const char *key;
    char name[32];

    if (jget_int(frame->meta, "size", 1, 4096, &size, err) < 0 ||
        jget_int(frame->meta, "width", 1, 4096, &width, err) < 0 ||
        jget_int(frame->meta, "height", 1, 4096, &height, err) < 0) {
        return -1;
    }
    snprintf(name, sizeof(name), "thumb-%lld.webp", (long long)size);
    if (job_put(job, name, frame->payload, frame->len, "image/webp", &key, err) < 0) {
        return -1;
    }
    return outcome_artifact(
        job->out, "thumb", (int)size, key, frame->len, "image/webp",
        json_pack("{s:I, s:I}", "width", (json_int_t)width, "height", (json_int_t)height), err);
}

static int thumb_handle(struct job *job, struct err *err)
{
    enum file_kind kind = file_kind_parse(job->claim->kind);
    CLEANUP(json_cleanup) json_t *params = json_pack("{s:[i, i, i]}", "sizes", 64, 256, 512);
    CLEANUP(frames_cleanup) struct frames *frames = NULL;
    CLEANUP(fd_cleanup) int fd = -1;
    struct frame frame;
    int r;

    if (!params) {
        return err_nomem(err);
    }
    r = (filetype_of(kind)->tasks & FILE_TASK_THUMBNAIL) ? job_input(job, &fd, err)
                                                         : page_input(job, &fd, err);
    if (r < 0 || job_jail(job, job->ctx->jail, "thumb", params, fd, NULL, &frames, err) < 0) {
        return err->class == ERR_PERMANENT && strcmp(err->code, "unsupported_type") == 0
                   ? outcome_pipeline(job->out, PIPE_SKIPPED, err->code, err->msg, err)
                   : -1;
    }
    while ((r = frames_next(frames, &frame, err)) > 0) {
        if (strcmp(frame.type, "image") == 0 && put_thumb(job, &frame, err) < 0) {
            return -1;
        }
    }
    return r < 0 ? -1 : outcome_pipeline(job->out, PIPE_DONE, NULL, NULL, err);
}

const struct stage thumbnail_worker = {
    .id = STAGE_THUMBNAIL,
    .service = "thumbnail-worker",
    .zygote = "thumbnail-worker-zygote",
    .limits = {.as_bytes = 1ULL << 30, .cpu_s = 30, .wall_ms = 90000, .out_bytes = 64ULL << 20},
    .store_required = true,
    .handle = thumb_handle,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unit 0 converts office files to PDF, draws the first pages, starts the thumbnail and plans the
 * rest in ranges; the other units draw one range each. What cannot be drawn is skipped, not failed.
 */
#include "services/preview-worker/stage.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "libcommon/filetype.h"
#include "libcommon/jget.h"
#include "services/preview-worker/options.h"

#define RANGE 10
#define PDF_MAX (256ULL << 20)

/* What a unit draws. */
struct drawing {
    int fd;           /* the input of the renderer */
    const char *kind; /* as the renderer is told */
    int first, last;
    int total; /* pages of the document, told by the renderer */
    int drawn;
    bool first_page; /* page 1 was drawn */
};

static bool is_office(enum file_kind kind)
{
    return kind == FILE_DOCX || kind == FILE_XLSX || kind == FILE_PPTX || kind == FILE_ODT ||
           kind == FILE_ODS || kind == FILE_ODP || kind == FILE_RTF || kind == FILE_OLE2 ||
           kind == FILE_ZIP;
}

static int put_image(struct job *job, struct drawing *drawing, const struct frame *frame,
                     struct err *err)
{
    int64_t page, width, height;
    const char *key;
    char name[40];

    if (jget_int(frame->meta, "page", 1, 5000, &page, err) < 0 ||
        jget_int(frame->meta, "width", 1, 100000, &width, err) < 0 ||
        jget_int(frame->meta, "height", 1, 100000, &height, err) < 0) {
        return -1;
    }
    snprintf(name, sizeof(name), "page-%lld.webp", (long long)page);
    if (job_put(job, name, frame->payload, frame->len, "image/webp", &key, err) < 0) {
        return -1;
    }
    drawing->drawn++;
    drawing->first_page = drawing->first_page || page == 1;
    return outcome_artifact(
        job->out, "page", (int)page, key, frame->len, "image/webp",
        json_pack("{s:I, s:I}", "width", (json_int_t)width, "height", (json_int_t)height), err);
}

static int put_words(struct job *job, const struct frame *frame, struct err *err)
{
    int64_t page;
    const char *key;
    char name[40];

    if (jget_int(frame->meta, "page", 1, 5000, &page, err) < 0) {
        return -1;
    }
    snprintf(name, sizeof(name), "words-%lld.json", (long long)page);
    if (job_put(job, name, frame->payload, frame->len, "application/json", &key, err) < 0) {
        return -1;
    }
    return outcome_artifact(job->out, "words", (int)page, key, frame->len, "application/json", NULL,
                            err);
}

static int draw(struct job *job, struct drawing *drawing, struct err *err)
{
    CLEANUP(json_cleanup) json_t *params = NULL;
    CLEANUP(frames_cleanup) struct frames *frames = NULL;
    struct frame frame;
    int64_t total = 0;
    int r;

    params = json_pack("{s:s, s:s, s:i, s:i}", "kind", drawing->kind, "name", job->claim->name,
                       "first", drawing->first, "last", drawing->last);
    if (!params) {
        return err_nomem(err);
    }
    if (job_jail(job, job->ctx->jail, "render", params, drawing->fd, NULL, &frames, err) < 0) {
        return -1;
    }
    while ((r = frames_next(frames, &frame, err)) > 0) {
        if (strcmp(frame.type, "image") == 0) {
            r = put_image(job, drawing, &frame, err);
        } else if (strcmp(frame.type, "words") == 0) {
            r = put_words(job, &frame, err);
        } else if (strcmp(frame.type, "end") == 0) {
            r = jget_opt_int(frame.meta, "pages", 0, 100000, drawing->drawn, &total, err);
        }
        if (r < 0) {
            return -1;
        }
    }
    drawing->total = (int)total;
    outcome_set_cost(job->out, drawing->drawn);
    return r;
}

/* Converts in the office jail; stores the PDF and gives it as a descriptor. */
static int convert(struct job *job, int input_fd, int *ret_fd, struct err *err)
{
    CLEANUP(json_cleanup) json_t *params = NULL;
    CLEANUP(frames_cleanup) struct frames *frames = NULL;
    CLEANUP(fd_cleanup) int fd = -1;
    struct frame frame;
    const char *key;
    int r;

    params = json_pack("{s:s, s:s}", "kind", job->claim->kind, "name", job->claim->name);
    if (!params) {
        return err_nomem(err);
    }
    if (job_jail(job, job->ctx->jail2, "convert", params, input_fd, NULL, &frames, err) < 0) {
        return -1;
    }
    while ((r = frames_next(frames, &frame, err)) > 0) {
        if (strcmp(frame.type, "pdf") != 0 || fd >= 0) {
            continue;
        }
        fd = memfd_create("pdf", MFD_CLOEXEC);
        if (fd < 0 || write(fd, frame.payload, frame.len) != (ssize_t)frame.len ||
            lseek(fd, 0, SEEK_SET) < 0) {
            return err_set(err, ERR_TRANSIENT, "io", "no room for the converted file");
        }
        if (job_put(job, "document.pdf", frame.payload, frame.len, "application/pdf", &key, err) <
                0 ||
            outcome_artifact(job->out, "pdf", 0, key, frame.len, "application/pdf", NULL, err) <
                0) {
            return -1;
        }
    }
    if (r < 0) {
        return -1;
    }
    if (fd < 0) {
        return err_set(err, ERR_UNKNOWN, "child_crashed", "the converter gave no document");
    }
    *ret_fd = fd;
    fd = -1;
    return 0;
}

static int skip(struct job *job, const struct err *why, struct err *err)
{
    outcome_no_thumbnail(job->out);
    return outcome_pipeline(job->out, PIPE_SKIPPED, why->code, why->msg, err);
}

/* An old office file that cannot be converted has no text either: that is a failure of its main
 * pipeline, so the unit ends dead instead of skipped. */
static bool is_skip(const struct err *err, enum file_kind kind)
{
    return err->class == ERR_PERMANENT && strcmp(err->code, "unsupported_type") == 0 &&
           kind != FILE_OLE2;
}

static int plan_rest(struct job *job, const struct drawing *drawing, struct err *err)
{
    int total = drawing->total > (int)preview_options.max_pages ? (int)preview_options.max_pages
                                                                : drawing->total;
    int unit = 1;

    for (int first = RANGE + 1; first <= total; first += RANGE, unit++) {
        int last = first + RANGE - 1 < total ? first + RANGE - 1 : total;
        if (outcome_unit(job->out, unit, last - first + 1,
                         json_pack("{s:i, s:i}", "first", first, "last", last), err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int first_unit(struct job *job, struct err *err)
{
    enum file_kind kind = file_kind_parse(job->claim->kind);
    CLEANUP(fd_cleanup) int input = -1;
    CLEANUP(fd_cleanup) int pdf = -1;
    struct drawing drawing = {.fd = -1, .kind = job->claim->kind, .first = 1, .last = RANGE};

    if (job_input(job, &input, err) < 0) {
        return -1;
    }
    drawing.fd = input;
    if (is_office(kind)) {
        if (convert(job, input, &pdf, err) < 0) {
            return is_skip(err, kind) ? skip(job, err, err) : -1;
        }
        drawing.fd = pdf;
        drawing.kind = "pdf";
        if (kind == FILE_OLE2 && outcome_spawn(job->out, STAGE_TEXT, 0, 1, NULL, err) < 0) {
            return -1;
        }
    }
    if (draw(job, &drawing, err) < 0) {
        return is_skip(err, kind) ? skip(job, err, err) : -1;
    }
    if (!(filetype_of(kind)->tasks & FILE_TASK_THUMBNAIL)) {
        if (!drawing.first_page) {
            outcome_no_thumbnail(job->out);
        } else if (outcome_spawn(job->out, STAGE_THUMBNAIL, 0, 1, NULL, err) < 0) {
            return -1;
        }
    }
    if (plan_rest(job, &drawing, err) < 0 ||
        outcome_detail(job->out, "pages", json_integer(drawing.total), err) < 0) {
        return -1;
    }
    return outcome_pipeline(job->out, PIPE_DONE, NULL, NULL, err);
}

static int range_input(struct job *job, enum file_kind kind, int *ret_fd, struct err *err)
{
    if (!is_office(kind)) {
        return job_input(job, ret_fd, err);
    }
    int r = job_artifact(job, "pdf", 0, PDF_MAX, ret_fd, err);
    return r == 0 ? err_set(err, ERR_PERMANENT, "input_gone", "the converted document is gone")
                  : (r < 0 ? -1 : 0);
}

static int range_unit(struct job *job, struct err *err)
{
    enum file_kind kind = file_kind_parse(job->claim->kind);
    CLEANUP(fd_cleanup) int fd = -1;
    struct drawing drawing = {.kind = is_office(kind) ? "pdf" : job->claim->kind};
    int64_t first, last;

    if (jget_int(job->claim->input, "first", 1, 5000, &first, err) < 0 ||
        jget_int(job->claim->input, "last", first, 5000, &last, err) < 0 ||
        range_input(job, kind, &fd, err) < 0) {
        return -1;
    }
    drawing.fd = fd;
    drawing.first = (int)first;
    drawing.last = (int)last;
    if (draw(job, &drawing, err) < 0) {
        return -1;
    }
    return outcome_pipeline(job->out, PIPE_DONE, NULL, NULL, err);
}

static int preview_handle(struct job *job, struct err *err)
{
    return job->claim->key.unit == 0 ? first_unit(job, err) : range_unit(job, err);
}

const struct stage preview_worker = {
    .id = STAGE_PREVIEW,
    .service = "preview-worker",
    .options = preview_option_defs,
    .n_options = 1,
    .options_target = &preview_options,
    .zygote = "preview-worker-zygote",
    .limits = {.as_bytes = 1ULL << 30, .cpu_s = 60, .wall_ms = 180000, .out_bytes = 64ULL << 20},
    .zygote2 = "office-zygote",
    .limits2 = {.as_bytes = 2ULL << 30, .cpu_s = 20, .wall_ms = 20000, .out_bytes = 64ULL << 20},
    .store_required = true,
    .handle = preview_handle,
};

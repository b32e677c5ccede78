/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One unit is one file. Pictures go straight to ocr; everything else is read in the jail, and what
 * has pages without usable text goes on to ocr, the rest to ai.
 */
#include "services/text-extractor/stage.h"

#include <stdio.h>
#include <string.h>

#include "libcommon/filetype.h"
#include "libcommon/jget.h"
#include "libcommon/pages.h"
#include "libcommon/quota.h"

#define PARTS_MAX 1000U
#define PDF_MAX (1ULL << 30)

/* Old office files have their text from the PDF that the preview's conversion left behind. */
static int fetch_input(struct job *job, enum file_kind kind, int *ret_fd, struct err *err)
{
    if (kind != FILE_OLE2) {
        return job_input(job, ret_fd, err);
    }
    int r = job_artifact(job, "pdf", 0, PDF_MAX, ret_fd, err);
    return r == 0 ? err_set(err, ERR_PERMANENT, "unsupported_type",
                            "this file could not be converted, so there is no text to read")
                  : (r < 0 ? -1 : 0);
}

static int add_part(json_t *parts, const struct frame *frame, struct err *err)
{
    if (json_array_size(parts) >= PARTS_MAX) {
        return 0;
    }
    json_t *part = json_copy(frame->meta);
    if (!part || json_array_append_new(parts, part) < 0) {
        return err_nomem(err);
    }
    json_object_del(part, "type");
    return 0;
}

static int store_parts(struct job *job, const json_t *parts, struct err *err)
{
    CLEANUP(free_cleanup) char *text = json_dumps(parts, JSON_COMPACT);
    const char *key;

    if (!text) {
        return err_nomem(err);
    }
    if (job_put(job, "parts", text, strlen(text), "application/json", &key, err) < 0) {
        return -1;
    }
    return outcome_artifact(job->out, "parts", 0, key, strlen(text), "application/json",
                            json_pack("{s:i}", "count", (int)json_array_size(parts)), err);
}

static int read_frames(struct frames *frames, struct page_sink *sink, json_t *parts,
                       struct err *err)
{
    struct frame frame;
    int r;

    while ((r = frames_next(frames, &frame, err)) > 0) {
        bool taken;
        if (page_sink_frame(sink, &frame, &taken, err) < 0) {
            return -1;
        }
        if (!taken && strcmp(frame.type, "part") == 0 && add_part(parts, &frame, err) < 0) {
            return -1;
        }
    }
    return r;
}

/* Before anything of them is kept, or read by a stage that costs more. */
static int charge(const struct job *job, size_t pages, struct err *err)
{
    return quota_charge_pages(job->ctx->service->db, job->claim->user_id, job->claim->key.file_id,
                              job->claim->key.generation, (int)pages, err);
}

static int finish(struct job *job, struct page_sink *sink, struct err *err)
{
    size_t ocr = page_sink_need_ocr(sink);

    outcome_set_cost(job->out, (int)page_sink_count(sink));
    if (charge(job, page_sink_count(sink), err) < 0 || page_sink_store(sink, job, err) < 0 ||
        outcome_detail(job->out, "pages", json_integer((json_int_t)page_sink_count(sink)), err) <
            0 ||
        outcome_detail(job->out, "chars", json_integer((json_int_t)page_sink_chars(sink)), err) <
            0) {
        return -1;
    }
    if (ocr > 0) {
        return outcome_next(job->out, STAGE_OCR, 0, (int)ocr, NULL, err);
    }
    return outcome_next(job->out, STAGE_AI, 0, (int)page_sink_count(sink), NULL, err);
}

static int text_handle(struct job *job, struct err *err)
{
    enum file_kind kind = file_kind_parse(job->claim->kind);
    CLEANUP(page_sink_cleanup) struct page_sink *sink = NULL;
    CLEANUP(json_cleanup) json_t *params = NULL;
    CLEANUP(json_cleanup) json_t *parts = json_array();
    CLEANUP(frames_cleanup) struct frames *frames = NULL;
    CLEANUP(fd_cleanup) int fd = -1;

    if (filetype_of(kind)->raster) {
        return charge(job, 1, err) < 0 ? -1 : outcome_next(job->out, STAGE_OCR, 0, 1, NULL, err);
    }
    params = json_pack("{s:s, s:s, s:i}", "kind", kind == FILE_OLE2 ? "pdf" : job->claim->kind,
                       "name", job->claim->name, "maxPages", (int)DOCTEXT_PAGES_MAX);
    if (!params || !parts) {
        return err_nomem(err);
    }
    if (page_sink_new(&sink, err) < 0 || fetch_input(job, kind, &fd, err) < 0 ||
        job_jail(job, job->ctx->jail, "text", params, fd, NULL, &frames, err) < 0 ||
        read_frames(frames, sink, parts, err) < 0) {
        return -1;
    }
    if (json_array_size(parts) > 0 && store_parts(job, parts, err) < 0) {
        return -1;
    }
    return finish(job, sink, err);
}

const struct stage text_extractor = {
    .id = STAGE_TEXT,
    .service = "text-extractor",
    .zygote = "text-extractor-zygote",
    .limits = {.as_bytes = 512ULL << 20, .cpu_s = 30, .wall_ms = 90000, .out_bytes = 64ULL << 20},
    .store_required = true,
    .handle = text_handle,
};

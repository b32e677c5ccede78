/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One unit is one file: its bytes go to the scanner as they are. Nothing of docfleet looks into
 * them here.
 */
#include "services/scan-worker/stage.h"

#include <stdio.h>
#include <string.h>

#include "libcommon/filetype.h"
#include "services/scan-worker/clamd.h"
#include "services/scan-worker/options.h"

#define CONNECT_MS 10000U

/* The tasks that the gateway would have inserted. */
static int let_through(struct job *job, int cost, struct err *err)
{
    unsigned first = filetype_of(file_kind_parse(job->claim->kind))->tasks;

    for (int s = 1; s <= STAGE_MAX; s++) {
        if ((first >> s & 1U) && outcome_next(job->out, s, 0, cost, NULL, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int too_large(struct job *job, int cost, struct err *err)
{
    if (strcmp(scan_options.too_large, "pass") != 0) {
        return err_set(err, ERR_PERMANENT, "scan_too_large",
                       "%lld bytes are more than the virus scanner takes",
                       (long long)job->claim->bytes);
    }
    if (outcome_detail(job->out, "scan", json_string("too_large"), err) < 0) {
        return -1;
    }
    return let_through(job, cost, err);
}

static int scan_handle(struct job *job, struct err *err)
{
    const struct clamd clamd = {.address = scan_options.clamd,
                                .timeout_ms = (unsigned)scan_options.timeout_ms,
                                .connect_ms = CONNECT_MS};
    CLEANUP(fd_cleanup) int fd = -1;
    enum clamd_verdict verdict;
    char name[CLAMD_NAME_MAX], why[CLAMD_NAME_MAX + 32];
    int64_t mib = job->claim->bytes >> 20;
    int cost = mib < 1 ? 1 : (mib > 100 ? 100 : (int)mib);

    if (job_input(job, &fd, err) < 0 || job_enter(job, GUARD_SCANNER, err) < 0) {
        return -1;
    }
    int r = clamd_scan(&clamd, fd, &job->cancel, &verdict, name, err);
    job_leave(job, GUARD_SCANNER, r, err);
    if (r < 0) {
        return -1;
    }
    outcome_set_cost(job->out, cost);
    if (verdict == CLAMD_TOO_LARGE) {
        return too_large(job, cost, err);
    }
    if (verdict == CLAMD_CLEAN) {
        return let_through(job, cost, err);
    }
    snprintf(why, sizeof(why), "the virus scanner found %s", name);
    if (outcome_detail(job->out, "signature", json_string(name), err) < 0) {
        return -1;
    }
    return outcome_pipeline(job->out, PIPE_FAILED, "infected", why, err);
}

static int scan_setup(struct stage_ctx *ctx, struct err *err)
{
    if (!*scan_options.clamd) {
        return err_set(err, ERR_FATAL, "invalid_config",
                       "DOCFLEET_CLAMD is needed: host:port or unix:/path of ClamAV's daemon");
    }
    if (clamd_check_address(scan_options.clamd, err) < 0) {
        return -1;
    }
    guard_use(ctx->guard, GUARD_SCANNER, GUARD_BY_UNIT);
    return 0;
}

const struct stage scan_worker = {
    .id = STAGE_SCAN,
    .service = "scan-worker",
    .options = scan_option_defs,
    .n_options = SCAN_OPTIONS,
    .options_target = &scan_options,
    .store_required = true,
    .setup = scan_setup,
    .handle = scan_handle,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of docfleetctl upload share: one batch, its body, and the run over all of them.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "services/docfleetctl/client.h"
#include "services/docfleetctl/client_walk.h"
#include "services/docfleetctl/strtab.h"
#include "services/docfleetctl/upload_journal.h"

#define BATCH_FILES 200U
#define BATCH_BYTES (64ULL * 1024 * 1024)
#define PARALLEL_MAX 16
#define PARALLEL 3

/* One request. */
struct batch {
    char key[UUID_TEXT]; /* the Idempotency-Key */
    struct walk_file *files[BATCH_FILES];
    char sha256[BATCH_FILES][SHA256_HEX_SIZE];
    size_t n;
    bool resumed; /* an earlier run may have sent it */
    bool planned; /* it is in the journal */
};

/* A multipart body: the parts' heads are made before, so that its length is known. */
struct body {
    const struct batch *batch;
    char *manifest;
    char *heads[BATCH_FILES];
    size_t head_lens[BATCH_FILES];
    char boundary[64];
    char tail[80];
    uint64_t length;
    /* where the reader is */
    size_t at;        /* file; n: the tail */
    size_t head_done; /* bytes of the head (or tail) given out */
    uint64_t file_done;
    int fd;
    atomic_ullong *sent; /* bytes of all workers, for the progress line; taken back by a rewind */
    uint64_t mine;
};

/* The batch must stay. Equal batches have equal bodies but for the boundary, so that the gateway
 * knows them by their key again. */
int body_init(struct body *body, const struct batch *batch, atomic_ullong *sent,
              struct err *err) WARN_UNUSED;
void body_done(struct body *body);
/* Before each try. */
void body_rewind(struct body *body);
/* http_source_fn. "changed" or "unreadable": files[body->at] is the culprit. */
ssize_t body_read(void *ctx, char *data, size_t size, struct err *err);

struct upload {
    const struct ctl *ctl;
    struct api api;
    struct buf url;
    const char *dataset;
    struct walk walk;
    struct journal *journal;
    struct strtab by_path; /* the walk's files by their absolute paths */
    struct strtab known;   /* "sha256/name" of what the dataset has, when it was asked for */
    bool known_loaded, skip_known, json, quiet, terminal;

    pthread_mutex_t lock; /* all below, the journal, stdout and stderr */
    pthread_cond_t ended; /* a worker has */
    int workers;
    size_t next_plan, next; /* where the search for work goes on */
    size_t batches, accepted, rejected, failed, before;
    struct err fatal; /* ends the run */
    uint64_t started_ms, shown_ms;
    atomic_ullong sent;
};

/* Sends all there is to send with `parallel` threads. */
int upload_run(struct upload *u, int parallel, struct err *err) WARN_UNUSED;
/* The next batch from plans without an end, then from the walk; n 0: nothing is left. Under the
 * lock. */
int upload_next(struct upload *u, struct batch *batch, struct err *err) WARN_UNUSED;
/* Takes note of what the journal says was accepted and has not changed. */
int upload_skip_accepted(struct upload *u, struct err *err) WARN_UNUSED;
/* Asks once what the dataset has, by name and contents. */
int upload_load_known(struct upload *u, struct err *err) WARN_UNUSED;
bool upload_is_known(const struct upload *u, const char *name, const char *sha256);
/* The digest of a file as it is now, "unreadable" or "changed" otherwise. */
int upload_digest(const struct walk_file *file, char ret_hex[SHA256_HEX_SIZE],
                  struct err *err) WARN_UNUSED;

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to jail.c (the zygote's life) and jail_run.c (one unit).
 */
#pragma once

#include "libcommon/jail.h"
#include "libcommon/jail_proto.h"

#include <pthread.h>
#include <sys/types.h>

struct jail {
    char *path;
    struct jail_limits defaults;
    pthread_mutex_t lock;   /* guards everything below */
    pthread_mutex_t serial; /* held during a run when units cannot be kept apart */
    pid_t pid;              /* of the zygote; 0: none */
    int sock;               /* orders; -1: none */
    uint64_t generation;    /* counts zygotes */
    uint64_t failed_at_ms;  /* of the last restart that failed */
    atomic_int shown_pid;
    atomic_uint missing; /* enum jail_wall */
};

/* Sets the zero members of limits. */
void jail_fill_limits(struct jail_limits *limits, const struct jail_limits *from);
/* Hands the order to a living zygote; one that died or hangs is replaced, once. The caller keeps
 * the descriptors. */
int jail_deliver(struct jail *jail, const struct jail_order *order, const char *params,
                 const int *fds, size_t n_fds, uint64_t *ret_generation,
                 struct err *err) WARN_UNUSED;
/* Replaces the zygote that `generation` knew, unless somebody did already. */
int jail_replace_zygote(struct jail *jail, uint64_t generation, struct err *err) WARN_UNUSED;

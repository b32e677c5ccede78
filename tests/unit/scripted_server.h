/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server for unit tests that does what a list of steps says, one step a request: answers, falls
 * silent, cuts. One connection at a time; not thread-safe; one at once in a process.
 */
#pragma once

#include "libcommon/base.h"

#include <stdatomic.h>

#define SCRIPTED_REQUEST_MAX (9 << 20) /* a part of an upload fits */

/* One request the server saw, and what it does with it. */
struct step {
    const char *answer;  /* sent as it is; NULL: nothing */
    bool reset;          /* the connection is reset, after the answer if there is one */
    bool close;          /* the connection is closed after the answer */
    unsigned silence_ms; /* before the answer */
};

struct scripted_server {
    int listener;
    const struct step *steps;
    int n_steps;
    atomic_int requests;
    atomic_int connections;
    char in[SCRIPTED_REQUEST_MAX]; /* what is being read */
    size_t in_len;
    char last[SCRIPTED_REQUEST_MAX]; /* head and body of the last whole request */
};

extern struct scripted_server server;

/* Starts on a free port; returns it. steps stay the caller's. */
int server_start(const struct step *steps, int n_steps);
/* Clients must have closed their connections. */
void server_stop(void);

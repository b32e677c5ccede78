/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to jail.c and zygote.c: the messages between a service and its zygote, which are always
 * built together. One SEQPACKET socket carries the orders; every order brings a socket of its own,
 * on which only the events of that unit come back, so nobody has to sort answers.
 * Invariant: an order carries 2 to 4 descriptors, in the order of enum jail_order_fd.
 */
#pragma once

#include "libcommon/base.h"

#define JAIL_MAGIC 0x3146434aU
#define JAIL_CONTROL_FD 3
#define JAIL_CONTROL_ARG "--jail"
#define JAIL_PARAMS_MAX (32U * 1024U)
#define JAIL_UNITS_MAX 128U /* at a time, per zygote */
#define JAIL_OP_MAX 48U
#define JAIL_TEXT_MAX 200U

/* Exit codes of a child. */
#define JAIL_EXIT_OK 0
#define JAIL_EXIT_ERROR 1   /* the last frame is an error frame */
#define JAIL_EXIT_MEMORY 77 /* died because an allocation failed */
#define JAIL_EXIT_CAGE 78   /* the cage did not close; no byte of the input was read */

/* A child that is killed for a forbidden syscall leaves this behind the stream, then its number. */
#define JAIL_SIGSYS_MARK "SIGSYS:"

enum jail_wall {
    JAIL_NO_LANDLOCK = 1U << 0,
    JAIL_NO_NAMESPACE = 1U << 1, /* office units share a TMPDIR: one at a time */
    JAIL_NO_FILTER = 1U << 2,    /* sanitizer build: neither seccomp nor a memory limit */
};

/* Zygote to service, once, when it can take orders (or cannot: ok is 0, text says why). */
struct jail_hello {
    uint32_t magic;
    uint32_t ok;
    uint32_t missing; /* enum jail_wall */
    uint32_t landlock_abi;
    char text[JAIL_TEXT_MAX];
};

enum jail_order_fd { JAIL_FD_EVENTS, JAIL_FD_OUTPUT, JAIL_FD_INPUT, JAIL_FD_AUX, JAIL_FD_COUNT };

/* Service to zygote; params_len bytes of JSON follow. */
struct jail_order {
    uint32_t magic;
    uint32_t has_input;
    uint32_t has_aux;
    uint32_t cpu_s;
    uint64_t as_bytes;
    uint64_t out_bytes;
    uint32_t params_len;
    char op[JAIL_OP_MAX];
};

enum jail_event_kind {
    JAIL_STARTED = 1, /* pid; a pidfd comes along */
    JAIL_ENDED,       /* status, cpu_us, max_rss */
    JAIL_REFUSED,     /* errnum (0: the order was wrong) and text */
};

/* Zygote to the unit's socket. */
struct jail_event {
    uint32_t kind;
    int32_t pid;
    int32_t status; /* of wait4 */
    int32_t errnum;
    uint64_t cpu_us;
    uint64_t max_rss; /* bytes */
    char text[JAIL_TEXT_MAX];
};

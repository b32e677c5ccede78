/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the worker frame share: stage.c (threads), unit_io.c (the core's table),
 * stage_io.c (help for handlers). Nobody else includes it.
 */
#pragma once

#include "libcommon/bus.h"
#include "libcommon/stage.h"
#include "libcommon/unit_core.h"

struct worker {
    const struct stage *stage;
    struct service service;
    struct db *keeper_db; /* of the keeper alone: two connections, short statements */
    struct guard guard;
    struct stage_ctx ctx;
    struct unit_io io;
    struct unit_core core;
    struct bus_consumer *consumer;
    atomic_bool kafka_dead; /* the client gave up: the process exits */
};

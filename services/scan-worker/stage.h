/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scan stage: the first task of every file where a virus scanner is set up. Its end either
 * inserts the file's real first tasks or quarantines it; until then no other stage sees the file.
 */
#pragma once

#include "libcommon/stage.h"

extern const struct stage scan_worker;

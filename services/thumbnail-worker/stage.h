/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stage of thumbnail-worker for the worker frame.
 */
#pragma once

#include "libcommon/stage.h"

extern const struct stage thumbnail_worker;

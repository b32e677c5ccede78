/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stage of ai-extractor for the worker frame.
 */
#pragma once

#include "libcommon/stage.h"

extern const struct stage ai_extractor;

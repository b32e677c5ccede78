/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stage `text` for the worker frame.
 */
#pragma once

#include "libcommon/stage.h"

extern const struct stage text_extractor;

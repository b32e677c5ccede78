/* SPDX-License-Identifier: Apache-2.0 */
/*
 * preview-worker: page images and a text layer of every kind of document.
 */
#include "services/preview-worker/stage.h"

int main(int argc, char **argv)
{
    return stage_main(argc, argv, &preview_worker);
}

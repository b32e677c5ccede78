/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scan-worker: every file is shown to a virus scanner before anything else reads it.
 */
#include "services/scan-worker/stage.h"

int main(int argc, char **argv)
{
    return stage_main(argc, argv, &scan_worker);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thumbnail-worker: three small pictures of everything that has one.
 */
#include "services/thumbnail-worker/stage.h"

int main(int argc, char **argv)
{
    return stage_main(argc, argv, &thumbnail_worker);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleaner: takes away what nobody refers to any more.
 */
#include "services/cleaner/stage.h"

int main(int argc, char **argv)
{
    return stage_main(argc, argv, &cleaner);
}

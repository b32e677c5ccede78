/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ai-extractor: one typed record per file, every value found in its text.
 */
#include "services/ai-extractor/stage.h"

int main(int argc, char **argv)
{
    return stage_main(argc, argv, &ai_extractor);
}

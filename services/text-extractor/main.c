/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text-extractor: native text of documents, page by page, and which pages need OCR.
 */
#include "services/text-extractor/stage.h"

int main(int argc, char **argv)
{
    return stage_main(argc, argv, &text_extractor);
}

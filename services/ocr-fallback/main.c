/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ocr-fallback: reads pictures and the pages of PDFs that carry no usable text.
 */
#include "services/ocr-fallback/stage.h"

int main(int argc, char **argv)
{
    return stage_main(argc, argv, &ocr_fallback);
}

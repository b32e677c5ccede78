/* SPDX-License-Identifier: Apache-2.0 */
/* The text parsers, on inputs made inline; one program, as all of them link the same libraries. */
/* PKGS: poppler-glib cairo libarchive libxml-2.0 gmime-3.0 icu-i18n icu-uc zlib */
/* SRCS: formats_help.c formats_pdf.c formats_plain.c formats_markup.c formats_mail.c */
/* SRCS: formats_office.c */
/* SRCS: services/text-extractor/format_docx.c services/text-extractor/format_epub.c */
/* SRCS: services/text-extractor/format_html.c services/text-extractor/format_mail.c */
/* SRCS: services/text-extractor/format_misc.c services/text-extractor/format_odf.c */
/* SRCS: services/text-extractor/format_package.c services/text-extractor/format_pdf.c */
/* SRCS: services/text-extractor/format_plain.c services/text-extractor/format_pptx.c */
/* SRCS: services/text-extractor/format_rtf.c services/text-extractor/format_xlsx.c */
/* SRCS: services/text-extractor/text_charset.c services/text-extractor/text_extract.c */
/* SRCS: services/text-extractor/text_flow.c services/text-extractor/text_header.c */
/* SRCS: services/text-extractor/text_numfmt.c services/text-extractor/text_out.c */
/* SRCS: services/text-extractor/text_package.c services/text-extractor/text_pdf.c */
/* SRCS: services/text-extractor/text_utf8.c services/text-extractor/text_xml.c */
#include "tests/unit/formats_help.h"

#include <gmime/gmime.h>
#include <libxml/parser.h>

int main(void)
{
    int failed = 0;

    g_mime_init();
    xmlInitParser();
    failed += formats_pdf_tests();
    failed += formats_plain_tests();
    failed += formats_markup_tests();
    failed += formats_mail_tests();
    failed += formats_office_tests();
    return failed;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three small documents of our own for warming LibreOffice up: they load the writer, the sheet
 * and the slide modules, tables, styles, drawing and PDF export, before anything is forked.
 */
#include "services/preview-worker/office.h"

#define HEAD(mime)                                                                                 \
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"                                                   \
    "<office:document xmlns:office=\"urn:oasis:names:tc:opendocument:xmlns:office:1.0\" "          \
    "xmlns:style=\"urn:oasis:names:tc:opendocument:xmlns:style:1.0\" "                             \
    "xmlns:text=\"urn:oasis:names:tc:opendocument:xmlns:text:1.0\" "                               \
    "xmlns:table=\"urn:oasis:names:tc:opendocument:xmlns:table:1.0\" "                             \
    "xmlns:draw=\"urn:oasis:names:tc:opendocument:xmlns:drawing:1.0\" "                            \
    "xmlns:fo=\"urn:oasis:names:tc:opendocument:xmlns:xsl-fo-compatible:1.0\" "                    \
    "xmlns:svg=\"urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0\" "                      \
    "xmlns:presentation=\"urn:oasis:names:tc:opendocument:xmlns:presentation:1.0\" "               \
    "office:version=\"1.3\" office:mimetype=\"application/vnd.oasis.opendocument." mime "\">"

#define CELL(text)                                                                                 \
    "<table:table-cell office:value-type=\"string\"><text:p>" text "</text:p></table:table-cell>"

#define ROW(a, b) "<table:table-row>" CELL(a) CELL(b) "</table:table-row>"

const char *const office_samples[3] = {
    [OFFICE_TEXT] =
        HEAD("text") "<office:automatic-styles>"
                     "<style:style style:name=\"b\" style:family=\"text\">"
                     "<style:text-properties fo:font-weight=\"bold\"/></style:style>"
                     "</office:automatic-styles><office:body><office:text>"
                     "<text:h text:outline-level=\"1\">Preview</text:h>"
                     "<text:p>A line with <text:span text:style-name=\"b\">bold</text:"
                     "span> letters, \xc3\xa4\xc3\xb6\xc3\xbc.</text:p>"
                     "<text:list><text:list-item><text:p>one</text:p></text:list-item>"
                     "</text:list><table:table table:name=\"t\">"
                     "<table:table-column table:number-columns-repeated=\"2\"/>" ROW("a", "b")
                         ROW("c", "d") "</table:table></office:text>"
                                       "</office:body></office:document>",
    [OFFICE_SHEET] = HEAD(
        "spreadsheet") "<office:body><office:spreadsheet><table:table table:name=\"s\">"
                       "<table:table-column table:number-columns-repeated=\"2\"/>" ROW(
                           "Item",
                           "Amount") "<table:table-row>" CELL("Paper") "<table:table-cell "
                                                                       "table:formula=\"of:=6*7\" "
                                                                       "office:value-type="
                                                                       "\"float\" "
                                                                       "office:value=\"42\"><text:"
                                                                       "p>42</text:p></"
                                                                       "table:table-cell></"
                                                                       "table:table-row>"
                                                                       "</table:table></"
                                                                       "office:spreadsheet></"
                                                                       "office:body></"
                                                                       "office:document>",
    [OFFICE_SLIDES] =
        HEAD("presentation") "<office:body><office:presentation><draw:page draw:name=\"p\">"
                             "<draw:frame svg:x=\"2cm\" svg:y=\"2cm\" svg:width=\"10cm\" "
                             "svg:height=\"3cm\"><draw:text-box><text:p>Preview</text:p>"
                             "</draw:text-box></draw:frame><draw:rect svg:x=\"4cm\" svg:y=\"8cm\" "
                             "svg:width=\"6cm\" svg:height=\"2cm\"><text:p>box</text:p></draw:rect>"
                             "</draw:page></office:presentation></office:body></office:document>",
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a file to its parser: the kind is told from the content, the request's kind is not trusted.
 * Invariant: every unit ends in exactly one "end" frame, or in an error that names a code.
 */
#include "services/text-extractor/format.h"

#include <string.h>

struct format {
    enum file_kind kind;
    const char *method; /* how the text was got, for the result and the timeline */
    int (*read)(const struct text_input *in, struct text_out *out, struct err *err);
};

static const struct format formats[] = {
    {FILE_PDF, "pdf", format_pdf},          {FILE_TEXT, "text", format_plain},
    {FILE_CSV, "text", format_plain},       {FILE_TSV, "text", format_plain},
    {FILE_MD, "text", format_plain},        {FILE_JSON, "text", format_plain},
    {FILE_XML, "text", format_plain},       {FILE_HTML, "html", format_html},
    {FILE_SVG, "html", format_html},        {FILE_DOCX, "package", format_package},
    {FILE_XLSX, "package", format_package}, {FILE_PPTX, "package", format_package},
    {FILE_ODT, "package", format_package},  {FILE_ODS, "package", format_package},
    {FILE_ODP, "package", format_package},  {FILE_EPUB, "package", format_package},
    {FILE_ZIP, "package", format_package},  {FILE_OLE2, "ole2", format_ole2},
    {FILE_RTF, "rtf", format_rtf},          {FILE_EML, "mail", format_mail},
    {FILE_JPEG, "image", format_image},     {FILE_PNG, "image", format_image},
    {FILE_TIFF, "image", format_image},     {FILE_WEBP, "image", format_image},
    {FILE_GIF, "image", format_image},      {FILE_BMP, "image", format_image},
};

static int unsupported(const struct text_input *in, struct err *err)
{
    return err_set(err, ERR_PERMANENT, "unsupported_type",
                   "no text can be read from files of type %s", file_kind_name(in->kind));
}

int text_extract(const struct text_input *in, struct text_out *out, struct err *err)
{
    struct text_input input = *in;
    struct filetype type;

    if (in->len == 0) {
        return err_set(err, ERR_PERMANENT, "empty_file", "the file is empty");
    }
    filetype_detect(in->data, in->len, in->name, &type);
    input.kind = type.kind;
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (formats[i].kind != type.kind) {
            continue;
        }
        if (formats[i].read(&input, out, err)) {
            return -1;
        }
        if (text_finish(out, err)) {
            return -1;
        }
        return frame_write(out->frames, "end",
                           json_pack("{s:I,s:s,s:s}", "pages", (json_int_t)out->pages, "method",
                                     formats[i].method, "kind", out->kind ? out->kind : type.name),
                           NULL, 0, err);
    }
    return unsupported(&input, err);
}

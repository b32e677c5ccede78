/* SPDX-License-Identifier: Apache-2.0 */
/* Office packages made of the few parts that matter; number formats; bombs. */
#include "services/text-extractor/text_numfmt.h"
#include "tests/unit/formats_help.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define RELS_HEAD "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/r\">"
#define REL_TYPE "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"
#define REL(id, type, target)                                                                      \
    "<Relationship Id=\"" id "\" Type=\"" REL_TYPE type "\" Target=\"" target "\"/>"
#define ROOT_RELS(target)                                                                          \
    "_rels/.rels", RELS_HEAD REL("rId1", "officeDocument", target) "</Relationships>"
#define XMLNS_R " xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\""

static struct extracted *package(const char *const *members)
{
    size_t len;
    char *zip = make_zip(members, &len);
    struct extracted *got = extract(zip, len, "x.zip", 0);

    free(zip);
    return got;
}

#define W_OPEN "<w:document xmlns:w=\"w\" xmlns:mc=\"mc\"><w:body>"
#define P(s) "<w:p><w:r><w:t>" s "</w:t></w:r></w:p>"

static void test_docx(void **state)
{
    static const char
        *const
            members
                [] =
                    {
                        ROOT_RELS("word/document.xml"),
                        "word/_rels/document.xml.rels",
                        RELS_HEAD REL("rId1", "header", "header1.xml")
                            REL("rId2", "header", "header2.xml")
                                REL("rId3", "footer", "footer1.xml")
                                    REL("rId4", "footnotes", "footnotes.xml")
                                        REL("rId5", "comments", "comments.xml") "</Relationships>",
                        "word/header1.xml",
                        "<w:hdr xmlns:w=\"w\">" P("Head") "</w:hdr>",
                        "word/header2.xml",
                        "<w:hdr xmlns:w=\"w\">" P("Head") "</w:hdr>",
                        "word/footer1.xml",
                        "<w:ftr xmlns:w=\"w\">" P("Foot") "</w:ftr>",
                        "word/footnotes.xml",
                        "<w:footnotes xmlns:w=\"w\"><w:footnote>" P(
                            "a note") "</w:footnote></w:footnotes>",
                        "word/comments.xml",
                        "<w:comments xmlns:w=\"w\"><w:comment>" P(
                            "a comment") "</w:comment></w:comments>",
                        "word/document.xml",
                        W_OPEN "<w:p><w:pPr><w:tabs><w:tab/></w:tabs></w:pPr><w:r><w:t>One</"
                               "w:t><w:tab/>"
                               "<w:t xml:space=\"preserve\">two </w:t><w:br/><w:t>three</w:t></w:r>"
                               "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
                               "<w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
                               "<w:p><w:r><mc:AlternateContent><mc:Choice><w:txbxContent>" P("box") "</w:txbxContent></mc:Choice><mc:Fallback><w:txbxContent>" P(
                                   "box") "</w:txbxContent></mc:Fallback></mc:AlternateContent></"
                                          "w:r></w:p>"
                                          "<w:tbl><w:tr><w:tc>" P("A") "</w:tc><w:tc>" P(
                                              "B") "</w:tc></w:tr>"
                                                   "<w:tr><w:tc>" P("") "</w:tc><w:tc>" P(
                                                       "D") "</w:tc></w:tr></w:tbl>" P("end &amp; "
                                                                                       "\u00e9") "<"
                                                                                                 "/"
                                                                                                 "w"
                                                                                                 ":"
                                                                                                 "b"
                                                                                                 "o"
                                                                                                 "d"
                                                                                                 "y"
                                                                                                 ">"
                                                                                                 "<"
                                                                                                 "/"
                                                                                                 "w"
                                                                                                 ":"
                                                                                                 "d"
                                                                                                 "o"
                                                                                                 "c"
                                                                                                 "u"
                                                                                                 "m"
                                                                                                 "e"
                                                                                                 "n"
                                                                                                 "t"
                                                                                                 ">",
                        NULL,
                    };
    CLEANUP(extracted_cleanup) struct extracted *got = package(members);

    (void)state;
    assert_has(got, "Head\n\nOne\ttwo\nthree\nbox\n\nA\tB\n\tD\n\nend & \u00e9\n\na note\n\n"
                    "a comment\n\nFoot");
    assert_lacks(got, "gone");
    assert_lacks(got, "PAGE");
    assert_string_equal(got->kind, "docx");
    assert_null(strstr(strstr(got->text, "Head") + 1, "Head"));
}

static void test_xlsx(void **state)
{
    static const char *const members[] = {
        ROOT_RELS("xl/workbook.xml"),
        "xl/workbook.xml",
        "<workbook xmlns=\"m\"" XMLNS_R
        "><sheets><sheet name=\"Main\" sheetId=\"1\" r:id=\"rId2\"/>"
        "<sheet name=\"Second\" sheetId=\"2\" r:id=\"rId1\"/></sheets></workbook>",
        "xl/_rels/workbook.xml.rels",
        RELS_HEAD REL("rId1", "worksheet", "worksheets/b.xml")
            REL("rId2", "worksheet", "/xl/worksheets/a.xml") REL("rId3", "sharedStrings", "s.xml")
                REL("rId4", "styles", "styles.xml") "</Relationships>",
        "xl/s.xml",
        "<sst><si><t>Item</t></si><si><r><t>Un</t></r><r><t>it</t></r><rPh><t>x</t></rPh></si></"
        "sst>",
        "xl/styles.xml",
        "<styleSheet><numFmts><numFmt numFmtId=\"164\" formatCode=\"#,##0.00\\ &quot;EUR&quot;\"/>"
        "</numFmts><cellStyleXfs><xf numFmtId=\"9\"/></cellStyleXfs><cellXfs><xf numFmtId=\"0\"/>"
        "<xf numFmtId=\"14\"/><xf numFmtId=\"164\"/></cellXfs></styleSheet>",
        "xl/worksheets/a.xml",
        "<worksheet><dimension ref=\"B1:F9\"/><sheetData><row><c r=\"B1\" t=\"s\"><v>0</v></c>"
        "<c r=\"C1\" t=\"s\"><v>1</v></c><c r=\"E1\" "
        "t=\"inlineStr\"><is><t>in\nline</t></is></c></row>"
        "<row><c r=\"B2\" s=\"1\"><v>45000</v></c><c r=\"C2\" s=\"2\"><f>1+1</f><v>1234.5</v></c>"
        "<c r=\"D2\" t=\"b\"><v>1</v></c><c r=\"E2\" t=\"e\"><v>#N/A</v></c><c "
        "r=\"F2\"><v>0.1</v></c>"
        "<c r=\"G2\" t=\"s\"><v>99</v></c></row></sheetData>"
        "<headerFooter><oddHeader>&amp;L&amp;\"Arial\"Left&amp;RRight</oddHeader></headerFooter>"
        "</worksheet>",
        "xl/worksheets/b.xml",
        "<worksheet><sheetData><row><c><v>7</v></c><c t=\"str\"><v>s</v></c></row></sheetData>"
        "</worksheet>",
        NULL,
    };
    CLEANUP(extracted_cleanup) struct extracted *got = package(members);

    (void)state;
    assert_int_equal(got->n_pages, 2);
    assert_string_equal(got->pages[0], "Main\nItem\tUnit\t\tin line\n"
                                       "2023-03-15\t1,234.50 EUR\tTRUE\t#N/A\t0.1\nLeft\nRight");
    assert_string_equal(got->pages[1], "Second\n7\ts");
}

static void test_pptx(void **state)
{
#define SLIDE(s)                                                                                   \
    "<p:sld xmlns:p=\"p\" xmlns:a=\"a\"><p:sp><a:p><a:r><a:t>" s "</a:t></a:r></a:p></p:sp></"     \
    "p:sld>"
    static const char *const members[] = {
        ROOT_RELS("ppt/presentation.xml"),
        "ppt/presentation.xml",
        "<p:presentation xmlns:p=\"p\"" XMLNS_R "><p:sldIdLst><p:sldId id=\"256\" r:id=\"rId9\"/>"
        "<p:sldId id=\"257\" r:id=\"rId8\"/></p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels",
        RELS_HEAD REL("rId8", "slide", "slides/slide1.xml")
            REL("rId9", "slide", "slides/slide2.xml") "</Relationships>",
        "ppt/slides/slide1.xml",
        SLIDE("last"),
        "ppt/slides/slide2.xml",
        SLIDE("first"),
        "ppt/slides/_rels/slide2.xml.rels",
        RELS_HEAD REL("rId1", "notesSlide", "../notesSlides/n.xml")
            REL("rId2", "slideLayout", "../slideLayouts/l.xml") "</Relationships>",
        "ppt/notesSlides/n.xml",
        SLIDE("a note"),
        "ppt/slideLayouts/l.xml",
        SLIDE("Click to edit"),
        NULL,
    };
    CLEANUP(extracted_cleanup) struct extracted *got = package(members);

    (void)state;
    assert_string_equal(got->text, "first\n\na note\flast");
}

#define ODF_BODY                                                                                   \
    "<office:document-content xmlns:office=\"o\" xmlns:text=\"t\" xmlns:table=\"b\""               \
    " xmlns:draw=\"d\" xmlns:presentation=\"p\"><office:body>"
#define ODF_END "</office:body></office:document-content>"

static void test_odt(void **state)
{
    static const char *const members[] = {
        "mimetype",
        "application/vnd.oasis.opendocument.text",
        "styles.xml",
        "<x xmlns:style=\"s\" xmlns:text=\"t\"><style:footer><text:p>Foot</text:p></style:footer>"
        "<style:header><text:p>Head</text:p></style:header></x>",
        "content.xml",
        ODF_BODY "<office:text><text:tracked-changes><text:p>gone</text:p></text:tracked-changes>"
                 "<text:h>Title</text:h>\n<text:p>a<text:s text:c=\"2\"/>b<text:tab/>c\n  d"
                 "<text:line-break/>e</text:p><table:table><table:table-row><table:table-cell>"
                 "<text:p>1</text:p></table:table-cell><table:table-cell><text:p>2</text:p>"
                 "</table:table-cell></table:table-row></table:table></office:text>" ODF_END,
        NULL,
    };
    CLEANUP(extracted_cleanup) struct extracted *got = package(members);

    (void)state;
    assert_int_equal(got->rc, 0);
    assert_string_equal(got->text, "Head\n\nTitle\na  b\tc d\ne\n\n1\t2\n\nFoot");
}

static void test_ods(void **state)
{
    static const char *const members[] = {
        "mimetype",
        "application/vnd.oasis.opendocument.spreadsheet",
        "content.xml",
        ODF_BODY
        "<office:spreadsheet><table:table table:name=\"S1\"><table:table-row>"
        "<table:table-cell "
        "table:number-columns-repeated=\"2\"><text:p>x</text:p></table:table-cell>"
        "<table:table-cell table:number-columns-repeated=\"2\"/>"
        "<table:table-cell><text:p>y</text:p><text:p>z</text:p></table:table-cell>"
        "<table:table-cell table:number-columns-repeated=\"1000000\"/></table:table-row>"
        "<table:table-row table:number-rows-repeated=\"1048576\"><table:table-cell "
        "table:number-columns-repeated=\"1000000\"/></table:table-row></table:table>"
        "<table:table table:name=\"S2\"><table:table-row table:number-rows-repeated=\"99999999\">"
        "<table:table-cell table:number-columns-repeated=\"99999999\"><text:p>q</text:p>"
        "</table:table-cell></table:table-row></table:table></office:spreadsheet>" ODF_END,
        NULL,
    };
    CLEANUP(extracted_cleanup) struct extracted *got = package(members);

    (void)state;
    assert_int_equal(got->n_pages, 2);
    assert_string_equal(got->pages[0], "S1\nx\tx\t\t\ty z");
    assert_true(strlen(got->pages[1]) < 100000);
}

static void test_odp(void **state)
{
    static const char *const members[] = {
        "mimetype",
        "application/vnd.oasis.opendocument.presentation",
        "content.xml",
        ODF_BODY "<office:presentation><draw:page><draw:frame><draw:text-box><text:p>one</text:p>"
                 "</draw:text-box></draw:frame><presentation:notes><text:p>note</text:p>"
                 "</presentation:notes></draw:page><draw:page><text:p>two</text:p></draw:page>"
                 "</office:presentation>" ODF_END,
        NULL,
    };
    CLEANUP(extracted_cleanup) struct extracted *got = package(members);

    (void)state;
    assert_int_equal(got->rc, 0);
    assert_string_equal(got->text, "one\n\nnote\ftwo");
}

#define OPF                                                                                        \
    "<package><manifest><item id=\"b\" href=\"b%20b.xhtml\"/><item id=\"a\" href=\"a.xhtml\"/>"    \
    "</manifest><spine><itemref idref=\"a\"/><itemref idref=\"b\"/></spine></package>"

static void test_epub_and_archive(void **state)
{
    static const char *const book[] = {
        "mimetype",
        "application/epub+zip",
        "META-INF/container.xml",
        "<container><rootfiles><rootfile full-path=\"O/b.opf\"/></rootfiles></container>",
        "O/b.opf",
        OPF,
        "O/a.xhtml",
        "<html><body><p>first</p></body></html>",
        "O/b b.xhtml",
        "<html><body><p>second</p></body></html>",
        NULL,
    };
    static const char *const files[] = {"a/../../etc/x.txt", "hello", "b.pdf", "%PDF-", NULL};
    CLEANUP(extracted_cleanup) struct extracted *got = package(book);
    CLEANUP(extracted_cleanup) struct extracted *zip = package(files);

    (void)state;
    assert_has(got, "first\n\nsecond");
    assert_string_equal(zip->parts, "x.txt|application/octet-stream|5|a/../../etc/x.txt\n"
                                    "b.pdf|application/octet-stream|5|b.pdf\n");
}

static void refused(const char *const *members, const char *code)
{
    size_t len;
    char *zip = make_zip(members, &len);

    assert_refused(zip, len, "x.docx", code);
    free(zip);
}

static void test_refusals(void **state)
{
    static const char *const entities[] = {
        ROOT_RELS("word/document.xml"),
        "word/document.xml",
        "<!DOCTYPE a [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;\">]>" W_OPEN P(
            "&b;") "</w:body></w:document>",
        NULL,
    };
    static const char *const external[] = {
        ROOT_RELS("word/document.xml"),
        "word/document.xml",
        "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>" W_OPEN P(
            "&x;") "</w:body></w:document>",
        NULL,
    };
    static const char *const broken[] = {ROOT_RELS("word/document.xml"), "word/document.xml",
                                         W_OPEN "<w:p><w:r></w:p>", NULL};
    static const char *const locked[] = {
        "mimetype",
        "application/vnd.oasis.opendocument.text",
        "content.xml",
        "xx",
        "META-INF/manifest.xml",
        "<manifest:encryption-data/>",
        NULL,
    };
    static const char *const binary[] = {ROOT_RELS("xl/workbook.bin"), "xl/workbook.bin", "x",
                                         NULL};

    (void)state;
    refused(entities, "corrupt");
    refused(external, "corrupt");
    refused(broken, "corrupt");
    refused(locked, "encrypted");
    refused(binary, "unsupported_type");
    assert_refused(BYTES("PK\x03\x04\0\0\0\0"), "x.zip", "corrupt");
    assert_refused(BYTES("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0"
                         "E\0n\0c\0r\0y\0p\0t\0e\0d\0P\0a\0c\0"
                         "k\0a\0g\0e\0"),
                   "x.xlsx", "encrypted");
}

/* A central directory that promises gigabytes is refused before a byte is unpacked. */
static void test_bomb(void **state)
{
    static const char *const members[] = {"big.txt", "x", NULL};
    size_t len;
    char *zip = make_zip(members, &len);
    char *central = memmem(zip, len, "PK\x01\x02", 4);

    (void)state;
    memset(central + 24, 0x7f, 4);
    memset(zip + 22, 0x7f, 4);
    assert_refused(zip, len, "x.zip", "expands_too_much");
    free(zip);
}

static void test_number_formats(void **state)
{
    static const struct {
        const char *code;
        double value;
        const char *text;
    } cases[] = {
        {NULL, 0.1 + 0.2, "0.3"},
        {"General", 1e20, "1e+20"},
        {"General", -42, "-42"},
        {"0.00", 3.14159, "3.14"},
        {"0%", 0.025, "3%"},
        {"#,##0", -1234567, "-1,234,567"},
        {"#,##0.00;(#,##0.00)", -1234.5, "(1,234.50)"},
        {"[$\u20ac-407] #,##0.00", 99.5, "\u20ac 99.50"},
        {"000-00-0000", 123456789, "123-45-6789"},
        {"0000", 42, "0042"},
        {"0.0,,\" M\"", 12345678, "12.3 M"},
        {"0.00E+00", 12345, "1.23E+04"},
        {"\"Q\"0", 3, "Q3"},
        {"@", 5, "5"},
        {"yyyy-mm-dd", 45000, "2023-03-15"},
        {"d-mmm-yy", 1, "1-Jan-00"},
        {"dddd, mmmm dd, yyyy", 45000, "Wednesday, March 15, 2023"},
        {"h:mm AM/PM", 0.75, "6:00 PM"},
        {"hh:mm:ss", 0.999988426, "23:59:59"},
        {"[h]:mm:ss", 1.5, "36:00:00"},
        {"yyyy-mm-dd", -5, "--5"},
        {"\"", 1, ""},
        {"[", 1, ""},
        {"\\", 1, ""},
    };
    char text[64];
    char tiny[4];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases) - 4; i++) {
        numfmt_number(cases[i].code, cases[i].value, false, text, sizeof(text));
        assert_string_equal(text, cases[i].text);
    }
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        numfmt_number(cases[i].code, cases[i].value, true, tiny, sizeof(tiny));
        assert_true(strlen(tiny) < sizeof(tiny));
    }
    numfmt_number("yyyy-mm-dd", 0, true, text, sizeof(text));
    assert_string_equal(text, "1904-01-01");
    assert_string_equal(numfmt_builtin(14), "yyyy-mm-dd");
    assert_null(numfmt_builtin(164));
}

int formats_office_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_docx),     cmocka_unit_test(test_xlsx),
        cmocka_unit_test(test_pptx),     cmocka_unit_test(test_odt),
        cmocka_unit_test(test_ods),      cmocka_unit_test(test_odp),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_epub_and_archive),
        cmocka_unit_test(test_bomb),     cmocka_unit_test(test_number_formats),
    };

    return cmocka_run_group_tests_name("office", tests, NULL, NULL);
}

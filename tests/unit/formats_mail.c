/* SPDX-License-Identifier: Apache-2.0 */
/* Mail: headers, alternatives, attachments, messages in messages, mailboxes. */
#include "tests/unit/formats_help.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MIXED "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n"

static void test_headers(void **state)
{
    (void)state;
    assert_text(
        BYTES("From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>\n"
              "To: =?iso-2022-jp?B?GyRCRnxLXBsoQg==?=\n"
              "Subject: =?UTF-8?B?w6Q=?=\n =?UTF-8?B?w7Y=?= and\n\tmore\nX-Other: no\n\n"
              "Hello,\n\n  body\n"),
        "a.eml",
        "From: J\u00fcrgen <j@example.org>\nTo: \u65e5\u672c\nSubject: \u00e4\u00f6 and more"
        "\n\nHello,\n\n  body");
    /* One character cut between two words; raw bytes. */
    assert_text(BYTES("From: a@b\nSubject: =?UTF-8?B?w7w=?= =?UTF-8?Q?=C3?= =?UTF-8?Q?=BC?= \xe9\n"
                      "To: c@d\n\nx"),
                "a.eml", "From: a@b\nTo: c@d\nSubject: \u00fc\u00fc \u00e9\n\nx");
}

static void test_alternatives(void **state)
{
    static const char mail[] =
        "From: a@b\nSubject: s\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=A"
        "\n\n--A\nContent-Type: text/plain\n\n%s\n--A\nContent-Type: text/html; charset=utf-8\n\n"
        "<p>rich <b>text</b></p>\n--A--\n";
    char text[1024];
    int n = snprintf(text, sizeof(text), mail, "plain text");

    (void)state;
    assert_text(text, (size_t)n, "a.eml", "From: a@b\nSubject: s\n\nplain text");
    n = snprintf(text, sizeof(text), mail, "  ");
    assert_text(text, (size_t)n, "a.eml", "From: a@b\nSubject: s\n\nrich text");
}

static void test_attachments(void **state)
{
    static const char mail[] =
        "From: a@b\nSubject: s\n" MIXED
        "--B\nContent-Type: text/plain; charset=windows-1252\nContent-Transfer-Encoding: 8bit\n\n"
        "caf\xe9\n"
        "--B\nContent-Type: application/pdf; name=\"=?utf-8?q?R=C3=A9sum=C3=A9.pdf?=\"\n"
        "Content-Disposition: attachment\nContent-Transfer-Encoding: base64\n\naGVsbG8=\n"
        "--B\nContent-Type: text/plain\nContent-Disposition: attachment; filename=\"../n.txt\"\n\n"
        "not the body\n--B--\n";
    CLEANUP(extracted_cleanup) struct extracted *got = extract(BYTES(mail), "a.eml", 0);

    (void)state;
    assert_string_equal(got->text, "From: a@b\nSubject: s\n\ncaf\u00e9");
    assert_non_null(strstr(got->parts, "R\u00e9sum\u00e9.pdf|application/pdf|5|2\n"));
    assert_non_null(strstr(got->parts, "../n.txt|text/plain|12|3\n"));
}

static void test_nested(void **state)
{
    static const char mail[] =
        "From: a@b\nSubject: outer\n" MIXED "--B\nContent-Type: text/plain\n\nsee below\n"
        "--B\nContent-Type: message/rfc822\n\nFrom: c@d\nSubject: inner\n\ninner body\n--B--\n";
    CLEANUP(extracted_cleanup) struct extracted *got = extract(BYTES(mail), "a.eml", 0);

    (void)state;
    assert_has(got, "see below");
    assert_has(got, "From: c@d\nSubject: inner\n\ninner body");
    assert_non_null(strstr(got->parts, "|message/rfc822|"));
}

static void test_deep_nesting(void **state)
{
    char mail[20000] = "";
    size_t len = 0;

    (void)state;
    for (int i = 0; i < 60; i++) {
        len += (size_t)snprintf(mail + len, sizeof(mail) - len,
                                "From: a@b\nSubject: level %d\nMIME-Version: 1.0\n"
                                "Content-Type: message/rfc822\n\n",
                                i);
    }
    CLEANUP(extracted_cleanup) struct extracted *got = extract(mail, len, "a.eml", 0);
    assert_has(got, "level 2");
    assert_lacks(got, "level 3\n");
}

static void test_mailbox(void **state)
{
    CLEANUP(extracted_cleanup)
    struct extracted *got =
        extract(BYTES("From a@b Mon Jan  1 00:00:00 2024\nFrom: a@b\nSubject: one\n\nfirst\n\n"
                      "From c@d Mon Jan  1 00:00:00 2024\nFrom: c@d\nSubject: two\n\nsecond\n"),
                "a.mbox", 0);

    (void)state;
    assert_has(got, "Subject: one\n\nfirst");
    assert_has(got, "Subject: two\n\nsecond");
}

int formats_mail_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers),      cmocka_unit_test(test_alternatives),
        cmocka_unit_test(test_attachments),  cmocka_unit_test(test_nested),
        cmocka_unit_test(test_deep_nesting), cmocka_unit_test(test_mailbox),
    };

    return cmocka_run_group_tests_name("mail", tests, NULL, NULL);
}

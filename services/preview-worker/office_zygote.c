/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The office half of preview-worker: one operation, "convert", that turns an office document into
 * a PDF with LibreOffice, loaded once and warmed on documents of our own.
 * Invariant: LibreOffice's main loop runs in this program's one thread, and everything here is
 * called from its poll callback; a child never returns into it. Links are not followed, macros do
 * not run; the cage refuses connections and foreign files besides.
 */
#define LOK_USE_UNSTABLE_API
#include "libcommon/zygote.h"
#include "services/preview-worker/office.h"

#include <LibreOfficeKit/LibreOfficeKit.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define OFFICE_PROGRAM "/usr/lib/libreoffice/program"
#define OFFICE_BYTES_MAX (256ULL * 1024 * 1024)

/* From LibreOfficeKitEnums.h, which C cannot include. */
enum { CALLBACK_PASSWORD = 20, CALLBACK_PASSWORD_TO_MODIFY = 21 };
#define FEATURE_PASSWORD 1ULL
#define FEATURE_PASSWORD_TO_MODIFY 2ULL

/* Sheets become one page each only where that reads better than printed pages: the widest is too
 * wide for paper, and none is so large that its letters would vanish (points). */
#define SHEET_WIDTH_PAPER 500.0
#define SHEET_WIDTH_MAX 1700.0
#define SHEET_HEIGHT_MAX 2600.0

/* Sheets may print without end. */
#define SHEET_PAGES "1-200"

#define LOAD_OPTIONS "Language=en-GB,Batch=true,EnableMacrosExecution=false,MacroSecurityLevel=3"

struct office {
    struct office_folder folder;
    LibreOfficeKit *kit;
    bool asked_password; /* by the document being loaded */
    /* what zygote_main wants run */
    int (*loop)(void *arg);
    void *arg;
    int result;
    struct err *err;
    bool started;
};

static struct office office;

/* --- documents ---------------------------------------------------------------------------- */

static void on_event(int type, const char *payload, void *data)
{
    (void)data;
    if (type == CALLBACK_PASSWORD || type == CALLBACK_PASSWORD_TO_MODIFY) {
        office.asked_password = office.asked_password || type == CALLBACK_PASSWORD;
        office.kit->pClass->setDocumentPassword(office.kit, payload, NULL);
    }
}

static LibreOfficeKitDocument *load(const char *url)
{
    office.asked_password = false;
    return office.kit->pClass->documentLoadWithOptions(office.kit, url, LOAD_OPTIONS);
}

static bool save(LibreOfficeKitDocument *document, const char *path, const char *format,
                 const char *options)
{
    char url[600];

    snprintf(url, sizeof(url), "file://%s", path);
    return document->pClass->saveAs(document, url, format, options) != 0;
}

/* --- warming up --------------------------------------------------------------------------- */

static void warm_once(const char *path, const char *format, const char *to)
{
    char url[600];

    snprintf(url, sizeof(url), "file://%s", path);
    LibreOfficeKitDocument *document = load(url);

    if (document) {
        (void)save(document, to, format, NULL);
        document->pClass->destroy(document);
    }
}

/* Writes one sample, converts it to the formats of the family, and reads those again. */
static int warm_family(enum office_family family, struct err *err)
{
    static const char *const formats[3][4] = {
        [OFFICE_TEXT] = {"fodt", "docx", "doc", "odt"},
        [OFFICE_SHEET] = {"fods", "xlsx", "xls", "ods"},
        [OFFICE_SLIDES] = {"fodp", "pptx", "ppt", "odp"},
    };
    const char *text = office_samples[family];
    char sample[300];
    char copy[300];
    char pdf[300];

    snprintf(sample, sizeof(sample), "%s/warm.%s", office.folder.tmp, formats[family][0]);
    snprintf(pdf, sizeof(pdf), "%s/warm.pdf", office.folder.tmp);
    CLEANUP(fd_cleanup) int fd = open(sample, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
        return err_from_errno(err, errno, "writing %s", sample);
    }
    warm_once(sample, "pdf", pdf);
    if (access(pdf, R_OK) != 0) {
        return err_set(err, ERR_FATAL, "internal", "LibreOffice cannot convert a plain document");
    }
    for (size_t i = 1; i < ARRAY_LEN(formats[family]); i++) {
        snprintf(copy, sizeof(copy), "%s/warm.%s", office.folder.tmp, formats[family][i]);
        warm_once(sample, formats[family][i], copy);
        warm_once(copy, "pdf", pdf);
        unlink(copy);
    }
    unlink(sample);
    unlink(pdf);
    return 0;
}

static int count_threads(void)
{
    DIR *dir = opendir("/proc/self/task");
    const struct dirent *entry;
    int n = 0;

    while (dir && (entry = readdir(dir))) {
        n += entry->d_name[0] != '.';
    }
    if (dir) {
        closedir(dir);
    }
    return n;
}

/* Idle helper threads of LibreOffice leave after a second or two. */
static void wait_for_threads(void)
{
    for (int i = 0; i < 100 && count_threads() > 1; i++) {
        usleep(50000);
    }
}

/* --- the zygote inside LibreOffice's loop --------------------------------------------------- */

static int on_poll(void *data, int timeout_us)
{
    (void)data;
    (void)timeout_us;
    if (office.started) {
        return 0;
    }
    office.started = true;
    for (int family = 0; family < 3 && office.result == 0; family++) {
        office.result = warm_family((enum office_family)family, office.err);
    }
    if (office.result == 0) {
        wait_for_threads();
        office.result = office.loop(office.arg);
    }
    office_folder_remove(&office.folder);
    _exit(office.result == 0 ? 0 : 1);
}

static void on_wake(void *data)
{
    (void)data;
}

/* LibreOffice tells its whole start on stderr. */
static int silence(void)
{
    CLEANUP(fd_cleanup) int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    const int kept = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);

    if (null >= 0) {
        dup2(null, STDERR_FILENO);
    }
    return kept;
}

static int enter(int (*loop)(void *arg), void *arg, struct err *err)
{
    typedef int (*preinit_fn)(const char *path, const char *profile, LibreOfficeKit **kit);
    typedef LibreOfficeKit *(*hook_fn)(const char *path, const char *profile);
    char profile[300];

    snprintf(profile, sizeof(profile), "file://%s/.config/libreoffice/4", office.folder.home);
    void *library = dlopen(OFFICE_PROGRAM "/libmergedlo.so", RTLD_LAZY);
    union {
        void *symbol;
        preinit_fn preinit;
    } preinit = {library ? dlsym(library, "lok_preinit_2") : NULL};
    union {
        void *symbol;
        hook_fn hook;
    } hook = {library ? dlsym(library, "libreofficekit_hook_2") : NULL};

    if (!preinit.symbol || !hook.symbol) {
        return err_set(err, ERR_FATAL, "internal", "LibreOffice is not installed: %.150s",
                       dlerror());
    }
    CLEANUP(fd_cleanup) int stderr_fd = silence();
    const int rc = preinit.preinit(OFFICE_PROGRAM, profile, &office.kit);

    if (stderr_fd >= 0) {
        dup2(stderr_fd, STDERR_FILENO);
        fd_cleanup(&stderr_fd);
    }
    if (rc != 0) {
        return err_set(err, ERR_FATAL, "internal", "LibreOffice does not load");
    }
    office.kit = hook.hook(OFFICE_PROGRAM, profile);
    if (!office.kit) {
        return err_set(err, ERR_FATAL, "internal", "LibreOffice does not start");
    }
    office.loop = loop;
    office.arg = arg;
    office.err = err;
    office.kit->pClass->setOptionalFeatures(office.kit,
                                            FEATURE_PASSWORD | FEATURE_PASSWORD_TO_MODIFY);
    office.kit->pClass->registerCallback(office.kit, on_event, &office);
    office.kit->pClass->runLoop(office.kit, on_poll, on_wake, &office);
    return err_set(err, ERR_FATAL, "internal", "LibreOffice left its loop");
}

static int warm(struct err *err)
{
    return office_folder_make(&office.folder, err);
}

/* --- one unit ----------------------------------------------------------------------------- */

static int err_from_load(const char *data, size_t len, struct err *err)
{
    const union {
        const char *text;
        const unsigned char *bytes;
    } file = {data};

    if (office.asked_password || office_looks_encrypted(file.bytes, len)) {
        return err_set(err, ERR_PERMANENT, "encrypted", "the document needs a password");
    }
    char *why = office.kit->pClass->getError(office.kit);

    return err_set(err, ERR_PERMANENT, "corrupt", "LibreOffice cannot read the document: %.120s",
                   why ? why : "no reason given");
}

/* The document as a file of the unit's own: the cage lets nothing else be opened by name. */
static int copy_input(const char *path, const char *data, size_t len, struct err *err)
{
    struct rlimit limit;
    CLEANUP(fd_cleanup) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < len) {
        return err_set(err, ERR_PERMANENT, "file_too_large", "%zu bytes, at most %llu can be drawn",
                       len, (unsigned long long)limit.rlim_cur);
    }
    while (fd >= 0 && len > 0) {
        const ssize_t n = write(fd, data, len);

        if (n <= 0) {
            break;
        }
        data += n;
        len -= (size_t)n;
    }
    return fd >= 0 && len == 0 ? 0 : err_from_errno(err, errno, "copying the document");
}

/* Maps the PDF for reading; kept until the child leaves. */
static int map_output(const char *path, const char **ret_data, size_t *ret_len, struct err *err)
{
    struct stat st;
    CLEANUP(fd_cleanup) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st) != 0 || st.st_size == 0) {
        return err_set(err, ERR_PERMANENT, "corrupt", "LibreOffice made no PDF of the document");
    }
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);

    if (data == MAP_FAILED) {
        return err_from_errno(err, errno, "reading the PDF");
    }
    *ret_data = data;
    *ret_len = (size_t)st.st_size;
    return 0;
}

/* The largest page of an export; the exporter writes its page boxes in the open. */
static void largest_page(const char *pdf, size_t len, double *ret_width, double *ret_height)
{
    static const char mark[] = "/MediaBox[";
    const char *p = pdf;
    const char *end = pdf + len;

    *ret_width = *ret_height = 0;
    while ((p = memmem(p, (size_t)(end - p), mark, sizeof(mark) - 1))) {
        char box[64] = "";
        double v[4] = {0};

        p += sizeof(mark) - 1;
        memcpy(box, p, min_size(sizeof(box) - 1, (size_t)(end - p)));
        if (sscanf(box, "%lf %lf %lf %lf", &v[0], &v[1], &v[2], &v[3]) == 4) {
            *ret_width = v[2] - v[0] > *ret_width ? v[2] - v[0] : *ret_width;
            *ret_height = v[3] - v[1] > *ret_height ? v[3] - v[1] : *ret_height;
        }
    }
}

static bool one_page_reads_better(const char *pdf, size_t len)
{
    double width = 0;
    double height = 0;

    largest_page(pdf, len, &width, &height);
    return width > SHEET_WIDTH_PAPER && width <= SHEET_WIDTH_MAX && height <= SHEET_HEIGHT_MAX;
}

static int export_pdf(LibreOfficeKitDocument *document, enum office_family family, const char *path,
                      const char **ret_pdf, size_t *ret_len, struct err *err)
{
    static const char one_page[] =
        "{\"SinglePageSheets\":{\"type\":\"boolean\",\"value\":\"true\"}}";
    static const char first_pages[] =
        "{\"PageRange\":{\"type\":\"string\",\"value\":\"" SHEET_PAGES "\"}}";

    if (family != OFFICE_SHEET) {
        (void)save(document, path, "pdf", NULL);
        return map_output(path, ret_pdf, ret_len, err);
    }
    if (save(document, path, "pdf", one_page) && map_output(path, ret_pdf, ret_len, NULL) == 0 &&
        one_page_reads_better(*ret_pdf, *ret_len)) {
        return 0;
    }
    unlink(path);
    (void)save(document, path, "pdf", first_pages);
    return map_output(path, ret_pdf, ret_len, err);
}

static int convert(struct jail_unit *unit, struct err *err)
{
    enum office_family family = OFFICE_TEXT;
    const char *data = NULL;
    size_t len = 0;
    const char *pdf = NULL;
    size_t pdf_len = 0;
    char input[300];
    char output[300];
    char url[320];

    if (unit_map_input(unit, OFFICE_BYTES_MAX, &data, &len, err) != 0) {
        return -1;
    }
    const union {
        const char *text;
        const unsigned char *bytes;
    } file = {data};

    if (office_check(file.bytes, len, &family, err) != 0) {
        return -1;
    }
    snprintf(input, sizeof(input), "%s/in-%d", office.folder.tmp, (int)getpid());
    snprintf(url, sizeof(url), "file://%s", input);
    if (copy_input(input, data, len, err) != 0) {
        return -1;
    }
    snprintf(output, sizeof(output), "%s/out-%d.pdf", office.folder.tmp, (int)getpid());
    LibreOfficeKitDocument *document = load(url);

    if (!document) {
        unlink(input);
        return err_from_load(data, len, err);
    }
    const int rc = export_pdf(document, family, output, &pdf, &pdf_len, err);

    unlink(output);
    unlink(input);
    if (rc != 0) {
        return -1;
    }
    return frame_write(unit->out, "pdf", json_object(), pdf, pdf_len, err);
}

static const struct zygote_op ops[] = {
    {.name = "convert", .cage = CAGE_OFFICE, .run = convert},
};

/* The profile's folder is named before the cages are made, by warm(). */
static const char *const read_paths[] = {
    office.folder.home,           "/usr/lib/libreoffice",
    "/etc/libreoffice",           "/usr/share/libreoffice",
    "/usr/share/fonts",           "/usr/local/share/fonts",
    "/usr/share/fontconfig",      "/etc/fonts",
    "/var/cache/fontconfig",      "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu", NULL,
};

int main(int argc, char **argv)
{
    const struct zygote zygote = {
        .name = "office-zygote",
        .warm = warm,
        .ops = ops,
        .n_ops = ARRAY_LEN(ops),
        .read_paths = read_paths,
        .enter = enter,
    };

    return zygote_main(argc, argv, &zygote);
}

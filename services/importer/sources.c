/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stores to import from beside the fleet's own: {"name": {"endpoint", "bucket", "region",
 * "accessKey", "secretKey", "caFile", "driver"}}. They come from the settings, so that no key of
 * another store is ever in the database; an import names one.
 */
#include <string.h>

#include "libcommon/jget.h"
#include "services/importer/importer.h"

#define SOURCES_MAX ((size_t)64 << 10)

static int open_named(struct importer *imp, const json_t *source, struct store **ret_store,
                      struct err *err)
{
    const struct core_options *core = &imp->service.core;
    const char *endpoint, *bucket, *region, *access, *secret, *ca, *driver;

    if (jget_str(source, "endpoint", 1024, &endpoint, err) < 0 ||
        jget_str(source, "bucket", 255, &bucket, err) < 0 ||
        jget_str(source, "accessKey", 1024, &access, err) < 0 ||
        jget_str(source, "secretKey", 1024, &secret, err) < 0 ||
        jget_opt_str(source, "region", 64, "us-east-1", &region, err) < 0 ||
        jget_opt_str(source, "caFile", 1024, NULL, &ca, err) < 0 ||
        jget_opt_str(source, "driver", 16, "s3", &driver, err) < 0) {
        return -1;
    }
    return store_open(&(struct store_config){.driver = driver,
                                             .endpoint = endpoint,
                                             .region = region,
                                             .bucket = bucket,
                                             .access_key = access,
                                             .secret_key = secret,
                                             .ca_file = ca,
                                             .scratch_dir = core->scratch_dir,
                                             .abort = &imp->service.store_abort},
                      ret_store, err);
}

int source_open(struct importer *imp, const char *name, struct store **ret_store, bool *ret_own,
                struct err *err)
{
    CLEANUP(json_cleanup) json_t *all = NULL;
    const char *text = importer_options.sources;

    *ret_own = name[0] != '\0';
    if (!*ret_own) {
        *ret_store = imp->service.store;
        return 0;
    }
    if (text[0] && jget_load(text, strlen(text), SOURCES_MAX, &all, err) < 0) {
        return err_wrap(err, "IMPORT_SOURCES");
    }
    const json_t *source = json_object_get(all, name);
    if (!json_is_object(source)) {
        return err_set(err, ERR_PERMANENT, "source_unknown",
                       "no source of the name %s is configured (IMPORT_SOURCES)", name);
    }
    return open_named(imp, source, ret_store, err) < 0 ? err_wrap(err, "source %s", name) : 0;
}

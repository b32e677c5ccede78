/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When the certificates end that the servers show. Whether they are trusted, the checks of reach
 * have found out.
 */
#include <string.h>
#include <time.h>

#include "libcommon/cert.h"
#include "services/docfleetctl/doctor.h"

#define SOON_DAYS 14 /* as the alert DocfleetCertificateExpiring */

static void tell_end(struct doctor *d, enum cert_server kind, const char *where)
{
    struct err err = ERR_INIT;
    int64_t end = 0;

    if (cert_shown(kind, where, &end, &err) < 0) {
        if (strcmp(err.code, "no_tls") == 0) {
            found(d, FOUND_SKIPPED, NULL, "it is spoken to without TLS");
        } else {
            found_err(d, FOUND_WARNING, &err);
        }
        return;
    }
    long long days = (long long)(end - time(NULL)) / 86400;
    if (end <= time(NULL)) {
        found(d, FOUND_PROBLEM, NULL, "it ended %lld days ago", -days);
    } else {
        found(d, days < SOON_DAYS ? FOUND_WARNING : FOUND_OK, NULL, "it ends in %lld days", days);
    }
}

void check_pg_certificate(struct doctor *d)
{
    tell_end(d, CERT_POSTGRES, d->ctl->service.core.database_url);
}

void check_kafka_certificate(struct doctor *d)
{
    const struct bus_access *bus = &d->ctl->service.bus;

    tell_end(d, CERT_BROKERS, bus_access_tls(bus) ? bus->brokers : "");
}

void check_store_certificate(struct doctor *d)
{
    tell_end(d, CERT_HTTPS, d->ctl->service.core.s3_endpoint);
}

void check_gateway_certificate(struct doctor *d)
{
    tell_end(d, CERT_HTTPS, d->ctl->options.url);
}

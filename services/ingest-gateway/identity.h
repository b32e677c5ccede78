/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which account a subject of the issuer is.
 * Invariant: an account is found by (issuer, subject) alone; a name or a mail address never links
 * one, since the issuer's users choose those themselves.
 */
#pragma once

#include "libcommon/jget.h"
#include "services/ingest-gateway/request.h"

struct gateway;

/* Fills account, role and scopes of *who from verified claims; makes the account where
 * OIDC_PROVISION says so, and sets its role where OIDC_ROLE_CLAIM is given. ERR_PERMANENT
 * "not_provisioned" or "disabled". */
int identity_find(struct gateway *gw, const json_t *claims, struct principal *who,
                  struct err *err) WARN_UNUSED;

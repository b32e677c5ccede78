/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a request comes from: the client's address and whether its connection was encrypted.
 * Invariant: X-Forwarded-For and X-Forwarded-Proto are believed only from addresses the operator
 * named (TRUSTED_PROXIES), and of the list only as far as each hop is one of them.
 */
#pragma once

#include "libcommon/err.h"

#include <sys/socket.h>

#define ORIGIN_NETS_MAX 32U
#define ORIGIN_ADDRESS_SIZE 46U

struct origin_rules {
    struct {
        unsigned char bytes[16]; /* IPv4 as ::ffff:a.b.c.d */
        unsigned bits;
    } nets[ORIGIN_NETS_MAX];
    size_t n;
};

/* "10.0.0.0/8,fd00::/8,192.0.2.7"; "" for none. ERR_FATAL "config". */
int origin_rules_parse(const char *list, struct origin_rules *ret_rules,
                       struct err *err) WARN_UNUSED;

/* Whoever has one IPv6 address has all of its /64; of IPv4 the address. "" for what is none. */
void origin_network(const char *address, char ret_net[ORIGIN_ADDRESS_SIZE]);

/* The network of the other end of a connection (see origin_network); false when it is a trusted
 * proxy, which speaks for many, or unknown. */
bool origin_peer(const struct origin_rules *rules, const struct sockaddr *peer,
                 char ret_net[ORIGIN_ADDRESS_SIZE]);

/* peer may be NULL. forwarded_for and forwarded_proto are header values or NULL; tls: this very
 * connection is encrypted. */
void origin_find(const struct origin_rules *rules, const struct sockaddr *peer,
                 const char *forwarded_for, const char *forwarded_proto, bool tls,
                 char ret_address[ORIGIN_ADDRESS_SIZE], bool *ret_https);

/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/origin.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* Both families as sixteen bytes; *ret_v4 says which it was. */
static bool parse_address(const char *text, unsigned char bytes[16], bool *ret_v4)
{
    memcpy(bytes, mapped, sizeof(mapped));
    if (inet_pton(AF_INET, text, bytes + sizeof(mapped)) == 1) {
        *ret_v4 = true;
        return true;
    }
    *ret_v4 = false;
    return inet_pton(AF_INET6, text, bytes) == 1;
}

static void print_address(const unsigned char bytes[16], char out[ORIGIN_ADDRESS_SIZE])
{
    bool v4 = memcmp(bytes, mapped, sizeof(mapped)) == 0;

    if (!inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? bytes + sizeof(mapped) : bytes, out,
                   ORIGIN_ADDRESS_SIZE)) {
        out[0] = '\0';
    }
}

static bool parse_bits(const char *text, unsigned max, unsigned *ret_bits)
{
    char *end = NULL;
    unsigned long bits = strtoul(text, &end, 10);

    if (end == text || *end != '\0' || text[0] == '-' || bits > max) {
        return false;
    }
    *ret_bits = (unsigned)bits;
    return true;
}

int origin_rules_parse(const char *list, struct origin_rules *ret_rules, struct err *err)
{
    struct origin_rules rules = {.n = 0};
    char item[64];

    while (*list != '\0') {
        size_t n = strcspn(list, ",");
        bool v4 = false;
        snprintf(item, sizeof(item), "%.*s", (int)min_size(n, sizeof(item) - 1), list);
        char *slash = strchr(item, '/');
        if (slash) {
            *slash++ = '\0';
        }
        if (rules.n == ORIGIN_NETS_MAX || n >= sizeof(item) ||
            !parse_address(item, rules.nets[rules.n].bytes, &v4)) {
            return err_set(err, ERR_FATAL, "config", "TRUSTED_PROXIES: no address or net: %s",
                           item);
        }
        unsigned bits = v4 ? 32 : 128;
        if (slash && !parse_bits(slash, bits, &bits)) {
            return err_set(err, ERR_FATAL, "config", "TRUSTED_PROXIES: no prefix length: %s",
                           slash);
        }
        rules.nets[rules.n++].bits = bits + (v4 ? 96 : 0);
        list += n;
        list += *list == ',' ? 1 : 0;
    }
    *ret_rules = rules;
    return 0;
}

static bool trusted(const struct origin_rules *rules, const unsigned char bytes[16])
{
    for (size_t i = 0; i < rules->n; i++) {
        unsigned whole = rules->nets[i].bits / 8;
        unsigned rest = rules->nets[i].bits % 8;
        unsigned char mask = (unsigned char)(0xff00U >> rest);
        if (memcmp(rules->nets[i].bytes, bytes, whole) == 0 &&
            (rest == 0 || ((rules->nets[i].bytes[whole] ^ bytes[whole]) & mask) == 0)) {
            return true;
        }
    }
    return false;
}

static bool peer_bytes(const struct sockaddr *peer, unsigned char bytes[16])
{
    memcpy(bytes, mapped, sizeof(mapped));
    if (peer && peer->sa_family == AF_INET) {
        memcpy(bytes + sizeof(mapped), &((const struct sockaddr_in *)(const void *)peer)->sin_addr,
               4);
        return true;
    }
    if (peer && peer->sa_family == AF_INET6) {
        memcpy(bytes, &((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr, 16);
        return true;
    }
    return false;
}

bool origin_peer(const struct origin_rules *rules, const struct sockaddr *peer,
                 char ret_net[ORIGIN_ADDRESS_SIZE])
{
    unsigned char bytes[16];
    char address[ORIGIN_ADDRESS_SIZE];

    if (!peer_bytes(peer, bytes) || trusted(rules, bytes)) {
        return false;
    }
    print_address(bytes, address);
    origin_network(address, ret_net);
    return true;
}

void origin_network(const char *address, char ret_net[ORIGIN_ADDRESS_SIZE])
{
    unsigned char bytes[16];
    bool v4 = false;

    if (!parse_address(address, bytes, &v4)) {
        ret_net[0] = '\0';
        return;
    }
    if (memcmp(bytes, mapped, sizeof(mapped)) != 0) {
        memset(bytes + 8, 0, 8);
    }
    print_address(bytes, ret_net);
}

/* The last entry of the list before `end`, trimmed; false when there is none or it is too long. */
static bool last_entry(const char *list, size_t *end, char *out, size_t size)
{
    if (*end == 0) {
        return false;
    }
    size_t to = *end;
    size_t from = to;
    while (from > 0 && list[from - 1] != ',') {
        from--;
    }
    *end = from > 0 ? from - 1 : 0;
    while (from < to && list[from] == ' ') {
        from++;
    }
    while (to > from && list[to - 1] == ' ') {
        to--;
    }
    if (to == from || to - from >= size) {
        return false;
    }
    memcpy(out, list + from, to - from);
    out[to - from] = '\0';
    return true;
}

void origin_find(const struct origin_rules *rules, const struct sockaddr *peer,
                 const char *forwarded_for, const char *forwarded_proto, bool tls,
                 char ret_address[ORIGIN_ADDRESS_SIZE], bool *ret_https)
{
    unsigned char at[16];
    unsigned char next[16];
    char text[ORIGIN_ADDRESS_SIZE];
    size_t end = forwarded_for ? strlen(forwarded_for) : 0;
    bool v4 = false;

    ret_address[0] = '\0';
    *ret_https = tls;
    if (!peer_bytes(peer, at)) {
        return;
    }
    if (trusted(rules, at) && forwarded_proto) {
        *ret_https = strcasecmp(forwarded_proto, "https") == 0;
    }
    while (trusted(rules, at) && last_entry(forwarded_for, &end, text, sizeof(text)) &&
           parse_address(text, next, &v4)) {
        memcpy(at, next, sizeof(at));
    }
    print_address(at, ret_address);
}

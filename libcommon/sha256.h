/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Message digests by OpenSSL's EVP: SHA-256 for identities and signatures, MD5 because object
 * stores name a body by it.
 * Invariant: a digest is complete or an error is set; a half-fed one is never printed.
 * Refuses to be used for passwords and tokens: those belong to libsodium.
 */
#pragma once

#include "libcommon/err.h"

#define SHA256_LEN 32
#define SHA256_HEX_SIZE 65 /* 64 digits and the NUL */
#define MD5_LEN 16
#define MD5_HEX_SIZE 33
#define MD5_BASE64_SIZE 25

enum hash_alg {
    HASH_SHA256,
    HASH_MD5,
};

/* An incremental digest. `CLEANUP(hash_done) struct hash h = HASH_NONE;` */
struct hash {
    void *ctx; /* EVP_MD_CTX */
};
#define HASH_NONE ((struct hash){.ctx = NULL})

/* Starts; fails when memory is gone or the library forbids the algorithm (MD5 under FIPS). */
int hash_init(struct hash *hash, enum hash_alg alg, struct err *err) WARN_UNUSED;
int hash_update(struct hash *hash, const void *data, size_t len, struct err *err) WARN_UNUSED;
/* Writes lower-case hex; size is at least SHA256_HEX_SIZE or MD5_HEX_SIZE. Ends the digest. */
int hash_final_hex(struct hash *hash, char *ret_hex, size_t size, struct err *err) WARN_UNUSED;
/* Frees; takes a digest in any state, and NULL. */
void hash_done(struct hash *hash);

/* One shot. */
int sha256(const void *data, size_t len, unsigned char ret_digest[SHA256_LEN],
           struct err *err) WARN_UNUSED;
int sha256_hex(const void *data, size_t len, char ret_hex[SHA256_HEX_SIZE],
               struct err *err) WARN_UNUSED;
int md5_hex(const void *data, size_t len, char ret_hex[MD5_HEX_SIZE], struct err *err) WARN_UNUSED;
/* As Content-MD5 wants it; out holds MD5_BASE64_SIZE. */
int md5_base64(const void *data, size_t len, char ret_text[MD5_BASE64_SIZE],
               struct err *err) WARN_UNUSED;
int md5_base64_fd(int fd, uint64_t offset, uint64_t len, char ret_text[MD5_BASE64_SIZE],
                  struct err *err) WARN_UNUSED;
int hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                unsigned char ret_mac[SHA256_LEN], struct err *err) WARN_UNUSED;

/* Digest of len bytes of fd from offset (pread: the file position stays). A file that ends early
 * is ERR_UNKNOWN "io". */
int sha256_fd_hex(int fd, uint64_t offset, uint64_t len, char ret_hex[SHA256_HEX_SIZE],
                  struct err *err) WARN_UNUSED;

/* Lower-case hex of len bytes; out holds 2 * len + 1. */
void hex_encode(const void *data, size_t len, char *out);

/* SPDX-License-Identifier: Apache-2.0 */
/* PKGS: rdkafka */
/*
 * The producer against librdkafka's own made-up broker: what is acknowledged, and what becomes of a
 * client that has ended itself.
 */
#include "libcommon/bus.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <string.h>

#define API_PRODUCE 0 /* of the Kafka protocol */

struct world {
    rd_kafka_t *rk; /* carries the made-up cluster */
    rd_kafka_mock_cluster_t *cluster;
    struct bus_producer *producer;
};

static void quiet(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk;
    (void)level;
    (void)facility;
    (void)text;
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    struct err err = ERR_INIT;
    char why[200];

    rd_kafka_conf_set_log_cb(conf, quiet);
    w->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
    w->cluster = rd_kafka_mock_cluster_new(w->rk, 1);
    rd_kafka_mock_topic_create(w->cluster, "t", 1, 1);
    const struct bus_access access = {.brokers = rd_kafka_mock_cluster_bootstraps(w->cluster)};
    assert_int_equal(bus_producer_open(&access, "test", &w->producer, &err), 0);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    bus_producer_free(w->producer);
    rd_kafka_mock_cluster_destroy(w->cluster);
    rd_kafka_destroy(w->rk);
    free(w);
    return 0;
}

static int send_two(struct world *w, bool ok[2], struct err *err)
{
    const struct bus_message m[] = {
        {.topic = "t", .key = "k", .value = "a", .len = 1, .partition = 0},
        {.topic = "t", .key = "k", .value = "b", .len = 1, .partition = 0}};

    return bus_send(w->producer, m, 2, 15000, ok, err);
}

static void test_send(void **state)
{
    struct err err = ERR_INIT;
    bool ok[2];
    int n = 0;

    assert_int_equal(send_two(*state, ok, &err), 0);
    assert_true(ok[0] && ok[1]);
    assert_int_equal(bus_partitions(((struct world *)*state)->producer, "t", &n, &err), 0);
    assert_int_equal(n, 1);
}

/* The broker knows nothing of what it had acknowledged: the client gives itself up. */
static void test_a_dead_client_is_replaced(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    bool ok[2];

    assert_int_equal(send_two(w, ok, &err), 0);
    rd_kafka_mock_push_request_errors(w->cluster, API_PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_int_equal(send_two(w, ok, &err), -1);
    assert_false(ok[0] || ok[1]);
    assert_string_equal(err.code, "kafka_unavailable");
    assert_int_equal(err.class, ERR_TRANSIENT);
    assert_int_equal(send_two(w, ok, &err), 0);
    assert_true(ok[0] && ok[1]);
    assert_int_equal(bus_producer_ping(w->producer, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_send, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_dead_client_is_replaced, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* kafka_client: the librdkafka side of a kafka_broker; tests include kafka_broker.h. */
#pragma once

#include "kafka_broker.h"

/** Drops what was not delivered and closes the connections; the next call opens them again. */
void kafka_client_close(struct kafka_broker *broker);

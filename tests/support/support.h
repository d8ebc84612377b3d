/* support: what integration tests stand on: folders, child processes, a Redis and a Kafka broker of the
 * test's own.
 *
 * Every helper fails the running cmocka test, with what it saw, when it cannot do its work; those that return
 * an int leave the judgement to the test. All are for the test's main thread. Whatever a test starts dies
 * with the test's process, however that ends; the folders go at its exit. */
#pragma once

#include "kafka_broker.h"
#include "proc.h"
#include "redis_server.h"
#include "tmp.h"
#include "wait.h"

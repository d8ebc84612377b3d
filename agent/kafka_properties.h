/* kafka_properties: checks of "name=value" properties that go to librdkafka. Start only. */
#pragma once

#include <stddef.h>

/** Is this a property that librdkafka knows, with a value it takes, and not one that evictd sets itself?
 * @param error receives "what; remedy" @return 0 or -1 */
int kafka_property_check(const char *property, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/* By itself, since the headers of these libraries use names that ours use too. */
#include "version.h"

#include <hiredis/hiredis.h>
#include <jansson.h>
#include <libconfig.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>

void version_print(void)
{
    printf("evictd %s (librdkafka %s, hiredis %d.%d.%d, jansson %s, libconfig %d.%d.%d)\n", EVICTD_VERSION,
           rd_kafka_version_str(), HIREDIS_MAJOR, HIREDIS_MINOR, HIREDIS_PATCH, jansson_version_str(),
           LIBCONFIG_VER_MAJOR, LIBCONFIG_VER_MINOR, LIBCONFIG_VER_REVISION);
}

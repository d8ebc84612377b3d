/* scripts: the Lua scripts of schemas/redis, embedded at build time, each with the prelude before it. */
#pragma once

enum script { SCRIPT_LEASE, SCRIPT_STORE, SCRIPT_INVALIDATE, SCRIPT_BEAT, SCRIPTS_COUNT };

extern const char *const script_text[SCRIPTS_COUNT];

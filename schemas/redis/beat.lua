#!lua flags=allow-oom
-- Reads the head, which is made where there is none; raises the agents' sign of life; sweeps tag sets that nobody touches
-- again. Agents call it four times a second, and so do the subscribers of libcache, which raise nothing.
-- KEYS  1 head  2 index of tag sets
-- ARGV  1 new epoch  2 how many tag sets to look at  3 by how much to raise the beat
-- Returns {beat, epoch, seq}
local head = open_head(ARGV[1])
sweep(KEYS[2], now_ms(), ARGV[2])
return { redis.call('HINCRBY', HEAD, 'beat', ARGV[3]), head.epoch, head.seq }

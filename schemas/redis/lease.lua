-- Begins a fill: the caller saw no value and wants to load it.
-- KEYS  1 head  2 key  3 its lease
-- ARGV  1 new epoch  2 token  3 lease in ms  4 "ask" or "take"
--       ask: only if the key has no value and nobody else holds the lease; take: over anyone else's (a writer)
-- Returns {"value", bytes} | {"held", ms left} | {"granted", seq, epoch}
local key, lease = KEYS[2], KEYS[3]
if ARGV[4] == 'ask' then
  local value = redis.call('GET', key)
  if value then return { 'value', value } end
  if not redis.call('SET', lease, ARGV[2], 'NX', 'PX', ARGV[3]) then
    return { 'held', redis.call('PTTL', lease) }
  end
else
  redis.call('SET', lease, ARGV[2], 'PX', ARGV[3])
end
local head = open_head(ARGV[1])
return { 'granted', head.seq, head.epoch }

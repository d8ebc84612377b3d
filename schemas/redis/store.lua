-- Ends a fill or a write: stores the value and enters it into its tag sets, in one step, or refuses.
-- KEYS  1 head  2 fences of even generations  3 of odd ones  4 index of tag sets  5 log  6 key  7 its lease  8... tag sets
-- ARGV  1 new epoch  2 token, or "" for a set that asks nobody  3 seq the lease was granted at  4 its epoch
--       5 value  6 time to live in ms, grace included  7 channel, or "" for a fill, which tells nobody
--       8 rest of the broadcast (see invalidate.lua)  9 log length  10 namespace as JSON
-- Returns {"stored", seq, epoch} | {"refused", why, seq, epoch}; why: lease | fence | epoch | tag | type
--   (tag: a tag set's name holds another Redis type, type: the key does; that is left alone).
-- A refused fill leaves the key as it is and lets go of its own lease. A refused write removes the key and the lease,
-- whoever's: nobody knows whether its holder read or wrote the database before this write or after it.
-- A member's score is when it expires; a tag set is swept once its last member has.
local FENCES, INDEX, LOG, KEY, LEASE = { KEYS[2], KEYS[3] }, KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local token, channel = ARGV[2], ARGV[7]
local head = open_head(ARGV[1])
local kinds = {}

local function refusal()
  if token ~= '' then
    if redis.call('GET', LEASE) ~= token then return 'lease' end
    if ARGV[4] ~= head.epoch then return 'epoch' end
    local since = tonumber(ARGV[3])
    if since < head.floor then return 'fence' end
    for i = 8, #KEYS do
      for g = 1, 2 do
        local fence = redis.call('HGET', FENCES[g], KEYS[i])
        if fence and tonumber(fence) > since then return 'fence' end
      end
    end
  end
  for i = 8, #KEYS do
    local kind = redis.call('TYPE', KEYS[i]).ok
    if KEYS[i] == KEY or kind ~= 'none' and kind ~= 'zset' and kind ~= 'set' then return 'tag' end
    kinds[i] = kind
  end
  local kind = redis.call('TYPE', KEY).ok
  if kind ~= 'none' and kind ~= 'string' then return 'type' end
end

local function enter(tag, kind, now, expiry)
  if kind == 'set' then -- another application's plain set: keep its kind, and keep it as long as the member
    redis.call('SADD', tag, KEY)
    redis.call('PEXPIREAT', tag, string.format('%d', expiry), 'GT')
    return
  end
  redis.call('ZADD', tag, 'GT', expiry, KEY)
  if kind == 'none' then
    redis.call('ZADD', INDEX, expiry, tag)
    return
  end
  local gone = redis.call('ZRANGEBYSCORE', tag, '-inf', '(' .. string.format('%d', now), 'LIMIT', 0, 10)
  if #gone > 0 then redis.call('ZREM', tag, unpack(gone)) end
  -- A set that another application made, or gave a time to live, must last as long as its members.
  local ttl = redis.call('PTTL', tag)
  if ttl >= 0 then
    redis.call('PERSIST', tag)
    redis.call('ZADD', INDEX, math.max(expiry, now + ttl), tag)
  end
end

local why = refusal()
if why then
  if channel ~= '' and why ~= 'type' then redis.call('UNLINK', KEY, LEASE) end
else
  local now = now_ms()
  local expiry = now + tonumber(ARGV[6])
  -- The very millisecond of the score: a member that went before its key would leave it behind.
  redis.call('SET', KEY, ARGV[5], 'PXAT', string.format('%d', expiry))
  for i = 8, #KEYS do enter(KEYS[i], kinds[i], now, expiry) end
  sweep(INDEX, now, 2)
end
if token == '' or redis.call('GET', LEASE) == token then redis.call('DEL', LEASE) end
if channel ~= '' then
  head.seq = redis.call('HINCRBY', HEAD, 'seq', 1)
  local message = string.format('{"v":1,"ns":%s,"epoch":"%s","seq":%d,%s', ARGV[10], head.epoch, head.seq, ARGV[8])
  append_log(LOG, head.seq, ARGV[9], message)
  redis.call('PUBLISH', channel, message)
end
if why then return { 'refused', why, head.seq, head.epoch } end
return { 'stored', head.seq, head.epoch }

-- Stands before every other script: what all of them share. KEYS[1] is always the head hash.
--
-- head: epoch  random text, made once; another epoch means another history
--       seq    number of the last broadcast
--       beat   counter the agents raise
--       fgen   generation of the fences; hash fgen % 2 takes new ones, the other holds the generation before
--       fstart seq from which the current generation is complete
--       floor  seq from which both generations together are complete: a fill that began before it is refused
--       fsince server time in ms at which the current generation began; steers memory only, never safety

local HEAD = KEYS[1]

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Reads the head; makes it, with the epoch the caller offers, where there is none.
local function open_head(new_epoch)
  local f = redis.call('HMGET', HEAD, 'epoch', 'seq', 'fgen', 'fstart', 'floor', 'fsince')
  if not f[1] then
    local now = now_ms()
    redis.call('HSET', HEAD, 'epoch', new_epoch, 'seq', 0, 'fgen', 0, 'fstart', 0, 'floor', 0, 'fsince', now)
    return { epoch = new_epoch, seq = 0, fgen = 0, fstart = 0, floor = 0, fsince = now }
  end
  return { epoch = f[1], seq = tonumber(f[2]), fgen = tonumber(f[3]), fstart = tonumber(f[4]),
           floor = tonumber(f[5]), fsince = tonumber(f[6]) }
end

-- The first broadcast of a history: what an older one left in the log has ids that would stand in the way.
local function append_log(log, seq, max_length, message)
  if seq == 1 then redis.call('UNLINK', log) end
  redis.call('XADD', log, 'MAXLEN', '~', max_length, string.format('%d-0', seq), 'm', message)
end

-- Removes tag sets whose every member has expired. `index` is a sorted set: tag set -> when to look at it again.
local function sweep(index, now, limit)
  local due = redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, limit)
  for _, tag in ipairs(due) do
    local last
    if redis.call('TYPE', tag).ok == 'zset' then
      last = redis.call('ZRANGE', tag, -1, -1, 'WITHSCORES')[2]
    end
    if last and tonumber(last) >= now then -- a key lives through the millisecond of its expiry
      redis.call('ZADD', index, last, tag)
    else
      if last then redis.call('UNLINK', tag) end
      redis.call('ZREM', index, tag)
    end
  end
  return #due
end

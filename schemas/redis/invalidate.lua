#!lua flags=allow-oom
-- Invalidates one batch: fence the tags, delete their members, delete the named keys with their leases, then, as the
-- last step, number, log and publish the broadcasts and raise `applied`. One call deletes at most ARGV[4] members; when
-- that is not enough it stops before the last step and says which tag to go on with. It may run when Redis is out of
-- memory: it is what frees some.
-- KEYS  1 head  2 fences of even generations  3 of odd ones  4 log  5 applied
-- ARGV  1 new epoch  2 expected epoch, or ""  3 channel  4 members a call  5 log length  6 longest hash of fences
--       7 age in ms after which fences rotate  8 "members" to broadcast the deleted members too, or ""
--       9 flags: "all" to refuse every fill begun before (flush, patterns), or ""  10 number of tag sets  11 of keys
--       12 of broadcasts  13 of partitions  14 namespace as JSON
--       then the tag sets; key, lease pairs; broadcasts, each the rest of the JSON object from "keys", "tags",
--       "patterns" or "flush" on, with the closing brace; partitions as field, from, next.
--       `from` is where this batch begins: if Redis has applied less, it lost state or an earlier batch is
--       missing, and nothing is done. from = -1 asks nothing.
-- Returns {"done", seq, epoch, members deleted, keys deleted, tag sets of another type}
--       | {"more", index of the tag to go on with (from 1), epoch, members deleted}
--       | {"behind", field, applied or -1, epoch} | {"epoch", epoch}
local FENCES, LOG, APPLIED = { [0] = KEYS[2], KEYS[3] }, KEYS[4], KEYS[5]
local channel, budget = ARGV[3], tonumber(ARGV[4])
local ntags, nkeys, nparts, npartitions = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local TAGS = 14
local NAMED = TAGS + ntags
local PARTS = NAMED + 2 * nkeys
local PARTITIONS = PARTS + nparts

local head = open_head(ARGV[1])
if ARGV[2] ~= '' and ARGV[2] ~= head.epoch then return { 'epoch', head.epoch } end

-- redis.call(cmd, first, ...) over a list of any length: Lua's stack holds some 8000 values.
local function call_chunked(cmd, first, list)
  local n = 0
  for i = 1, #list, 1000 do
    local last = math.min(i + 999, #list)
    if first then n = n + redis.call(cmd, first, unpack(list, i, last))
    else n = n + redis.call(cmd, unpack(list, i, last)) end
  end
  return n
end

local raise = {}
if npartitions > 0 then
  for i = 1, npartitions do
    local field, from, upto = ARGV[PARTITIONS + 3 * i - 2], tonumber(ARGV[PARTITIONS + 3 * i - 1]), ARGV[PARTITIONS + 3 * i]
    local have = tonumber(redis.call('HGET', APPLIED, field) or -1)
    if from >= 0 and have < from then return { 'behind', field, have, head.epoch } end
    if tonumber(upto) > have then
      raise[#raise + 1] = field
      raise[#raise + 1] = upto
    end
  end
end

if ARGV[9] == 'all' then redis.call('HSET', HEAD, 'floor', head.seq + 1) end

-- Fences: rotated by size and age, so that their memory is bounded; a fill older than both generations is refused.
if ntags > 0 then
  local current = FENCES[head.fgen % 2]
  local full = redis.call('HLEN', current) >= tonumber(ARGV[6])
  local now = now_ms()
  if full or now - head.fsince > tonumber(ARGV[7]) or now < head.fsince then
    redis.call('HSET', HEAD, 'fgen', head.fgen + 1, 'fsince', now, 'fstart', head.seq + 1,
               'floor', math.max(head.floor, head.fstart))
    current = FENCES[(head.fgen + 1) % 2]
    redis.call('UNLINK', current)
  end
  local fences, fence = {}, head.seq + 1
  for i = 1, ntags do
    fences[2 * i - 1] = ARGV[TAGS + i]
    fences[2 * i] = fence
  end
  call_chunked('HSET', current, fences)
end

-- Counted by hand: the # of a list that grows takes a search each time, 5 % of the whole script.
local names_members = ARGV[8] == 'members'
local doomed, doomed_count, members, members_count, foreign = {}, 0, {}, 0, 0
local stopped_at

-- Takes up to what the budget leaves of a tag set. False: there is more.
local function collect(tag)
  local left = budget - members_count
  if left <= 0 then return false end
  local kind = redis.call('TYPE', tag).ok
  local found, whole
  if kind == 'zset' then
    found = redis.call('ZRANGE', tag, 0, left) -- one more than may go tells whether there are more
    whole = #found <= left
    if not whole then
      found[left + 1] = nil
      redis.call('ZREMRANGEBYRANK', tag, 0, left - 1)
    end
  elseif kind == 'set' then
    whole = redis.call('SCARD', tag) <= left
    if whole then found = redis.call('SMEMBERS', tag) else found = redis.call('SPOP', tag, left) end
  else
    if kind ~= 'none' then foreign = foreign + 1 end
    return true
  end
  local n = #found
  for j = 1, n do doomed[doomed_count + j] = found[j] end
  if names_members then
    for j = 1, n do members[members_count + j] = found[j] end
  end
  members_count = members_count + n
  doomed_count = doomed_count + n
  if whole then
    doomed_count = doomed_count + 1
    doomed[doomed_count] = tag
  end
  return whole
end

for i = 1, ntags do
  if not collect(ARGV[TAGS + i]) then
    stopped_at = i
    break
  end
end
if doomed_count > 0 then call_chunked('UNLINK', nil, doomed) end

local seq = head.seq
local function broadcast(rest)
  seq = seq + 1
  local message = '{"v":1,"ns":' .. ARGV[14] .. ',"epoch":"' .. head.epoch .. '","seq":' .. string.format('%d', seq) .. ',' .. rest
  append_log(LOG, seq, ARGV[5], message)
  redis.call('PUBLISH', channel, message)
end

-- On request the members go out by name too, for subscribers that keep no tag index. A name with bytes beyond ASCII,
-- or too long for one message, is left out here: its tag is broadcast all the same.
if names_members then
  local names, bytes = {}, 0
  for i = 1, #members do
    if not string.find(members[i], '[\128-\255]') then
      local name = cjson.encode(members[i])
      if #name > 60000 then name = nil end
      if name and bytes + #name > 60000 then
        broadcast('"keys":[' .. table.concat(names, ',') .. ']}')
        names, bytes = {}, 0
      end
      if name then
        names[#names + 1] = name
        bytes = bytes + #name + 1
      end
    end
  end
  if #names > 0 then broadcast('"keys":[' .. table.concat(names, ',') .. ']}') end
end

if stopped_at then
  if seq > head.seq then redis.call('HSET', HEAD, 'seq', string.format('%d', seq)) end
  return { 'more', stopped_at, head.epoch, members_count }
end

local named = 0
if nkeys > 0 then
  local list = {}
  for i = 1, 2 * nkeys do list[i] = ARGV[NAMED + i] end
  named = call_chunked('UNLINK', nil, list)
end
for i = 1, nparts do broadcast(ARGV[PARTS + i]) end
if seq > head.seq then redis.call('HSET', HEAD, 'seq', string.format('%d', seq)) end
if #raise > 0 then call_chunked('HSET', APPLIED, raise) end
return { 'done', seq, head.epoch, members_count, named, foreign }

#!lua flags=allow-oom
-- Keep the claims that the caller knows, free those whose lease is over, tidy up, and tell what
-- is there.
--
-- Own claims come first, so that nobody frees what it is holding itself. They are named one by
-- one: one whose answer was lost is not, and ends with its lease, whoever made it. What is freed
-- is due since it was accepted, so that it goes before what came later. A claim of a kind that
-- this caller has no queue for, as a newer version makes it, is left to others.
--
-- It says too which kinds are handled (`seen`), and, where all was lost, whose home this is.
--
-- Twice for one call: the second run finds nothing to do.
--
-- On a full server too: by this it becomes empty.
--
-- KEYS  letters, waiting, claimed, claims, seen, ended, dead, reasons, home, then all queues
-- ARGV  lease, how long an id is kept, how many are, how many to free and to forget at once,
--       digests and claims (both MessagePack: texts, and pairs of id and claim), then for each
--       queue its kind, and 1 where the caller handles it
-- Gives now, how many wait, when the oldest was accepted or -1, the time until the next that is
-- for the caller is due or -1.

local letters, waiting, claimed, claims, seen = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ended, dead, reasons, home = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local lease, keep, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local at_once = tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local queues, ours = {}, {}
for number = 10, #KEYS do
  local kind, is_ours = ARGV[2 * number - 13], ARGV[2 * number - 12]
  queues[kind], ours[kind] = KEYS[number], is_ours == '1'
  if ours[kind] then redis.call('ZADD', seen, now, kind) end
end
redis.call('ZREMRANGEBYSCORE', seen, '-inf', '(' .. string.format('%.0f', now - keep))

if redis.call('SCARD', home) == 0 then
  for _, digest in ipairs(cmsgpack.unpack(ARGV[5])) do redis.call('SADD', home, digest) end
end

for _, pair in ipairs(cmsgpack.unpack(ARGV[6])) do
  local id, claim = pair[1], pair[2] .. ' '
  local held = redis.call('HGET', claims, id)
  if held and held:sub(1, #claim) == claim then redis.call('ZADD', claimed, now + lease, id) end
end

local over = redis.call('ZRANGE', claimed, '-inf', now, 'BYSCORE', 'LIMIT', 0, at_once)
for _, id in ipairs(over) do
  local held = redis.call('HGET', claims, id) or ''
  local accepted, kind = held:match(' (%d+) (.+)$')
  local queue = queues[kind or '*']
  if queue then
    if redis.call('HEXISTS', letters, id) == 1 then
      redis.call('ZADD', queue, tonumber(accepted) or now, id)
      redis.call('ZADD', waiting, tonumber(accepted) or now, id)
    end
    redis.call('ZREM', claimed, id)
    redis.call('HDEL', claims, id)
  end
end

local old = redis.call('ZCOUNT', ended, '-inf', now - keep)
local forget = math.min(math.max(old, redis.call('ZCARD', ended) - most), at_once)
if forget > 0 then
  for _, id in ipairs(redis.call('ZRANGE', ended, 0, forget - 1)) do
    redis.call('ZREM', ended, id)
    redis.call('HDEL', dead, id)
    redis.call('HDEL', reasons, id)
  end
end

local pause = -1
for kind, queue in pairs(queues) do
  if ours[kind] or not redis.call('ZSCORE', seen, kind) then
    local due = tonumber(redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')[2])
    if due and (pause < 0 or due - now < pause) then pause = math.max(0, due - now) end
  end
end
local oldest = tonumber(redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')[2]) or -1
return {now, redis.call('ZCARD', waiting), oldest, pause}

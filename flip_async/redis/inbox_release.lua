#!lua flags=allow-oom
-- Webhooks wait again: now, or, where they failed, after a pause that the client measured.
--
-- Only of the claim that is named: what somebody else has claimed since is left alone.
--
-- Twice for one call: the second run finds no claim of this name.
--
-- On a full server too: what was claimed is there already.
--
-- KEYS  letters, failures, waiting, claimed, claims, then queues
-- ARGV  for each webhook its id, the claim, the number of its queue among those given, and the
--       pause, or nothing where it did not fail

local letters, failures, waiting, claimed, claims = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function count_failure(id)
  local counted = redis.pcall('HINCRBY', failures, id, 1)
  -- A damaged count fails alone: others share this trip.
  if type(counted) == 'table' then redis.call('HSET', failures, id, 1) end
end

for at = 1, #ARGV, 4 do
  local id, claim, pause = ARGV[at], ARGV[at + 1] .. ' ', tonumber(ARGV[at + 3])
  local queue = KEYS[5 + tonumber(ARGV[at + 2])]
  local held = redis.call('HGET', claims, id)
  if held and held:sub(1, #claim) == claim then
    if redis.call('HEXISTS', letters, id) == 1 then
      if pause then count_failure(id) end
      redis.call('ZADD', queue, now + (pause or 0), id)
      redis.call('ZADD', waiting, tonumber(held:match(' (%d+) ')) or now, id)
    end
    redis.call('ZREM', claimed, id)
    redis.call('HDEL', claims, id)
  end
end
return 1

#!lua flags=allow-oom
-- Webhooks are handled, or given up: of the first their ids stay, of the second all.
--
-- Also what somebody else has claimed since, or waits again: it is done, and need not be done
-- twice. An id that has no letter any more, as after a restart that lost all, is remembered too.
--
-- `ended` is bounded: each end forgets ids that are too old, or the oldest where there are too
-- many. What was given up stays as long as its id, in `dead` and `reasons`.
--
-- Twice for one call: an id that has ended has ended when it first did.
--
-- On a full server too, or it would stay full.
--
-- KEYS  letters, failures, waiting, claimed, claims, ended, dead, reasons, then queues
-- ARGV  how long an id is kept, how many are, `handled` or `dead`, the reason, then for each
--       webhook its id and the number of its queue among those given

local letters, failures, waiting, claimed, claims = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ended, dead, reasons = KEYS[6], KEYS[7], KEYS[8]
local keep, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local is_dead, reason = ARGV[3] == 'dead', ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

for at = 5, #ARGV, 2 do
  local id, queue = ARGV[at], KEYS[8 + tonumber(ARGV[at + 1])]
  local record = is_dead and redis.call('HGET', letters, id)
  if record then
    redis.call('HSET', dead, id, record)
    redis.call('HSET', reasons, id, reason)
  end
  redis.call('ZADD', ended, 'NX', now, id)
  redis.call('ZREM', queue, id)
  redis.call('ZREM', waiting, id)
  redis.call('ZREM', claimed, id)
  redis.call('HDEL', claims, id)
  redis.call('HDEL', failures, id)
  redis.call('HDEL', letters, id)
end

local old = redis.call('ZCOUNT', ended, '-inf', now - keep)
local forget = math.min(math.max(old, redis.call('ZCARD', ended) - most), #ARGV)
if forget > 0 then
  for _, id in ipairs(redis.call('ZRANGE', ended, 0, forget - 1)) do
    redis.call('ZREM', ended, id)
    redis.call('HDEL', dead, id)
    redis.call('HDEL', reasons, id)
  end
end
return 1

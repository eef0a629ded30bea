#!lua flags=no-writes
-- What is kept of a token, and Redis's time.
--
-- The age of a token counts by this clock alone [F8]: whoever wrote it and whoever reads it may
-- have clocks that are an hour apart. It only reads, so that a full Redis and a read-only replica
-- give it too, and a second run changes nothing.
--
-- KEYS  1 the token
-- Gives the value, which begins with the time from which its life counts (see token_save), and
-- the time now, both times in milliseconds; nothing where there is none.

local value = redis.call('GET', KEYS[1])
if not value then
  return false
end
local now = redis.call('TIME')
return {value, string.format('%d', now[1] * 1000 + math.floor(now[2] / 1000))}

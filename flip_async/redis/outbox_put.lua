#!lua
-- Keeps points, all that are given or none of them. Not on a full Redis: it has no `allow-oom`.
--
-- A chunk is one record of up to 1,000 points that were put together: a name, which its client
-- chose and nobody chooses again, facts, and a payload that no script reads. A point's id is its
-- chunk's base plus an offset within the payload; those of one put follow each other. The base is
-- the time in microseconds, or one more than the last id where that is more: so ids grow, also
-- after a Redis that lost some of its data, where a mere count would give ids a second time.
--
-- It may run twice for one call: what came of an owner's last trip is remembered.
--
-- KEYS  counts chunks facts trips, then the waiting ones of each lane
-- ARGV  owner, number of the trip, most points, most bytes (-1: no limit), points and bytes of
--       this trip, then of each chunk: name, lane, lowest offset, points, bytes, payload.
--       Without points it tells only what there is room for.
-- Gives {1, base, 1 where it is full now}, or {0, room in points, room in bytes}.

local counts, chunks, facts, trips = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local owner, trip = ARGV[1], ARGV[2]
local most_points, most_bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local new_points, new_bytes = tonumber(ARGV[5]), tonumber(ARGV[6])

local done = redis.call('HGET', trips, owner)
if done then
  local number, base, full = done:match('^(%S+) (%S+) (%S+)$')
  if number == trip then return {1, tonumber(base), tonumber(full)} end
end

local held = redis.call('HMGET', counts, 'points', 'bytes', 'last_id')
local points, bytes = tonumber(held[1] or 0), tonumber(held[2] or 0)
local room = math.max(0, most_points - points)
local room_bytes = most_bytes < 0 and new_bytes or math.max(0, most_bytes - bytes)
if new_points == 0 or new_points > room or new_bytes > room_bytes then
  return {0, room, room_bytes}
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local base = math.max(tonumber(held[3] or 0) + 1, now)
for at = 7, #ARGV, 6 do
  local name, lane, low, count, size = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  redis.call('HSET', chunks, name, ARGV[at + 5])
  redis.call('HSET', facts, name,
    string.format('- %s 0 %s %.0f %s %s %.0f', lane, low, base, count, size, now))
  redis.call('ZADD', KEYS[4 + lane], base + low, name)
end
points, bytes = points + new_points, bytes + new_bytes
redis.call('HSET', counts, 'points', points, 'bytes', bytes, 'last_id', base + new_points - 1)
redis.call('HINCRBY', counts, 'waiting', new_points)
local full = (points >= most_points or (most_bytes >= 0 and bytes >= most_bytes)) and 1 or 0
redis.call('HSET', trips, owner, string.format('%s %.0f %d', trip, base, full))
return {1, base, full}

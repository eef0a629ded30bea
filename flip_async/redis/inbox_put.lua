#!lua
-- Keep webhooks, each once for its id.
--
-- A letter is a record that the client made, in one hash by the webhook's id, and is never
-- changed. One that waits is in two sorted sets besides: the queue of its kind, by when it is
-- due, and `waiting`, by when it was accepted. One that was handled or given up is an id in
-- `ended`, by when that was. So an id is known where it has a letter or has ended.
--
-- The letter is written last: where a key before it is of a wrong type, the id is not known
-- afterwards, and comes again.
--
-- All times are microseconds of this server's clock, whole numbers that a double holds exactly.
-- Those of one call are a microsecond apart, which keeps their order.
--
-- Twice for one call: a record has an id of its put in it, so that the same record is told to be
-- new again, and nothing else is.
--
-- Not on a full server: it must be able to become empty first.
--
-- KEYS  letters, ended, waiting, then queues
-- ARGV  for each webhook its id, the number of its queue among those given, its record
-- Gives for each 1 where it is new, else 0.

local letters, ended, waiting = KEYS[1], KEYS[2], KEYS[3]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local count = #ARGV / 3
local answers = {}

for number = 1, count do
  local id, record = ARGV[3 * number - 2], ARGV[3 * number]
  local queue = KEYS[3 + tonumber(ARGV[3 * number - 1])]
  local kept = redis.call('HGET', letters, id)
  if kept then
    answers[number] = kept == record and 1 or 0
  elseif redis.call('ZSCORE', ended, id) then
    answers[number] = 0
  else
    local accepted = now - count + number
    redis.call('ZADD', queue, accepted, id)
    redis.call('ZADD', waiting, accepted, id)
    redis.call('HSET', letters, id, record)
    answers[number] = 1
  end
end
return answers

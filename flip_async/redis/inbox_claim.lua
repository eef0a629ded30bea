#!lua flags=allow-oom
-- Give webhooks that are due to one owner, the oldest first.
--
-- The queues are one for each kind of event. Those count that the caller handles, and those that
-- nobody has handled for as long as ids are kept (`seen` has when a kind was handled last): they
-- are passed over by whoever comes. Their heads are merged by when they are due.
--
-- What is given leaves its queue and `waiting`. It is in `claimed`, by the end of its lease, and
-- in `claims`, where `claim accepted kind` says whose it is and how it goes back. It is put there
-- before it leaves: where a key is of a wrong type, it is in one place too many, not in none.
--
-- Bounded by a number and by bytes, since the answer is one. What is left is told by the time
-- until the next is due, which is 0 then.
--
-- Twice for one call: what the first run gave stays with a claim that nobody renews, and comes
-- back when its lease is over; the second gives what is left.
--
-- On a full server too, or it would stay full.
--
-- KEYS  letters, failures, waiting, claimed, claims, seen, then all queues
-- ARGV  claim, most, most bytes, lease, how long a kind counts as handled, then for each queue
--       its kind, and 1 where the caller handles it
-- Gives now, the time until the next is due or -1, and of each webhook id, record, when it was
-- accepted, failures.

local PAGE = 100
local letters, failures, waiting = KEYS[1], KEYS[2], KEYS[3]
local claimed, claims, seen = KEYS[4], KEYS[5], KEYS[6]
local claim, most, most_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local lease, keep = tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function turn_page(queue)
  queue.page = redis.call(
    'ZRANGE', queue.key, '-inf', now, 'BYSCORE', 'LIMIT', 0, PAGE, 'WITHSCORES')
  queue.at = 1
end

local function is_nobodys(kind)
  local seen_at = redis.call('ZSCORE', seen, kind)
  return not seen_at or tonumber(seen_at) < now - keep
end

local queues = {}
for number = 7, #KEYS do
  local kind, is_ours = ARGV[2 * number - 8], ARGV[2 * number - 7]
  if is_ours == '1' or is_nobodys(kind) then
    queues[#queues + 1] = {key = KEYS[number], kind = kind}
    turn_page(queues[#queues])
  end
end

local function first_queue()
  local first, first_due
  for _, queue in ipairs(queues) do
    if queue.at > 2 * PAGE then turn_page(queue) end  -- what was on the last one is gone
    local due = tonumber(queue.page[queue.at + 1])
    if due and (not first or due < first_due) then first, first_due = queue, due end
  end
  return first
end

local given, bytes = {}, 0
while #given < 4 * most and bytes < most_bytes do
  local queue = first_queue()
  if not queue then break end
  local id = queue.page[queue.at]
  queue.at = queue.at + 2
  local record = redis.call('HGET', letters, id)
  local accepted = tonumber(redis.call('ZSCORE', waiting, id) or now)
  if record then
    given[#given + 1] = id
    given[#given + 1] = record
    given[#given + 1] = accepted
    given[#given + 1] = tonumber(redis.call('HGET', failures, id) or 0) or 0
    bytes = bytes + #record
    redis.call('ZADD', claimed, now + lease, id)
    redis.call('HSET', claims, id, string.format('%s %.0f %s', claim, accepted, queue.kind))
  end
  redis.call('ZREM', queue.key, id)
  redis.call('ZREM', waiting, id)
end

local pause = -1
for _, queue in ipairs(queues) do
  local due = tonumber(redis.call('ZRANGE', queue.key, 0, 0, 'WITHSCORES')[2])
  if due and (pause < 0 or due - now < pause) then pause = math.max(0, due - now) end
end
return {now, pause, given}

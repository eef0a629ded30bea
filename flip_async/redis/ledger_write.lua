#!lua
-- Write entries, each where its revision is still the one that was read.
--
-- One that is to be taken in hand is not written where another owner has it; one that is not to be
-- in hand is let go where the owner has it, and stays another owner's where that one has it.
-- Run a second time for the same call it writes nothing: the revision has grown.
-- A full server runs it for commands that it knows, and takes no new ones.
--
-- KEYS: entries, holders, leases, ends.
-- ARGV: owner, lease in ms, most entries, then for each entry: command, revision, content,
--       '1' to take it in hand or '0', how long to remember it in ms.
-- Gives for each 1 where it was written, else 0.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local owner, lease, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local function is_in_hand(command)
  return tonumber(redis.call('ZSCORE', KEYS[3], command) or 0) > now
end

local function forget(command)
  redis.call('HDEL', KEYS[1], command)
  redis.call('HDEL', KEYS[2], command)
  redis.call('ZREM', KEYS[3], command)
  redis.call('ZREM', KEYS[4], command)
end

local function forget_some(commands)
  for _, command in ipairs(commands) do
    if not is_in_hand(command) then
      forget(command)
    end
  end
end

local answer = {}
for i = 4, #ARGV, 5 do
  local command, revision, content = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local takes, keep = ARGV[i + 3] == '1', tonumber(ARGV[i + 4])
  local entry = redis.call('HGET', KEYS[1], command) or '0:'
  local is_latest = entry:sub(1, #revision + 1) == revision .. ':'
  local is_others = is_in_hand(command) and redis.call('HGET', KEYS[2], command) ~= owner
  if is_latest and not (takes and is_others) then
    redis.call('HSET', KEYS[1], command, string.format('%d:', revision + 1) .. content)
    redis.call('ZADD', KEYS[4], now + keep, command)
    if takes then
      redis.call('HSET', KEYS[2], command, owner)
      redis.call('ZADD', KEYS[3], now + lease, command)
    elseif not is_others then
      redis.call('HDEL', KEYS[2], command)
      redis.call('ZREM', KEYS[3], command)
    end
    answer[#answer + 1] = 1
  else
    answer[#answer + 1] = 0
  end
end

forget_some(redis.call('ZRANGE', KEYS[4], '-inf', now, 'BYSCORE', 'LIMIT', 0, 100))
local over = redis.call('ZCARD', KEYS[4]) - most
if over > 0 then
  forget_some(redis.call('ZRANGE', KEYS[4], 0, math.min(over, 100) - 1))
end
return answer

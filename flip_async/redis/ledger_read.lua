#!lua flags=allow-oom
-- What there is of each command, and who has it in hand.
--
-- The model, of this and the other scripts of the ledger:
--   entries   hash, command -> revision .. ':' .. content; what the content says is the client's
--             business, which changes it only where it has read the latest revision
--   holders   hash, command -> who has it in hand
--   leases    sorted set, command -> until when that holds, in ms of this server's time
--   ends      sorted set, command -> when it may be forgotten, likewise
--   leader    string, who lists commands for all; with a life time, since its loss costs a list
-- A command is in hand where its lease is not over. A holder whose lease is over is left in place
-- until somebody takes the command: it may renew, where nobody has.
--
-- KEYS: entries, holders, leases. ARGV: owner, command ...
-- Gives for each command its entry (or false) and 0 (nobody has it), 1 (the owner), 2 (another).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer = {}
for i = 2, #ARGV do
  local command = ARGV[i]
  local held = 0
  local until_ms = tonumber(redis.call('ZSCORE', KEYS[3], command) or 0)
  if until_ms > now then
    held = redis.call('HGET', KEYS[2], command) == ARGV[1] and 1 or 2
  end
  answer[#answer + 1] = redis.call('HGET', KEYS[1], command)
  answer[#answer + 1] = held
end
return answer

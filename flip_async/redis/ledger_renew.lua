#!lua flags=allow-oom
-- Renew what an owner has in hand, and tell of which commands there is news.
--
-- News of a held one: it is not the owner's any more, or somebody has changed its entry, since a
-- newer version was offered to him. News of an awaited one: it is nobody's any more, or its entry
-- has changed. Only claims that the owner names are renewed: one whose answer was lost is not known
-- to it, and ends with its lease.
--
-- KEYS: entries, holders, leases. ARGV: owner, lease in ms, how many are held, then for each of the
-- held, and after them of the awaited: command, revision. Gives the commands of which there is news.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local owner, lease, held = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local news = {}
for i = 4, #ARGV, 2 do
  local command, revision = ARGV[i], ARGV[i + 1]
  local entry = redis.call('HGET', KEYS[1], command) or '0:'
  local has_changed = entry:sub(1, #revision + 1) ~= revision .. ':'
  local is_owners = redis.call('HGET', KEYS[2], command) == owner
  if i < 4 + 2 * held then
    if is_owners then
      redis.call('ZADD', KEYS[3], now + lease, command)
    end
    if has_changed or not is_owners then
      news[#news + 1] = command
    end
  elseif has_changed or tonumber(redis.call('ZSCORE', KEYS[3], command) or 0) <= now then
    news[#news + 1] = command
  end
end
return news

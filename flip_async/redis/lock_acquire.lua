#!lua
-- Take a lock, or renew it where the owner has it; nobody waits.
-- KEYS: the lock. ARGV: owner, lease in ms. Gives 1 where the owner has it, else 0.
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1

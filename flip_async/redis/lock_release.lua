#!lua flags=allow-oom
-- Give a lock back, where the owner has it still.
-- KEYS: the lock. ARGV: owner.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 0

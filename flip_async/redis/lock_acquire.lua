#!lua
-- Take a lock, or make one's own last longer: that of a token [F2], or that of the processor which
-- lists commands for all [F7].
--
-- It is one key with its owner's random id, which Redis drops when its lease ends: an owner that
-- dies holds nobody up for longer. Its owner is who asks, so that a second run of the script for
-- one call says the same. Look and take are one step, as nothing runs beside a script. On a full
-- Redis it fails: each process then has a token of its own, and none lists commands.
--
-- KEYS  1 the lock
-- ARGV  1 who asks   2 the lease in milliseconds
-- Gives 1 where it is had, 0 where somebody else has it.

local owner = redis.call('GET', KEYS[1])
if owner == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end
if owner then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1

#!lua flags=allow-oom
-- Give a lock back, where it is still this owner's.
--
-- Compared and dropped in one step: a lock that ended meanwhile may be another's. A second run
-- finds nothing to do. It works on a full Redis, or a failed token request would hold up others.
--
-- KEYS  1 the lock
-- ARGV  1 who gives it back

if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end

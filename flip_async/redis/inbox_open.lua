#!lua flags=allow-oom
-- Whose home this is: whoever has one of its keys may come in, and brings new ones.
--
-- Twice for one call: the second run finds what the first brought.
--
-- On a full server too: who comes helps to empty it.
--
-- KEYS  home
-- ARGV  digests of signing keys
-- Gives 1 where the caller may come in, else 0.

local home = KEYS[1]
local is_home = redis.call('SCARD', home) == 0
for _, digest in ipairs(ARGV) do
  is_home = is_home or redis.call('SISMEMBER', home, digest) == 1
end
if not is_home then return 0 end
for _, digest in ipairs(ARGV) do redis.call('SADD', home, digest) end
return 1

#!lua
-- Keep a token in place of the one that is there, for as long as it lives.
--
-- The value is the moment from which its life counts, in milliseconds of Redis's own clock [F8],
-- a colon, and what the client wrote. Run twice, the later moment counts, by as much as the two
-- runs are apart: no more than the 2 s that a command has, which readers' margin covers. It has a
-- TTL because it need not stay: whoever finds none asks for another. On a full Redis it fails.
--
-- KEYS  1 the token
-- ARGV  1 what the client wrote   2 the token's age in milliseconds   3 what is left of its life

local now = redis.call('TIME')
local issued = now[1] * 1000 + math.floor(now[2] / 1000) - tonumber(ARGV[2])
redis.call('SET', KEYS[1], string.format('%d:', issued) .. ARGV[1], 'PX', ARGV[3])

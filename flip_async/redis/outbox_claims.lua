#!lua flags=allow-oom
-- Who works on which chunks of points; see outbox_put.lua for what a chunk is.
--
-- A chunk waits or is claimed. One that waits is a member of its lane's `waiting`, by its lowest
-- id, or of `refused`, where order does not matter and a batch with it was refused. One that is
-- claimed is a member of its lane's `claimed`, and names its claim in its facts. Where order
-- matters there are several lanes, a device is always in the same one, and a lane of which
-- something is claimed gives nothing more: so no point overtakes another one of its device, and
-- other lanes go on. Without order there is one lane, which always gives.
--
-- A claim is some chunks that were given together. Its id begins with its owner's, which the
-- client chose, and ends with its length in microseconds; `leases` has when it ends. `claims` has
-- what was given (names, and how many points of each were wanted), and, under `n:`, how many of
-- these are claimed still: with the last of them it is forgotten. Who renews names claims of
-- which it got the answer, so that one whose answer was lost ends with its lease. A lease that
-- ends later than its own length from now was written by another clock: it counts from now.
--
-- A record only ever becomes smaller, and its name is never given again: so whoever has sent all
-- points that it ever had of a name may delete it, whoever has claimed it since. Anything else is
-- done only by the claim that holds it.
--
-- It may run twice for one call: a claim that is known gives the same again; a change that was
-- made finds nothing to do.
--
-- KEYS  counts chunks facts claims leases refused dead_letters trips owners, then `waiting` of
--       each lane, then `claimed` of each lane
-- ARGV  what to do, the length of a lease in microseconds, and:
--   claim   claim, most points, claims to keep …
--   renew   owner, 1 where it leaves, how many claims to keep, these …, claims to give up …
--   change  changes, each of them a word and its arguments:
--             drop name                                  all its points are done
--             keep name claim POINTS                     these are left, and are claimed still
--             back name claim refused                    it waits again
--             part name claim refused POINTS name POINTS it keeps the first, the second wait
--             dead id record                             a point that nobody is given any more
--           where POINTS are: lowest offset, points, bytes, payload
-- `claim` and `renew` give what there is: {points that wait, when the oldest of them was accepted,
-- lowest id, points, bytes, now, last id}, 0 for none; and what was claimed, a list of {name,
-- base, when accepted, 1 where refused, points that are wanted of it, payload}. `change` gives how
-- many points more wait now.

local call = redis.call
local counts, chunks, facts, claims, leases = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local refused, dead_letters, trips, owners = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local lanes = (#KEYS - 9) / 2
local lease = tonumber(ARGV[2])
local time = call('TIME')
local now = time[1] * 1000000 + time[2]

local PAGE = 50          -- names that are read at once
local FREED_AT_ONCE = 10 -- dead claims that one call may free
local DAY = 86400 * 1000000

local function waiting(lane) return KEYS[9 + lane] end
local function claimed(lane) return KEYS[9 + lanes + lane] end

-- Counts are added up here, and written once.
local more = {points = 0, bytes = 0, waiting = 0, refused = 0}
local function write_counts()
  for name, change in pairs(more) do
    if change ~= 0 then call('HINCRBY', counts, name, change) end
    more[name] = 0
  end
end

-- Facts of a chunk

local function facts_of(name)
  local text = call('HGET', facts, name)
  if not text then return nil end
  local claim, lane, bad, low, base, count, size, at =
    text:match('^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  return {
    claim = claim, lane = tonumber(lane), refused = bad == '1', low = tonumber(low),
    base = tonumber(base), count = tonumber(count), size = tonumber(size), at = tonumber(at),
  }
end

local function write_facts(name, f)
  call('HSET', facts, name, string.format('%s %d %d %d %.0f %d %d %.0f',
    f.claim, f.lane, f.refused and 1 or 0, f.low, f.base, f.count, f.size, f.at))
end

-- Waiting and claimed

local function line_of(f)
  if f.refused and lanes == 1 then return refused end
  return waiting(f.lane)
end

local function counts_as_waiting(f, sign)
  more.waiting = more.waiting + sign * f.count
  if f.refused then more.refused = more.refused + sign * f.count end
end

local function join_line(name, f)
  f.claim = '-'
  write_facts(name, f)
  call('ZADD', line_of(f), f.base + f.low, name)
  counts_as_waiting(f, 1)
end

local function leave_line(name, f)
  call('ZREM', line_of(f), name)
  counts_as_waiting(f, -1)
end

local function forget_claim(claim)
  call('HDEL', claims, claim, 'n:' .. claim)
  call('ZREM', leases, claim)
end

local function leave_claim(name, f)
  call('ZREM', claimed(f.lane), name)
  if call('HINCRBY', claims, 'n:' .. f.claim, -1) <= 0 then forget_claim(f.claim) end
end

local function is_held(f, claim) return f and f.claim == claim end

local function put_back(name, f)
  leave_claim(name, f)
  join_line(name, f)
end

local function free(claim)
  local given = call('HGET', claims, claim) or ''
  for name in given:gmatch('(%S+) %d+') do
    local f = facts_of(name)
    if is_held(f, claim) then put_back(name, f) end
  end
  forget_claim(claim)
end

-- Leases

local function extend(claim) call('ZADD', leases, 'XX', now + lease, claim) end

local function bound_leases()
  local far = call('ZRANGE', leases, string.format('(%.0f', now + lease), '+inf', 'BYSCORE',
    'LIMIT', 0, 100, 'WITHSCORES')
  for at = 1, #far, 2 do
    local claim, own_end = far[at], now + tonumber(far[at]:match('%d+$'))
    if tonumber(far[at + 1]) > own_end then call('ZADD', leases, own_end, claim) end
  end
end

local function free_dead_claims()
  local dead = call('ZRANGE', leases, '-inf', now, 'BYSCORE', 'LIMIT', 0, FREED_AT_ONCE)
  for _, claim in ipairs(dead) do free(claim) end
end

-- What there is

local function look()
  write_counts()
  local oldest, first
  local function head(line, is_waiting)
    local found = call('ZRANGE', line, 0, 0, 'WITHSCORES')
    local id = tonumber(found[2])
    if id and is_waiting and (not oldest or id < oldest.id) then oldest = {id = id, name = found[1]} end
    if id and (not first or id < first) then first = id end
  end
  for lane = 1, lanes do
    head(waiting(lane), true)
    head(claimed(lane), false)
  end
  if lanes == 1 then head(refused, true) end
  local held = call('HMGET', counts, 'waiting', 'points', 'bytes', 'last_id')
  local f = oldest and facts_of(oldest.name)
  return {
    oldest and tonumber(held[1] or 0) or 0, f and f.at or 0, first or 0,
    tonumber(held[2] or 0), tonumber(held[3] or 0), now, tonumber(held[4] or 0),
  }
end

-- Claiming

local given, list -- what this claim gives, and what is remembered of it

local function give(name, f, wanted)
  given[#given + 1] =
    {name, f.base, f.at, f.refused and 1 or 0, wanted, call('HGET', chunks, name) or ''}
end

local function hold(name, f, claim, wanted)
  leave_line(name, f)
  f.claim = claim
  write_facts(name, f)
  call('ZADD', claimed(f.lane), f.base + f.low, name)
  list[#list + 1] = name .. ' ' .. wanted
  give(name, f, wanted)
end

-- Whole chunks from the head of a line, as long as they fit. One that does not is cut, where
-- nothing else would be given: else what is larger than a share would wait for ever.
local function take(line, claim, most, may_cut)
  local taken = 0
  while taken < most do
    local names = call('ZRANGE', line, 0, PAGE - 1)
    if #names == 0 then return taken end
    for _, name in ipairs(names) do
      local f = facts_of(name)
      if not f then
        call('ZREM', line, name)
      else
        if taken + f.count > most and (taken > 0 or not may_cut) then return taken end
        local wanted = math.min(f.count, most - taken)
        hold(name, f, claim, wanted)
        taken = taken + wanted
        if taken >= most then return taken end
      end
    end
  end
  return taken
end

-- So much is left to what was refused: half, or what there is where that is less.
local function share_of_refused(most, has_refused)
  if not has_refused then return 0 end
  return math.min(tonumber(call('HGET', counts, 'refused') or 0), math.floor(most / 2))
end

local function claim_in_any_order(claim, most)
  local share = share_of_refused(most, true)
  local taken = take(waiting(1), claim, most - share, true)
  take(refused, claim, most - taken, true)
end

-- The lanes that may give, the one with the oldest point first; those that begin with what was
-- refused apart.
local function free_lanes()
  local fresh, bad = {}, {}
  for lane = 1, lanes do
    local head = call('ZRANGE', waiting(lane), 0, 0, 'WITHSCORES')
    if head[1] and call('ZCARD', claimed(lane)) == 0 then
      local f = facts_of(head[1])
      local kind = f and f.refused and bad or fresh
      kind[#kind + 1] = {line = waiting(lane), id = tonumber(head[2])}
    end
  end
  local function by_id(a, b) return a.id < b.id end
  table.sort(fresh, by_id)
  table.sort(bad, by_id)
  return fresh, bad
end

local function take_of_lanes(some, claim, most)
  local taken = 0
  for _, lane in ipairs(some) do
    if taken >= most then break end
    taken = taken + take(lane.line, claim, most - taken, taken == 0)
  end
  return taken
end

local function claim_in_order(claim, most)
  local fresh, bad = free_lanes()
  local taken = take_of_lanes(fresh, claim, most - share_of_refused(most, #bad > 0))
  take_of_lanes(bad, claim, most - taken)
end

local function claim_anew(claim, most)
  list = {}
  if lanes == 1 then claim_in_any_order(claim, most) else claim_in_order(claim, most) end
  if #list == 0 then return end
  call('HSET', claims, claim, table.concat(list, ' '), 'n:' .. claim, #list)
  call('ZADD', leases, now + lease, claim)
end

local function claim_again(claim, known)
  for name, wanted in known:gmatch('(%S+) (%d+)') do
    local f = facts_of(name)
    if is_held(f, claim) then give(name, f, tonumber(wanted)) end
  end
end

-- What is to be done

local doing = {}

function doing.claim()
  local claim, most = ARGV[3], tonumber(ARGV[4])
  for at = 5, #ARGV do extend(ARGV[at]) end
  free_dead_claims()
  write_counts()
  given = {}
  local known = call('HGET', claims, claim)
  if known then claim_again(claim, known) else claim_anew(claim, most) end
  return {look(), given}
end

function doing.renew()
  local owner, leaves, kept = ARGV[3], ARGV[4] == '1', tonumber(ARGV[5])
  for at = 6, 5 + kept do extend(ARGV[at]) end
  for at = 6 + kept, #ARGV do free(ARGV[at]) end
  bound_leases()
  free_dead_claims()
  if leaves then
    call('ZREM', owners, owner)
    call('HDEL', trips, owner)
  else
    call('ZADD', owners, now, owner)
  end
  for _, gone in ipairs(call('ZRANGE', owners, '-inf', now - DAY, 'BYSCORE', 'LIMIT', 0, 10)) do
    call('ZREM', owners, gone)
    call('HDEL', trips, gone)
  end
  return {look(), {}}
end

local at = 3
local function next_argument()
  at = at + 1
  return ARGV[at - 1]
end

local function next_points()
  return {
    low = tonumber(next_argument()), count = tonumber(next_argument()),
    size = tonumber(next_argument()), payload = next_argument(),
  }
end

local function count_out(points, size)
  more.points, more.bytes = more.points - points, more.bytes - size
end

local function write_points(name, f, points)
  f.low, f.count, f.size = points.low, points.count, points.size
  call('HSET', chunks, name, points.payload)
end

local function shrink(name, f, points)
  write_points(name, f, points)
  write_facts(name, f)
  call('ZADD', claimed(f.lane), f.base + f.low, name)
end

local change = {}

function change.drop()
  local name = next_argument()
  local f = facts_of(name)
  if not f then return end
  if f.claim == '-' then leave_line(name, f) else leave_claim(name, f) end
  call('HDEL', chunks, name)
  call('HDEL', facts, name)
  count_out(f.count, f.size)
end

function change.keep()
  local name, claim, points = next_argument(), next_argument(), next_points()
  local f = facts_of(name)
  if not is_held(f, claim) then return end
  count_out(f.count - points.count, f.size - points.size)
  shrink(name, f, points)
end

function change.back()
  local name, claim, is_refused = next_argument(), next_argument(), next_argument() == '1'
  local f = facts_of(name)
  if not is_held(f, claim) then return end
  f.refused = f.refused or is_refused
  put_back(name, f)
end

function change.part()
  local name, claim, is_refused = next_argument(), next_argument(), next_argument() == '1'
  local kept, new_name, gone = next_points(), next_argument(), next_points()
  local f = facts_of(name)
  -- Where the count is another one, this was done before.
  if not is_held(f, claim) or f.count ~= kept.count + gone.count then return end
  shrink(name, f, kept)
  f.refused = f.refused or is_refused
  write_points(new_name, f, gone)
  join_line(new_name, f)
end

function change.dead()
  local id, record = next_argument(), next_argument()
  call('HSET', dead_letters, id, record)
end

function doing.change()
  while at <= #ARGV do change[next_argument()]() end
  local waiting_more = more.waiting
  write_counts()
  return waiting_more
end

return doing[ARGV[1]]()

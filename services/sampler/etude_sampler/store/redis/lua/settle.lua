#!lua flags=allow-oom
-- Takes tasks out of a lease and enters them into their lanes: after a report, a release, an expiry.
-- Over 80 lines: report, release and expiry share one atomic way back into the lanes; a reported
-- group also moves the priority of its task's banked one.
-- KEYS[1] meta hash run-wide counters, clocks, totals
-- KEYS[2] tasks hash ordinal -> packed entry number and lane weights
-- KEYS[3] leases zset lease id by deadline
-- KEYS[4] lease hash the lease
-- KEYS[5] ltasks hash ordinal -> how it was drawn
-- KEYS[6] idem hash idempotency key -> lease id and body hash
-- KEYS[7] workers hash live leases per worker
-- KEYS[8] log stream decisions
-- KEYS[9] ready zset group id by staleness
-- KEYS[10] groups hash group id -> manifest entry
-- KEYS[11] cargo hash group id -> trajectories
-- KEYS[12] bank zset group id by rank
-- KEYS[13] banked hash ordinal -> its banked group
-- KEYS[14] lanes zset ordinal by arrival time; one key per lane, `uniform` first
-- ARGV[1] epoch
-- ARGV[2] lease_id
-- ARGV[3] fence empty for an expiry
-- ARGV[4] kind report, release or expire
-- ARGV[5] bell channel to ring
-- ARGV[6] items (ordinal, record, exponentials, ready score or '', manifest entry, note: momentum, value
--   and whether the gate dropped the group, packed `<ddB`, or '')*
-- Returns {ok, settled, remaining}, {epoch}, {gone}, {superseded} or {live}
local meta, tasks, leases, lease, ltasks, idem = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local workers, log, ready, groups, cargo, bank, banked = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12], KEYS[13]
local epoch, lease_id, fence, kind, bell, num_lanes = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], #KEYS - 13
local m = redis.call('HMGET', meta, 'epoch', 'totals', 'clocks')
if m[1] ~= epoch then return {'epoch'} end
local held = redis.call('HMGET', lease, 'fence', 'worker', 'idem', 'extra')
if not held[1] then return {'gone'} end
local now = redis.call('TIME')
if kind == 'expire' then
  if tonumber(redis.call('ZSCORE', leases, lease_id) or '0') > now[1] * 1000 + now[2] / 1000 then return {'live'} end
elseif held[1] ~= fence then return {'superseded'} end
local doubles, record = '<' .. string.rep('d', num_lanes), '<' .. string.rep('I4', num_lanes + 1)
local total, clock = {struct.unpack(doubles, m[2])}, {struct.unpack(doubles, m[3])}
local settled, written, entered, entering, admitted, freed, empty_slots = {}, {}, {}, {}, 0, 0, 0
for i = 1, num_lanes do entering[i] = {} end
local has_cargo = redis.call('HLEN', cargo) > 0
for at = 6, #ARGV, 6 do
  local ordinal, group_id = ARGV[at], lease_id .. ':' .. ARGV[at]
  if redis.call('HEXISTS', ltasks, ordinal) == 1 then
    local r, e = {struct.unpack(record, ARGV[at + 1])}, {struct.unpack(doubles, ARGV[at + 2])}
    settled[#settled + 1], written[#written + 1], written[#written + 2] = ordinal, ordinal, ARGV[at + 1]
    entered[#entered + 1] = ARGV[at + 1]
    for i = 1, num_lanes do
      if r[i + 1] > 0 then
        local lane = entering[i]
        lane[#lane + 1], lane[#lane + 2] = string.format('%.17g', clock[i] + e[i] * 1e6 / r[i + 1]), ordinal
        total[i] = total[i] + r[i + 1]
      end
    end
    local bytes = has_cargo and redis.call('HSTRLEN', cargo, group_id) or 0
    if ARGV[at + 3] ~= '' and bytes > 0 then
      admitted = admitted + redis.call('ZADD', ready, ARGV[at + 3], group_id)
      redis.call('HSET', groups, group_id, ARGV[at + 4])
    elseif bytes > 0 then freed = freed + bytes; redis.call('HDEL', cargo, group_id) end
    if ARGV[at + 5] ~= '' then -- of a run with a bank: P = momentum P + (1 - momentum) x
      local momentum, value, was_dropped = struct.unpack('<ddB', ARGV[at + 5])
      empty_slots = empty_slots + was_dropped
      local priority, replays, place, held = string.match(redis.call('HGET', banked, ordinal) or '', '^(%S+) (%S+) (%S+) (%S+)$')
      if priority then
        local moved = momentum * tonumber(priority) + (1 - momentum) * value
        redis.call('HSET', banked, ordinal, table.concat({string.format('%.17g', moved), replays, place, held}, ' '))
        local rank = math.floor(moved * 1000000 + 0.5) * 2147483648 + tonumber(place) % 2147483648
        redis.call('ZADD', bank, string.format('%.0f', rank), held)
      end
    end
  end
end
for from = 1, #settled, 1000 do
  local to = math.min(from + 999, #settled)
  redis.call('HDEL', ltasks, unpack(settled, from, to))
  redis.call('HSET', tasks, unpack(written, 2 * from - 1, 2 * to))
end
for i = 1, num_lanes do
  for from = 1, #entering[i], 2000 do
    redis.call('ZADD', KEYS[13 + i], unpack(entering[i], from, math.min(from + 1999, #entering[i])))
  end
end
redis.call('HSET', meta, 'totals', struct.pack(doubles, unpack(total)))
for field, by in pairs({n_leased = -#settled, n_ready = admitted, cargo_bytes = -freed, n_dropped = empty_slots,
  n_returned = kind == 'release' and 0 or #settled - (held[4] or 0), n_expired = kind == 'expire' and #settled or 0}) do
  if by ~= 0 then redis.call('HINCRBY', meta, field, by) end
end
if held[4] then -- candidates of a pool, among whom nobody has chosen
  redis.call('HINCRBY', meta, 'n_extra', -held[4])
  redis.call('HDEL', lease, 'extra', 'keep')
end
local remaining = redis.call('HLEN', ltasks)
if remaining == 0 then
  redis.call('DEL', lease, ltasks)
  redis.call('ZREM', leases, lease_id)
  redis.call('HDEL', idem, held[3])
  if redis.call('HINCRBY', workers, held[2], -1) <= 0 then redis.call('HDEL', workers, held[2]) end
end
if #settled > 0 then
  redis.call('XADD', log, 'MAXLEN', '~', 200000, '*', 'number', redis.call('HINCRBY', meta, 'log_number', 1), 'kind', kind,
    'lease', lease_id, 'fence', held[1], 'tasks', table.concat(settled, ' '), 'records', table.concat(entered))
  redis.call('PUBLISH', bell, kind)
end
return {'ok', #settled, remaining}

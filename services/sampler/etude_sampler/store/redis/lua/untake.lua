#!lua flags=allow-oom
-- Ends a training lease: trained groups are banked or forgotten, others go back where they were.
-- Over 80 lines: what comes from the queue and what comes from the bank end in one atomic step.
-- KEYS[1] meta hash run-wide counters
-- KEYS[2] ready zset group id by staleness
-- KEYS[3] groups hash group id -> manifest entry
-- KEYS[4] cargo hash group id -> trajectories
-- KEYS[5] tleases zset training lease id by deadline
-- KEYS[6] tlease hash the lease
-- KEYS[7] tgroups hash group id -> ready score; of a replayed one also rank, priority, replays
-- KEYS[8] idem hash idempotency key -> lease id and body hash
-- KEYS[9] bank zset group id by rank
-- KEYS[10] banked hash ordinal -> its banked group
-- ARGV[1] epoch
-- ARGV[2] lease_id
-- ARGV[3] fence empty for an expiry
-- ARGV[4] kind ack, release or expire
-- ARGV[5] bell channel to ring
-- ARGV[6] bank_groups most groups in the bank; 0 without one
-- ARGV[7] max_replays most times that a group is handed out again
-- Returns {ok, groups, dropped as too stale}, {epoch}, {gone}, {superseded} or {live}
local meta, ready, groups, cargo, tleases = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local tlease, tgroups, idem, bank, banked = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local epoch, lease_id, fence, kind, bell = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local bank_groups, max_replays, scale = tonumber(ARGV[6]), tonumber(ARGV[7]), 2147483648
local m = redis.call('HMGET', meta, 'epoch', 'version', 'max_staleness', 'cargo_bytes')
if m[1] ~= epoch then return {'epoch'} end
local held = redis.call('HMGET', tlease, 'fence', 'idem')
if not held[1] then return {'gone'} end
local now = redis.call('TIME')
if kind == 'expire' then
  if tonumber(redis.call('ZSCORE', tleases, lease_id) or '0') > now[1] * 1000 + now[2] / 1000 then return {'live'} end
elseif held[1] ~= fence then return {'superseded'} end
local oldest = (tonumber(m[2]) - tonumber(m[3])) * scale
local members, back, dropped, bytes = redis.call('HGETALL', tgroups), 0, 0, tonumber(m[4])
local to_bank, replayed = {}, 0
local function forget(group_id)
  bytes = bytes - redis.call('HSTRLEN', cargo, group_id)
  redis.call('HDEL', cargo, group_id)
  redis.call('HDEL', groups, group_id)
end
for j = 1, #members, 2 do
  local group_id, place, priority, replays = members[j], members[j + 1], nil, 0
  local replay = {string.match(place, '^(%S+) %S+ (%S+) (%S+)$')}
  if replay[1] then
    -- A batch that ran out may have been trained on; one that was given back was not.
    place, priority, replays = replay[1], replay[2], tonumber(replay[3]) - (kind == 'release' and 1 or 0)
    if kind == 'ack' then replayed = replayed + 1 end
  elseif kind == 'ack' and bank_groups > 0 then
    local value = cjson.decode(redis.call('HGET', groups, group_id) or '{}').value
    if type(value) == 'number' then priority = string.format('%.17g', value) end
  end
  local is_fresh = tonumber(place) >= oldest
  if priority and is_fresh and replays < max_replays and bank_groups > 0 then
    to_bank[#to_bank + 1] = {group_id, place, priority, replays, tonumber(place) % scale}
  elseif kind ~= 'ack' and is_fresh and not replay[1] then
    back = back + redis.call('ZADD', ready, place, group_id)
  else
    if kind ~= 'ack' and not replay[1] then dropped = dropped + 1 end
    forget(group_id)
  end
end
table.sort(to_bank, function(a, b) return a[5] < b[5] end)
for _, one in ipairs(to_bank) do
  local group_id, place, priority, replays, seq = one[1], one[2], one[3], one[4], one[5]
  local ordinal = string.match(group_id, '[^:]*$')
  local was, _, other_place, other = string.match(redis.call('HGET', banked, ordinal) or '', '^(%S+) (%S+) (%S+) (%S+)$')
  if was and tonumber(other_place) % scale > seq then
    forget(group_id)
  else
    if was then
      priority = was
      redis.call('ZREM', bank, other)
      forget(other)
    end
    local rank = math.floor(tonumber(priority) * 1000000 + 0.5) * scale + seq
    redis.call('HSET', banked, ordinal, table.concat({priority, replays, place, group_id}, ' '))
    redis.call('ZADD', bank, string.format('%.0f', rank), group_id)
  end
end
for _ = 1, redis.call('ZCARD', bank) - bank_groups do
  local least = redis.call('ZPOPMIN', bank)[1]
  redis.call('HDEL', banked, string.match(least, '[^:]*$'))
  forget(least)
end
redis.call('HSET', meta, 'cargo_bytes', string.format('%.0f', bytes))
redis.call('HINCRBY', meta, 'n_training', -#members / 2)
redis.call('HINCRBY', meta, 'n_ready', back)
redis.call('HINCRBY', meta, 'n_replayed', replayed)
if kind ~= 'ack' then redis.call('HINCRBY', meta, 'n_purged', dropped) end
redis.call('DEL', tlease, tgroups)
redis.call('ZREM', tleases, lease_id)
redis.call('HDEL', idem, held[2])
redis.call('PUBLISH', bell, 'untake')
return {'ok', #members / 2, dropped}

#!lua flags=allow-oom
-- Ends a training lease: trained groups are forgotten, others go back to the ready queue.
-- KEYS[1] meta hash run-wide counters
-- KEYS[2] ready zset group id by staleness
-- KEYS[3] groups hash group id -> manifest entry
-- KEYS[4] cargo hash group id -> trajectories
-- KEYS[5] tleases zset training lease id by deadline
-- KEYS[6] tlease hash the lease
-- KEYS[7] tgroups hash group id -> ready score
-- KEYS[8] idem hash idempotency key -> lease id and body hash
-- ARGV[1] epoch
-- ARGV[2] lease_id
-- ARGV[3] fence empty for an expiry
-- ARGV[4] kind ack, release or expire
-- ARGV[5] bell channel to ring
-- Returns {ok, groups, dropped as too stale}, {epoch}, {gone}, {superseded} or {live}
local meta, ready, groups, cargo, tleases = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local tlease, tgroups, idem = KEYS[6], KEYS[7], KEYS[8]
local epoch, lease_id, fence, kind, bell = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local m = redis.call('HMGET', meta, 'epoch', 'version', 'max_staleness', 'cargo_bytes')
if m[1] ~= epoch then return {'epoch'} end
local held = redis.call('HMGET', tlease, 'fence', 'idem')
if not held[1] then return {'gone'} end
local now = redis.call('TIME')
if kind == 'expire' then
  if tonumber(redis.call('ZSCORE', tleases, lease_id) or '0') > now[1] * 1000 + now[2] / 1000 then return {'live'} end
elseif held[1] ~= fence then return {'superseded'} end
local oldest = (tonumber(m[2]) - tonumber(m[3])) * 2147483648
local members, back, dropped, bytes = redis.call('HGETALL', tgroups), 0, 0, tonumber(m[4])
for j = 1, #members, 2 do
  local group_id, score = members[j], members[j + 1]
  if kind ~= 'ack' and tonumber(score) >= oldest then
    back = back + redis.call('ZADD', ready, score, group_id)
  else
    dropped, bytes = dropped + 1, bytes - redis.call('HSTRLEN', cargo, group_id)
    redis.call('HDEL', cargo, group_id)
    redis.call('HDEL', groups, group_id)
  end
end
redis.call('HSET', meta, 'cargo_bytes', string.format('%.0f', bytes))
redis.call('HINCRBY', meta, 'n_training', -#members / 2)
redis.call('HINCRBY', meta, 'n_ready', back)
if kind ~= 'ack' then redis.call('HINCRBY', meta, 'n_purged', dropped) end
redis.call('DEL', tlease, tgroups)
redis.call('ZREM', tleases, lease_id)
redis.call('HDEL', idem, held[2])
redis.call('PUBLISH', bell, 'untake')
return {'ok', #members / 2, kind == 'ack' and 0 or dropped}

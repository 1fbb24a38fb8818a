#!lua flags=allow-oom
-- Announces a policy version: weights, reward weights, lane shares; purges ready and banked groups now too stale.
-- KEYS[1] meta hash run-wide counters
-- KEYS[2] ready zset group id by staleness
-- KEYS[3] groups hash group id -> manifest entry
-- KEYS[4] cargo hash group id -> trajectories
-- KEYS[5] log stream decisions
-- KEYS[6] bank zset group id by rank
-- KEYS[7] banked hash ordinal -> its banked group
-- ARGV[1] epoch
-- ARGV[2] version
-- ARGV[3] uri
-- ARGV[4] w component weights as JSON
-- ARGV[5] shares packed doubles, one a lane
-- ARGV[6] bell channel to ring
-- Returns {ok, purged}, {old} (this version or a newer one is announced already) or {epoch}
local meta, ready, groups, cargo, log = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local bank, banked = KEYS[6], KEYS[7]
local epoch, version, uri, w, shares, bell = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local m = redis.call('HMGET', meta, 'epoch', 'version', 'max_staleness', 'cargo_bytes', 'fence')
if m[1] ~= epoch then return {'epoch'} end
if version <= tonumber(m[2]) then return {'old'} end
redis.call('HSET', meta, 'version', version, 'uri', uri, 'w', w, 'shares', shares)
local oldest = (version - tonumber(m[3])) * 2147483648
local stale = redis.call('ZRANGEBYSCORE', ready, '-inf', '(' .. string.format('%.0f', oldest))
local bytes = tonumber(m[4])
for _, group_id in ipairs(stale) do
  bytes = bytes - redis.call('HSTRLEN', cargo, group_id)
  redis.call('HDEL', cargo, group_id)
  redis.call('HDEL', groups, group_id)
  redis.call('ZREM', ready, group_id)
end
local held = redis.call('HGETALL', banked)
for j = 1, #held, 2 do
  local place, group_id = string.match(held[j + 1], '^%S+ %S+ (%S+) (%S+)$')
  if tonumber(place) < oldest then
    bytes = bytes - redis.call('HSTRLEN', cargo, group_id)
    redis.call('HDEL', cargo, group_id)
    redis.call('HDEL', groups, group_id)
    redis.call('HDEL', banked, held[j])
    redis.call('ZREM', bank, group_id)
  end
end
redis.call('HSET', meta, 'cargo_bytes', string.format('%.0f', bytes))
redis.call('HINCRBY', meta, 'n_ready', -#stale)
redis.call('HINCRBY', meta, 'n_purged', #stale)
redis.call('XADD', log, 'MAXLEN', '~', 200000, '*', 'number', redis.call('HINCRBY', meta, 'log_number', 1),
  'kind', 'announce', 'lease', '', 'fence', m[5], 'version', version, 'tasks', '', 'records', shares)
redis.call('PUBLISH', bell, 'announce')
return {'ok', #stale}

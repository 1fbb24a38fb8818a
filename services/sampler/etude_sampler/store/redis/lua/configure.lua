#!lua flags=allow-oom
-- Applies a run's limits and pause state; evicts banked, then the stalest ready groups above lowered caps.
-- KEYS[1] meta hash run-wide counters
-- KEYS[2] ready zset group id by staleness
-- KEYS[3] groups hash group id -> manifest entry
-- KEYS[4] cargo hash group id -> trajectories
-- KEYS[5] log stream decisions
-- KEYS[6] bank zset group id by rank
-- KEYS[7] banked hash ordinal -> its banked group
-- ARGV[1] epoch
-- ARGV[2] revision of the limits
-- ARGV[3] paused 1 or 0
-- ARGV[4] cap leased tasks plus ready groups
-- ARGV[5] worker_cap live leases per worker
-- ARGV[6] max_staleness
-- ARGV[7] cargo_cap bytes
-- ARGV[8] bell channel to ring
-- Returns {ok, evicted}, {old} (Redis has a newer revision) or {epoch}
local meta, ready, groups, cargo, log = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local bank, banked = KEYS[6], KEYS[7]
local epoch, revision, paused, cap, worker_cap = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5]
local max_staleness, cargo_cap, bell = ARGV[6], tonumber(ARGV[7]), ARGV[8]
local m = redis.call('HMGET', meta, 'epoch', 'cargo_bytes', 'revision', 'fence')
if m[1] ~= epoch then return {'epoch'} end
if revision < tonumber(m[3]) then return {'old'} end
redis.call('HSET', meta, 'revision', revision, 'paused', paused, 'cap', cap, 'worker_cap', worker_cap,
  'max_staleness', max_staleness, 'cargo_cap', ARGV[7])
local bytes, evicted = tonumber(m[2]), 0
while bytes > cargo_cap and redis.call('ZCARD', bank) > 0 do
  local group_id = redis.call('ZPOPMIN', bank)[1]
  bytes = bytes - redis.call('HSTRLEN', cargo, group_id)
  redis.call('HDEL', cargo, group_id)
  redis.call('HDEL', groups, group_id)
  redis.call('HDEL', banked, string.match(group_id, '[^:]*$'))
end
while redis.call('ZCARD', ready) > cap or (bytes > cargo_cap and redis.call('ZCARD', ready) > 0) do
  local group_id = redis.call('ZPOPMIN', ready)[1]
  bytes, evicted = bytes - redis.call('HSTRLEN', cargo, group_id), evicted + 1
  redis.call('HDEL', cargo, group_id)
  redis.call('HDEL', groups, group_id)
end
redis.call('HSET', meta, 'cargo_bytes', string.format('%.0f', bytes))
redis.call('HINCRBY', meta, 'n_ready', -evicted)
redis.call('HINCRBY', meta, 'n_evicted', evicted)
redis.call('XADD', log, 'MAXLEN', '~', 200000, '*', 'number', redis.call('HINCRBY', meta, 'log_number', 1),
  'kind', 'configure', 'lease', '', 'fence', m[4], 'tasks', table.concat({revision, paused, cap, worker_cap}, ' '))
redis.call('PUBLISH', bell, 'configure')
return {'ok', evicted}

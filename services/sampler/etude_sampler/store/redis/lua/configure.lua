-- Applies a run's limits and pause state; evicts the stalest ready groups above a lowered cap.
-- KEYS[1] meta hash run-wide counters
-- KEYS[2] ready zset group id by staleness
-- KEYS[3] groups hash group id -> manifest entry
-- KEYS[4] cargo hash group id -> trajectories
-- ARGV[1] epoch
-- ARGV[2] paused 1 or 0
-- ARGV[3] cap leased tasks plus ready groups
-- ARGV[4] worker_cap live leases per worker
-- ARGV[5] max_staleness
-- ARGV[6] cargo_cap bytes
-- ARGV[7] bell channel to ring
-- Returns {ok, evicted} or {epoch}
local meta, ready, groups, cargo = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, paused, cap, worker_cap, bell = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[7]
local m = redis.call('HMGET', meta, 'epoch', 'cargo_bytes')
if m[1] ~= epoch then return {'epoch'} end
redis.call('HSET', meta, 'paused', paused, 'cap', cap, 'worker_cap', worker_cap,
  'max_staleness', ARGV[5], 'cargo_cap', ARGV[6])
local bytes, evicted = tonumber(m[2]), 0
while redis.call('ZCARD', ready) > cap or (bytes > tonumber(ARGV[6]) and redis.call('ZCARD', ready) > 0) do
  local group_id = redis.call('ZPOPMIN', ready)[1]
  bytes, evicted = bytes - redis.call('HSTRLEN', cargo, group_id), evicted + 1
  redis.call('HDEL', cargo, group_id)
  redis.call('HDEL', groups, group_id)
end
redis.call('HSET', meta, 'cargo_bytes', string.format('%.0f', bytes))
redis.call('HINCRBY', meta, 'n_ready', -evicted)
redis.call('HINCRBY', meta, 'n_evicted', evicted)
redis.call('PUBLISH', bell, 'configure')
return {'ok', evicted}

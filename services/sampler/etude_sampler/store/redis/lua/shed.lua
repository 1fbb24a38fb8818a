#!lua flags=allow-oom
-- Empties a run's bank: the server is full, and what was trained on already gives way first.
-- KEYS[1] meta hash run-wide counters
-- KEYS[2] groups hash group id -> manifest entry
-- KEYS[3] cargo hash group id -> trajectories
-- KEYS[4] bank zset group id by rank
-- KEYS[5] banked hash ordinal -> its banked group
-- ARGV[1] epoch
-- Returns {ok, groups forgotten} or {epoch}
local meta, groups, cargo, bank, banked, epoch = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1]
local m = redis.call('HMGET', meta, 'epoch', 'cargo_bytes')
if m[1] ~= epoch then return {'epoch'} end
local members, bytes = redis.call('ZRANGE', bank, 0, -1), tonumber(m[2])
for _, group_id in ipairs(members) do
  bytes = bytes - redis.call('HSTRLEN', cargo, group_id)
  redis.call('HDEL', cargo, group_id)
  redis.call('HDEL', groups, group_id)
end
redis.call('HSET', meta, 'cargo_bytes', string.format('%.0f', bytes))
redis.call('DEL', bank, banked)
return {'ok', #members}

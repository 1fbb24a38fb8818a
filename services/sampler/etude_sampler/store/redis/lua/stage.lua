#!lua
-- Puts a group's trajectories under its live lease; evicts banked, then the stalest ready groups for room.
-- KEYS[1] meta hash run-wide counters
-- KEYS[2] cargo hash group id -> trajectories
-- KEYS[3] ready zset group id by staleness
-- KEYS[4] groups hash group id -> manifest entry
-- KEYS[5] ltasks hash ordinal -> how it was drawn
-- KEYS[6] bank zset group id by rank
-- KEYS[7] banked hash ordinal -> its banked group
-- ARGV[1] epoch
-- ARGV[2] group_id
-- ARGV[3] body
-- Returns {ok}, {evicted} (no room even so: the body is not kept), {settled} (the task is in the
-- lease no more: nothing would ever free the body) or {epoch}
local meta, cargo, ready, groups, ltasks, bank, banked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local epoch, group_id, body = ARGV[1], ARGV[2], ARGV[3]
local m = redis.call('HMGET', meta, 'epoch', 'cargo_bytes', 'cargo_cap')
if m[1] ~= epoch then return {'epoch'} end
if redis.call('HEXISTS', ltasks, string.match(group_id, '[^:]*$')) == 0 then return {'settled'} end
local bytes, cap = tonumber(m[2]), tonumber(m[3])
bytes = bytes + #body - redis.call('HSTRLEN', cargo, group_id)
redis.call('HSET', cargo, group_id, body)
for _ = 1, 64 do
  if bytes <= cap then break end
  local least = redis.call('ZPOPMIN', bank)[1]
  local out = least or redis.call('ZPOPMIN', ready)[1]
  if not out then break end
  bytes = bytes - redis.call('HSTRLEN', cargo, out)
  redis.call('HDEL', cargo, out)
  redis.call('HDEL', groups, out)
  if least then
    redis.call('HDEL', banked, string.match(least, '[^:]*$'))
  else
    redis.call('HINCRBY', meta, 'n_ready', -1)
    redis.call('HINCRBY', meta, 'n_evicted', 1)
  end
end
local status = 'ok'
if bytes > cap then
  bytes, status = bytes - #body, 'evicted'
  redis.call('HDEL', cargo, group_id)
end
redis.call('HSET', meta, 'cargo_bytes', string.format('%.0f', bytes))
return {status}

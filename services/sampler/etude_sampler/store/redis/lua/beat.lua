#!lua flags=allow-oom
-- Heartbeat: moves a lease's deadline, once for each idempotency key in a row.
-- KEYS[1] meta hash run-wide counters
-- KEYS[2] leases zset lease id by deadline (prompt or training leases)
-- KEYS[3] lease hash fence, time to live, the last heartbeat
-- ARGV[1] epoch
-- ARGV[2] lease_id
-- ARGV[3] fence
-- ARGV[4] ttl_ms 0 for the lease's own
-- ARGV[5] idem_key
-- ARGV[6] body_hash
-- Returns {ok, deadline, ttl}, {epoch}, {gone}, {superseded} or {reused}
local meta, leases, lease = KEYS[1], KEYS[2], KEYS[3]
local epoch, lease_id, fence, ttl_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local idem_key, body_hash = ARGV[5], ARGV[6]
if redis.call('HGET', meta, 'epoch') ~= epoch then return {'epoch'} end
local held = redis.call('HMGET', lease, 'fence', 'ttl', 'beat')
if not held[1] then return {'gone'} end
if held[3] then
  local key, hash, deadline, ttl = string.match(held[3], '^(%S+) (%S+) (%S+) (%S+)$')
  if key == idem_key then
    if hash ~= body_hash then return {'reused'} end
    return {'ok', deadline, ttl}
  end
end
if held[1] ~= fence then return {'superseded'} end
if ttl_ms == 0 then ttl_ms = tonumber(held[2]) end
local now = redis.call('TIME')
local deadline = now[1] * 1000 + math.floor(now[2] / 1000) + ttl_ms
deadline = math.max(deadline, tonumber(redis.call('ZSCORE', leases, lease_id) or '0'))
redis.call('ZADD', leases, deadline, lease_id)
local at, ttl = string.format('%.0f', deadline), string.format('%.0f', ttl_ms)
redis.call('HSET', lease, 'beat', table.concat({idem_key, body_hash, at, ttl}, ' '))
return {'ok', at, ttl}

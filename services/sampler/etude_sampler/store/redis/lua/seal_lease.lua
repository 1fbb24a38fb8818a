#!lua flags=allow-oom
-- Seals a prompt lease that has run out or is given back: no heartbeat and no report passes any more.
-- A sealed lease bears its fence negated and is due at once, so whoever dies here leaves it to an expiry.
-- KEYS[1] meta hash run-wide counters
-- KEYS[2] leases zset lease id by deadline
-- KEYS[3] lease hash fence and time to live
-- ARGV[1] epoch
-- ARGV[2] lease_id
-- ARGV[3] fence empty for an expiry
-- Returns {ok, the negated fence}, {epoch}, {gone}, {superseded} or {live}
local meta, leases, lease, epoch, lease_id, fence = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3]
if redis.call('HGET', meta, 'epoch') ~= epoch then return {'epoch'} end
local held = redis.call('HGET', lease, 'fence')
if not held then return {'gone'} end
local sealed = string.sub(held, 1, 1) == '-' and held or '-' .. held
if fence ~= '' and sealed ~= '-' .. fence then return {'superseded'} end
if sealed == held then return {'ok', sealed} end
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
if fence == '' and tonumber(redis.call('ZSCORE', leases, lease_id) or '0') > now_ms then return {'live'} end
redis.call('HSET', lease, 'fence', sealed)
redis.call('ZADD', leases, now_ms, lease_id)
return {'ok', sealed}

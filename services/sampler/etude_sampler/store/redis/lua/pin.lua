#!lua flags=allow-oom
-- Proves that a lease is still held, moves its deadline and tells how the named tasks were drawn.
-- KEYS[1] meta hash run-wide counters
-- KEYS[2] leases zset lease id by deadline (prompt or training leases)
-- KEYS[3] lease hash fence and time to live
-- KEYS[4] ltasks hash ordinal -> how it was drawn
-- ARGV[1] epoch
-- ARGV[2] lease_id
-- ARGV[3] fence
-- ARGV[4] ttl_ms 0 for the lease's own
-- ARGV[5] ordinals any number
-- Returns {ok, deadline, ttl, w, version, waiting, remaining, what the tasks were allotted or '',
--   (how or false)*}, {epoch}, {gone} or {superseded}
local meta, leases, lease, ltasks = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, lease_id, fence, ttl_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if redis.call('HGET', meta, 'epoch') ~= epoch then return {'epoch'} end
local held = redis.call('HMGET', lease, 'fence', 'ttl', 'w', 'version', 'waiting', 'allot')
if not held[1] then return {'gone'} end
if held[1] ~= fence then return {'superseded'} end
if ttl_ms == 0 then ttl_ms = tonumber(held[2]) end
local now = redis.call('TIME')
local deadline = now[1] * 1000 + math.floor(now[2] / 1000) + ttl_ms
deadline = math.max(deadline, tonumber(redis.call('ZSCORE', leases, lease_id) or '0'))
redis.call('ZADD', leases, deadline, lease_id)
local reply = {'ok', string.format('%.0f', deadline), held[2], held[3], held[4], held[5],
  redis.call('HLEN', ltasks), held[6] or ''}
for from = 5, #ARGV, 1000 do
  for _, how in ipairs(redis.call('HMGET', ltasks, unpack(ARGV, from, math.min(from + 999, #ARGV)))) do
    reply[#reply + 1] = how
  end
end
return reply

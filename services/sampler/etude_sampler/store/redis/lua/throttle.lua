#!lua flags=allow-oom
-- Takes up to n calls out of a key's bucket, which refills steadily up to its burst.
-- KEYS[1] bucket hash what it held, and when
-- ARGV[1] per_s calls that flow in every second
-- ARGV[2] burst most that it holds
-- ARGV[3] n calls wanted
-- Returns {granted, left, wait_ms until it holds one}
local bucket, per_s, burst, n = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time, held = redis.call('TIME'), redis.call('HMGET', bucket, 'left', 'at_ms')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local left = burst
if held[1] then
  left = math.min(burst, tonumber(held[1]) + math.max(0, now - tonumber(held[2])) * per_s / 1000)
end
local granted = math.min(n, math.floor(left))
left = left - granted
local wait_ms = left >= 1 and 0 or math.ceil((1 - left) * 1000 / per_s)
redis.call('HSET', bucket, 'left', string.format('%.6f', left), 'at_ms', string.format('%.0f', now))
redis.call('PEXPIRE', bucket, math.ceil(burst * 1000 / per_s) + 1000)
return {granted, math.floor(left), wait_ms}

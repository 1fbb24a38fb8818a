#!lua flags=allow-oom
-- Keeps how many rollouts the tasks of a prompt lease get, once: who comes first decides.
-- KEYS[1] meta hash run-wide counters
-- KEYS[2] lease hash the lease
-- KEYS[3] log stream decisions
-- ARGV[1] epoch
-- ARGV[2] lease_id
-- ARGV[3] fence
-- ARGV[4] words `ordinal rollouts screen train` of each task
-- Returns {ok, the words that hold}, {epoch}, {gone} or {superseded}
local meta, lease, log = KEYS[1], KEYS[2], KEYS[3]
local epoch, lease_id, fence, words = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('HGET', meta, 'epoch') ~= epoch then return {'epoch'} end
local held = redis.call('HMGET', lease, 'fence', 'allot')
if not held[1] then return {'gone'} end
if held[1] ~= fence then return {'superseded'} end
if held[2] then return {'ok', held[2]} end
redis.call('HSET', lease, 'allot', words)
redis.call('XADD', log, 'MAXLEN', '~', 200000, '*', 'number', redis.call('HINCRBY', meta, 'log_number', 1),
  'kind', 'budget', 'lease', lease_id, 'fence', fence, 'tasks', words)
return {'ok', words}

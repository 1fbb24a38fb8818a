#!lua flags=allow-oom
-- Subtracts a lane's clock from all its arrival times, so that they stay small and exact.
-- KEYS[1] meta hash clocks
-- KEYS[2] lane zset ordinal by arrival time
-- KEYS[3] log stream decisions
-- ARGV[1] epoch
-- ARGV[2] index of the lane, from 1
-- ARGV[3] num_lanes
-- ARGV[4] most tasks in the lane for one call
-- Returns {ok, tasks}, {large} or {epoch}
local meta, lane, log, epoch, index, num_lanes = KEYS[1], KEYS[2], KEYS[3], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local most = tonumber(ARGV[4])
local m = redis.call('HMGET', meta, 'epoch', 'clocks', 'fence')
if m[1] ~= epoch then return {'epoch'} end
if redis.call('ZCARD', lane) > most then return {'large'} end
local doubles = '<' .. string.rep('d', num_lanes)
local clock = {struct.unpack(doubles, m[2])}
local members = redis.call('ZRANGE', lane, 0, -1, 'WITHSCORES')
for j = 1, #members, 2 do
  redis.call('ZADD', lane, string.format('%.17g', tonumber(members[j + 1]) - clock[index]), members[j])
end
clock[index], clock[num_lanes + 1] = 0, nil
redis.call('HSET', meta, 'clocks', struct.pack(doubles, unpack(clock)))
redis.call('XADD', log, 'MAXLEN', '~', 200000, '*', 'number', redis.call('HINCRBY', meta, 'log_number', 1),
  'kind', 'rebase', 'lease', '', 'fence', m[3], 'tasks', index)
return {'ok', #members / 2}

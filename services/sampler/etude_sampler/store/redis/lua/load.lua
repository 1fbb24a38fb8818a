#!lua
-- Adds waiting tasks, or their places in one lane, to a run that is sealed for this loader.
-- KEYS[1] loading hash who loads the run, how far it is
-- KEYS[2] target hash of the tasks, or zset of a lane
-- ARGV[1] token of the loader
-- ARGV[2] num_tasks that this call completes
-- ARGV[3] kind `tasks` or `lane`
-- ARGV[4] words (ordinal, record)* or (arrival time, ordinal)*, at most 4000 of them
-- Returns {ok} or {replaced}
local loading, target, token, num_tasks, kind = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
if redis.call('HGET', loading, 'by') ~= token then return {'replaced'} end
if kind == 'tasks' then
  redis.call('HSET', target, unpack(ARGV, 4))
else
  redis.call('ZADD', target, unpack(ARGV, 4))
end
redis.call('HINCRBY', loading, 'n', num_tasks)
return {'ok'}

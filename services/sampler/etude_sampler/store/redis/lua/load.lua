#!lua
-- Adds waiting tasks, or their places in one lane, to a run that is sealed for this loader.
-- KEYS[1] loading hash who loads the run, how far it is
-- KEYS[2] target hash of the tasks, or zset of a lane
-- ARGV[1] token of the loader
-- ARGV[2] kind `tasks` or `lane`
-- ARGV[3] n tasks, at most 1000
-- ARGV[4] ordinals packed `<I4` each
-- ARGV[5] values packed records of equal length, or packed arrival times `<d` each
-- Returns {ok} or {replaced}
-- Numbers pass through redis.call with all 17 digits.
local loading, target, token, kind, n = KEYS[1], KEYS[2], ARGV[1], ARGV[2], tonumber(ARGV[3])
local ordinals, values = ARGV[4], ARGV[5]
if redis.call('HGET', loading, 'by') ~= token then return {'replaced'} end
local ordinal, words = {struct.unpack('<' .. string.rep('I4', n), ordinals)}, {}
if kind == 'tasks' then
  local width = #values / n
  for i = 1, n do
    words[2 * i - 1], words[2 * i] = ordinal[i], string.sub(values, (i - 1) * width + 1, i * width)
  end
  redis.call('HSET', target, unpack(words))
  redis.call('HINCRBY', loading, 'n', n)
else
  local arrival = {struct.unpack('<' .. string.rep('d', n), values)}
  for i = 1, n do words[2 * i - 1], words[2 * i] = arrival[i], ordinal[i] end
  redis.call('ZADD', target, unpack(words))
end
return {'ok'}

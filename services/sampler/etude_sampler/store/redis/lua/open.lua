#!lua flags=allow-oom
-- Opens a run that this loader has loaded, all of it; the epoch appears with everything else.
-- KEYS[1] loading hash who loads the run, how far it is
-- KEYS[2] meta hash run-wide counters
-- KEYS[3] tasks hash ordinal -> packed entry number and lane weights
-- KEYS[4] log stream decisions
-- KEYS[5] lanes zset ordinal by arrival time; one key per lane, `uniform` first
-- ARGV[1] token of the loader
-- ARGV[2] bell channel to ring
-- ARGV[3] num_tasks loaded
-- ARGV[4] num_fields of the meta hash
-- ARGV[5] words one size a lane, then the meta hash, then the first decision, as (field, value)*
-- Returns {ok}, {replaced} or {incomplete}
local loading, meta, tasks, log, num_lanes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], #KEYS - 4
local token, bell, num_tasks, num_fields = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.call('HGET', loading, 'by') ~= token then return {'replaced'} end
if redis.call('HLEN', tasks) ~= num_tasks then return {'incomplete'} end
for i = 1, num_lanes do
  if redis.call('ZCARD', KEYS[4 + i]) ~= tonumber(ARGV[4 + i]) then return {'incomplete'} end
end
local first = 5 + num_lanes
redis.call('HSET', meta, unpack(ARGV, first, first + 2 * num_fields - 1))
redis.call('XADD', log, '*', unpack(ARGV, first + 2 * num_fields))
redis.call('UNLINK', loading)
redis.call('PUBLISH', bell, 'open')
return {'ok'}

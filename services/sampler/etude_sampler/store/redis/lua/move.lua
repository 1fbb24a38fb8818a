#!lua flags=allow-oom
-- Moves waiting or parked tasks into the lanes of their new weights, each with a fresh draw.
-- KEYS[1] meta hash clocks, totals
-- KEYS[2] tasks hash ordinal -> packed entry number and lane weights
-- KEYS[3] log stream decisions
-- KEYS[4] lanes zset ordinal by arrival time; one key per lane, `uniform` first
-- ARGV[1] epoch
-- ARGV[2] bell channel to ring
-- ARGV[3] items (ordinal, record, exponentials)*; applied only where the entry number is the next
-- Returns {ok, moved} or {epoch}
-- A task that is leased stays leased: its way back brings its weights. Parked: weight 0 in `uniform`.
local meta, tasks, log, epoch, bell, num_lanes = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], #KEYS - 3
local m = redis.call('HMGET', meta, 'epoch', 'totals', 'clocks', 'fence', 'version')
if m[1] ~= epoch then return {'epoch'} end
local doubles, record = '<' .. string.rep('d', num_lanes), '<' .. string.rep('I4', num_lanes + 1)
local total, clock = {struct.unpack(doubles, m[2])}, {struct.unpack(doubles, m[3])}
local moved, written = {}, {}
for at = 3, #ARGV, 3 do
  local ordinal, packed = ARGV[at], redis.call('HGET', tasks, ARGV[at])
  local old = packed and {struct.unpack(record, packed)}
  local new, draw = {struct.unpack(record, ARGV[at + 1])}, {struct.unpack(doubles, ARGV[at + 2])}
  if old and new[1] == old[1] + 1 and (old[2] == 0 or redis.call('ZSCORE', KEYS[4], ordinal)) then
    for i = 1, num_lanes do
      if old[i + 1] > 0 then
        redis.call('ZREM', KEYS[3 + i], ordinal)
        total[i] = total[i] - old[i + 1]
      end
      if new[i + 1] > 0 then
        redis.call('ZADD', KEYS[3 + i], string.format('%.17g', clock[i] + draw[i] * 1e6 / new[i + 1]), ordinal)
        total[i] = total[i] + new[i + 1]
      end
    end
    redis.call('HSET', tasks, ordinal, ARGV[at + 1])
    moved[#moved + 1], written[#written + 1] = ordinal, ARGV[at + 1]
  end
end
if #moved > 0 then
  redis.call('HSET', meta, 'totals', struct.pack(doubles, unpack(total)))
  redis.call('XADD', log, 'MAXLEN', '~', 200000, '*', 'number', redis.call('HINCRBY', meta, 'log_number', 1), 'kind', 'move',
    'lease', '', 'fence', m[4], 'version', m[5], 'tasks', table.concat(moved, ' '), 'records', table.concat(written))
  redis.call('PUBLISH', bell, 'move')
end
return {'ok', #moved}

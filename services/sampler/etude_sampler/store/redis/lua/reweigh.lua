#!lua flags=allow-oom
-- Gives waiting tasks new lane weights without a new draw: t' = clock + (t - clock) w_old / w_new.
-- KEYS[1] meta hash clocks, totals
-- KEYS[2] tasks hash ordinal -> packed entry number and lane weights
-- KEYS[3] log stream decisions
-- KEYS[4] lanes zset ordinal by arrival time; one key per lane, `uniform` first
-- ARGV[1] epoch
-- ARGV[2] items (ordinal, record)*; applied only where the entry number is unchanged
-- Returns {ok, applied} or {epoch}
local meta, tasks, log, epoch, num_lanes = KEYS[1], KEYS[2], KEYS[3], ARGV[1], #KEYS - 3
local m = redis.call('HMGET', meta, 'epoch', 'totals', 'clocks', 'fence', 'version')
if m[1] ~= epoch then return {'epoch'} end
local doubles, record = '<' .. string.rep('d', num_lanes), '<' .. string.rep('I4', num_lanes + 1)
local total, clock, applied = {struct.unpack(doubles, m[2])}, {struct.unpack(doubles, m[3])}, 0
local moved, written = {}, {}
for at = 2, #ARGV, 2 do
  local ordinal, packed = ARGV[at], redis.call('HGET', tasks, ARGV[at])
  local new, old = {struct.unpack(record, ARGV[at + 1])}, packed and {struct.unpack(record, packed)}
  if old and old[1] == new[1] and redis.call('ZSCORE', KEYS[4], ordinal) then
    for i = 1, num_lanes do
      local was, is = old[i + 1], new[i + 1]
      if was > 0 and is > 0 and was ~= is then
        local score = clock[i] + (tonumber(redis.call('ZSCORE', KEYS[3 + i], ordinal)) - clock[i]) * was / is
        redis.call('ZADD', KEYS[3 + i], string.format('%.17g', score), ordinal)
        total[i] = total[i] + is - was
      elseif was > 0 and is == 0 then
        redis.call('ZREM', KEYS[3 + i], ordinal)
        total[i] = total[i] - was
      elseif was == 0 and is > 0 then
        new[i + 1] = 0
      end
    end
    new[num_lanes + 2] = nil
    local after = struct.pack(record, unpack(new))
    if after ~= packed then
      redis.call('HSET', tasks, ordinal, after)
      moved[#moved + 1], written[#written + 1] = ordinal, after
    end
    applied = applied + 1
  end
end
redis.call('HSET', meta, 'totals', struct.pack(doubles, unpack(total)))
if #moved > 0 then
  redis.call('XADD', log, 'MAXLEN', '~', 200000, '*', 'number', redis.call('HINCRBY', meta, 'log_number', 1), 'kind', 'reweigh',
    'lease', '', 'fence', m[4], 'version', m[5], 'tasks', table.concat(moved, ' '), 'records', table.concat(written))
end
return {'ok', applied}

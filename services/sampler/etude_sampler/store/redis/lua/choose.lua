#!lua flags=allow-oom
-- Keeps the chosen among the candidates of a pooled lease; the others enter their lanes again. Once.
-- KEYS[1] meta hash run-wide counters, clocks, totals
-- KEYS[2] tasks hash ordinal -> packed entry number and lane weights
-- KEYS[3] leases zset lease id by deadline
-- KEYS[4] lease hash the lease
-- KEYS[5] ltasks hash ordinal -> how it was drawn
-- KEYS[6] log stream decisions
-- KEYS[7] lanes zset ordinal by arrival time; one key per lane, `uniform` first
-- ARGV[1] epoch
-- ARGV[2] lease_id
-- ARGV[3] fence
-- ARGV[4] bell channel to ring
-- ARGV[5] version policy version of the choice
-- ARGV[6] reads packed doubles that the choice was made from
-- ARGV[7] control ordinals of the control arm, with spaces between
-- ARGV[8] num_chosen
-- ARGV[9] words the chosen ordinals, then (ordinal, record, exponentials)* of the others
-- Returns {ok}, {done} (it was chosen before), {epoch}, {gone} or {superseded}
local meta, tasks, leases, lease, ltasks, log = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local epoch, lease_id, fence, bell, version, reads = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local control, num_chosen, num_lanes = ARGV[7], tonumber(ARGV[8]), #KEYS - 6
local m = redis.call('HMGET', meta, 'epoch', 'totals', 'clocks')
if m[1] ~= epoch then return {'epoch'} end
local held = redis.call('HMGET', lease, 'fence', 'keep', 'extra', 'ttl')
if not held[1] then return {'gone'} end
if held[1] ~= fence then return {'superseded'} end
if not held[2] then return {'done'} end
local doubles, record = '<' .. string.rep('d', num_lanes), '<' .. string.rep('I4', num_lanes + 1)
local total, clock = {struct.unpack(doubles, m[2])}, {struct.unpack(doubles, m[3])}
local back, written, entered, entering = {}, {}, {}, {}
for i = 1, num_lanes do entering[i] = {} end
for at = 9 + num_chosen, #ARGV, 3 do
  local r, e = {struct.unpack(record, ARGV[at + 1])}, {struct.unpack(doubles, ARGV[at + 2])}
  back[#back + 1], written[#written + 1], written[#written + 2] = ARGV[at], ARGV[at], ARGV[at + 1]
  entered[#entered + 1] = ARGV[at + 1]
  for i = 1, num_lanes do
    if r[i + 1] > 0 then
      local lane = entering[i]
      lane[#lane + 1], lane[#lane + 2] = string.format('%.17g', clock[i] + e[i] * 1e6 / r[i + 1]), ARGV[at]
      total[i] = total[i] + r[i + 1]
    end
  end
end
for from = 1, #back, 1000 do
  local to = math.min(from + 999, #back)
  redis.call('HDEL', ltasks, unpack(back, from, to))
  redis.call('HSET', tasks, unpack(written, 2 * from - 1, 2 * to))
end
for i = 1, num_lanes do
  for from = 1, #entering[i], 2000 do
    redis.call('ZADD', KEYS[6 + i], unpack(entering[i], from, math.min(from + 1999, #entering[i])))
  end
end
for at = 9, 8 + num_chosen do -- lane `pool` is no race: one beyond the last
  local how = redis.call('HGET', ltasks, ARGV[at])
  redis.call('HSET', ltasks, ARGV[at], (string.gsub(how, '^(%d+) %d+', '%1 ' .. num_lanes + 1)))
end
local now, kept = redis.call('TIME'), redis.call('HLEN', ltasks)
redis.call('ZADD', leases, string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000) + held[4]), lease_id)
redis.call('HDEL', lease, 'keep', 'extra')
redis.call('HSET', lease, 'kept', kept)
redis.call('HSET', meta, 'totals', struct.pack(doubles, unpack(total)))
redis.call('HINCRBY', meta, 'n_leased', -#back)
redis.call('HINCRBY', meta, 'n_extra', -held[3])
redis.call('XADD', log, 'MAXLEN', '~', 200000, '*', 'number', redis.call('HINCRBY', meta, 'log_number', 1), 'kind', 'choose',
  'lease', lease_id, 'fence', fence, 'version', version, 'tasks', control .. ' | ' .. table.concat(back, ' '),
  'records', table.concat(entered) .. reads)
redis.call('PUBLISH', bell, 'choose')
return {'ok'}

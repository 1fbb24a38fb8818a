#!lua
-- Draws up to n waiting tasks, lane by lane, and leases them to a worker in the same step. For a pool
--   it leases more, the candidates: `choose` keeps n of them, within 10 s (our choice).
-- Over 80 lines: slots, draw, lease and log entry must be one atomic step.
-- KEYS[1] meta hash run-wide counters, clocks, credits, shares
-- KEYS[2] tasks hash ordinal -> packed entry number and lane weights
-- KEYS[3] leases zset lease id by deadline
-- KEYS[4] lease hash the new lease
-- KEYS[5] ltasks hash ordinal -> how it was drawn
-- KEYS[6] idem hash idempotency key -> lease id and body hash
-- KEYS[7] workers hash live leases per worker
-- KEYS[8] log stream decisions
-- KEYS[9] lanes zset ordinal by arrival time; one key per lane, `uniform` first
-- ARGV[1] epoch
-- ARGV[2] n
-- ARGV[3] lease_id
-- ARGV[4] worker
-- ARGV[5] ttl_ms
-- ARGV[6] idem_key
-- ARGV[7] body_hash
-- ARGV[8] factor candidates per task of a pool; 0 without one
-- ARGV[9] most candidates of a batch
-- Returns {ok, fence, deadline, waiting, version, uri, w, n to keep or 0, (ordinal, 'entry lane weight
--   p')*} or {epoch}, {replay|reused, lease id}, {paused|worker_limit|full|empty, version, uri, w}
local meta, tasks, leases, lease, ltasks = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local idem, workers, log, num_lanes = KEYS[6], KEYS[7], KEYS[8], #KEYS - 8
local epoch, n, lease_id, worker = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local ttl_ms, idem_key, body_hash, factor = tonumber(ARGV[5]), ARGV[6], ARGV[7], tonumber(ARGV[8])
local m = redis.call('HMGET', meta, 'epoch', 'paused', 'cap', 'n_ready', 'n_leased', 'worker_cap',
  'version', 'uri', 'w', 'shares', 'credits', 'totals', 'clocks', 'fence', 'n_extra')
if m[1] ~= epoch then return {'epoch'} end
local before = redis.call('HGET', idem, idem_key)
if before then
  local id, hash = string.match(before, '^(%S+) (%S+)$')
  return {hash == body_hash and 'replay' or 'reused', id}
end
local live = tonumber(redis.call('HGET', workers, worker) or '0')
local waiting = redis.call('ZCARD', KEYS[9])
n = math.min(n, tonumber(m[3]) - tonumber(m[4]) - tonumber(m[5]) + tonumber(m[15] or '0'), waiting)
local why = m[2] == '1' and 'paused' or live >= tonumber(m[6]) and 'worker_limit'
  or waiting == 0 and 'empty' or n <= 0 and 'full'
if why then return {why, m[7], m[8], m[9]} end
local keep = factor > 0 and n or 0
if keep > 0 then n = math.min(waiting, math.max(n, math.min(math.ceil(factor * n), tonumber(ARGV[9])))) end
local doubles, record = '<' .. string.rep('d', num_lanes), '<' .. string.rep('I4', num_lanes + 1)
local share, credit = {struct.unpack(doubles, m[10])}, {struct.unpack(doubles, m[11])}
local total, clock = {struct.unpack(doubles, m[12])}, {struct.unpack(doubles, m[13])}
local slots, drawn, lane_of, taken, weight = {}, {}, {}, {}, {}
for i = 1, num_lanes do slots[i], taken[i] = 0, 0 end
for i = 1, num_lanes do
  local at = total[i] > 0 and i or 1
  weight[at] = (weight[at] or 0) + share[i]
end
for _ = 1, n do
  local pick, best = 1, nil
  for step = 1, num_lanes do
    local i = step < num_lanes and step + 1 or 1 -- a tie goes to `uniform` last
    credit[i] = credit[i] + share[i]
    local rounded = math.floor(credit[i] * 1e9 + 0.5)
    if best == nil or rounded > best then pick, best = i, rounded end
  end
  credit[pick], slots[pick] = credit[pick] - 1, slots[pick] + 1
end
local function pop(i, want)
  if want == 0 then return 0 end
  local got, first = redis.call('ZRANGE', KEYS[8 + i], 0, want - 1, 'WITHSCORES'), #drawn
  for j = 1, #got, 2 do
    drawn[#drawn + 1], lane_of[#lane_of + 1], clock[i] = got[j], i, math.max(clock[i], tonumber(got[j + 1]))
  end
  for from = first + 1, #drawn, 1000 do
    for l = 1, num_lanes do redis.call('ZREM', KEYS[8 + l], unpack(drawn, from, math.min(from + 999, #drawn))) end
  end
  return want - (#drawn - first)
end
local left = 0
for i = 1, num_lanes do left = left + pop(i, slots[i]) end
pop(1, left)
local reply = {'ok', '', '', waiting, m[7], m[8], m[9], keep}
for from = 1, #drawn, 1000 do
  local told = {}
  for j, packed in ipairs(redis.call('HMGET', tasks, unpack(drawn, from, math.min(from + 999, #drawn)))) do
    local at, r, p = from + j - 1, {struct.unpack(record, packed)}, 0
    for i = 1, num_lanes do
      if r[i + 1] > 0 then p, taken[i] = p + weight[i] * r[i + 1] / total[i], taken[i] + r[i + 1] end
    end
    told[2 * j - 1], told[2 * j] = drawn[at], string.format('%d %d %d %.17g', r[1], lane_of[at], r[lane_of[at] + 1], p)
  end
  redis.call('HSET', ltasks, unpack(told))
  for _, word in ipairs(told) do reply[#reply + 1] = word end
end
for i = 1, num_lanes do total[i] = total[i] - taken[i] end
local now, fence = redis.call('TIME'), string.format('%.0f', tonumber(m[14]) + 1)
local deadline = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000) + (keep > 0 and math.min(ttl_ms, 10000) or ttl_ms))
redis.call('HSET', meta, 'fence', fence, 'credits', struct.pack(doubles, unpack(credit)), 'totals',
  struct.pack(doubles, unpack(total)), 'clocks', struct.pack(doubles, unpack(clock)))
redis.call('HINCRBY', meta, 'n_leased', #drawn)
redis.call('HINCRBY', meta, 'n_drawn', keep > 0 and keep or #drawn)
if keep > 0 then
  redis.call('HINCRBY', meta, 'n_extra', #drawn - keep) -- leased, but not counted against the cap
  redis.call('HSET', lease, 'keep', keep, 'extra', #drawn - keep)
end
redis.call('HINCRBY', workers, worker, 1)
redis.call('ZADD', leases, deadline, lease_id)
redis.call('HSET', lease, 'fence', fence, 'worker', worker, 'ttl', ttl_ms, 'idem', idem_key,
  'version', m[7], 'uri', m[8], 'w', m[9], 'waiting', waiting)
redis.call('HSET', idem, idem_key, lease_id .. ' ' .. body_hash)
redis.call('XADD', log, 'MAXLEN', '~', 200000, '*', 'number', redis.call('HINCRBY', meta, 'log_number', 1), 'kind', 'draw',
  'lease', lease_id, 'fence', fence, 'version', m[7], 'waiting', waiting, 'tasks', table.concat(reply, ' ', 9))
reply[2], reply[3] = fence, deadline
return reply

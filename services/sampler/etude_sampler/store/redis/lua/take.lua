#!lua flags=allow-oom
-- Leases the oldest ready groups to a trainer: a full batch, or what there is once refill is spent.
-- Slots that the gate left empty since the last batch are filled with the greatest of the bank.
-- KEYS[1] meta hash run-wide counters
-- KEYS[2] ready zset group id by staleness
-- KEYS[3] groups hash group id -> manifest entry
-- KEYS[4] tleases zset training lease id by deadline
-- KEYS[5] tlease hash the new lease
-- KEYS[6] tgroups hash group id -> ready score; of a replayed one also rank, priority, replays
-- KEYS[7] idem hash idempotency key -> lease id and body hash
-- KEYS[8] bank zset group id by rank
-- KEYS[9] banked hash ordinal -> its banked group
-- ARGV[1] epoch
-- ARGV[2] n groups wanted
-- ARGV[3] refill_limit groups returned since the last batch that end the wait
-- ARGV[4] lease_id
-- ARGV[5] ttl_ms
-- ARGV[6] idem_key
-- ARGV[7] body_hash
-- ARGV[8] bell channel to ring
-- Returns {ok, fence, deadline, version, drawn, short, (group id, manifest entry, replays)*}, {epoch},
--   {replay|reused, lease id}, {wait, version, drawn} or {exhausted, version, drawn}
local meta, ready, groups, tleases, tlease = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local tgroups, idem, bank, banked = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local epoch, n, limit, lease_id, ttl_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local idem_key, body_hash, bell = ARGV[6], ARGV[7], ARGV[8]
local m = redis.call('HMGET', meta, 'epoch', 'version', 'n_drawn', 'n_returned', 'fence', 'n_dropped')
if m[1] ~= epoch then return {'epoch'} end
local before = redis.call('HGET', idem, idem_key)
if before then
  local id, hash = string.match(before, '^(%S+) (%S+)$')
  return {hash == body_hash and 'replay' or 'reused', id}
end
local have, spent = redis.call('ZCARD', ready), tonumber(m[4]) >= limit
local fill = math.max(0, math.min(n - have, tonumber(m[6] or '0'), redis.call('ZCARD', bank)))
if have + fill < n and not spent then return {'wait', m[2], m[3]} end
redis.call('HSET', meta, 'n_drawn', 0, 'n_returned', 0, 'n_dropped', 0)
if have + fill == 0 then return {'exhausted', m[2], m[3]} end
local members = redis.call('ZRANGE', ready, 0, math.min(n, have) - 1, 'WITHSCORES')
local now, fence = redis.call('TIME'), string.format('%.0f', tonumber(m[5]) + 1)
local deadline = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000) + ttl_ms)
local short = have + fill < n and 1 or 0
local reply = {'ok', fence, deadline, m[2], m[3], short}
local function hand_out(group_id, from, word, replays)
  redis.call('HSET', tgroups, group_id, word)
  redis.call('ZREM', from, group_id)
  reply[#reply + 1] = group_id
  reply[#reply + 1] = redis.call('HGET', groups, group_id)
  reply[#reply + 1] = replays
end
for j = 1, #members, 2 do hand_out(members[j], ready, members[j + 1], 0) end
local count = #members / 2
local least = redis.call('ZCARD', bank) - fill
local replayed = redis.call('ZRANGE', bank, least, -1, 'WITHSCORES')
for j = #replayed - 1, 1, -2 do
  local ordinal = string.match(replayed[j], '[^:]*$')
  local priority, replays, place = string.match(redis.call('HGET', banked, ordinal), '^(%S+) (%S+) (%S+)')
  replays = tonumber(replays) + 1
  hand_out(replayed[j], bank, table.concat({place, replayed[j + 1], priority, replays}, ' '), replays)
  redis.call('HDEL', banked, ordinal)
end
redis.call('HSET', meta, 'fence', fence)
redis.call('HINCRBY', meta, 'n_ready', -count)
redis.call('HINCRBY', meta, 'n_training', count + fill)
redis.call('ZADD', tleases, deadline, lease_id)
redis.call('HSET', tlease, 'fence', fence, 'ttl', ttl_ms, 'idem', idem_key, 'version', m[2], 'drawn', m[3], 'short', short, 'w', '', 'waiting', 0)
redis.call('HSET', idem, idem_key, lease_id .. ' ' .. body_hash)
redis.call('PUBLISH', bell, 'take')
return reply

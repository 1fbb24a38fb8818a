-- wrk script: a closed loop of lease and report, one connection a thread.
-- Over 80 lines: wrk loads one file, which holds the workload and its statistics.
-- Environment: BENCH_NONCE (fresh), BENCH_RUN, BENCH_BATCH, BENCH_GROUP, BENCH_MODE (pairs or lease).
local run, batch = os.getenv("BENCH_RUN"), tonumber(os.getenv("BENCH_BATCH"))
local group, mode = tonumber(os.getenv("BENCH_GROUP")), os.getenv("BENCH_MODE")
local nonce = os.getenv("BENCH_NONCE")
local threads = {}

local ffi = require("ffi")
ffi.cdef [[ typedef struct { long s; long ns; } bench_ts; int clock_gettime(int, bench_ts *); ]]
local ts = ffi.new("bench_ts")
function clock()
  ffi.C.clock_gettime(1, ts)
  return tonumber(ts.s) * 1e6 + tonumber(ts.ns) / 1e3
end

function setup(thread)
  thread:set("id", #threads)
  threads[#threads + 1] = thread
end

-- Outcomes of one group, in a few variants, encoded once; the tasks' components are always sent.
local function outcomes(seed)
  local parts = {}
  for j = 1, group do
    local right = (seed + j) % 3
    parts[j] = string.format(
      '{"components":{"format":1,"tool_name":%d,"param_name":%d,"param_value":%s},"reward":%d,' ..
      '"success":%s,"finish_reason":"stop","num_tokens":%d}',
      right > 0 and 1 or 0, right > 0 and 1 or 0, right == 2 and "1" or "0.5", right * 2 - 1,
      right == 2 and "true" or "false", 60 + (seed * 7 + j) % 50)
  end
  return '"attempts":[{"outcomes":[' .. table.concat(parts, ",") .. ']}]}'
end

function init(args)
  math.randomseed(id + 1)
  count, leased, failed, sent_at = 0, nil, 0, 0
  began, last_lease = clock(), 0
  lease_us, report_us, variants = {}, {}, {}
  for v = 1, 8 do variants[v] = outcomes(v) end
end

function request()
  count = count + 1
  local headers = { ["Content-Type"] = "application/json", ["Idempotency-Key"] = nonce .. id .. "-" .. count }
  local path, body
  if leased == nil then
    path = "/v1/runs/" .. run .. "/prompt-batches"
    body = string.format('{"num_tasks":%d,"worker":"w%d","wait_s":5,"ttl_s":600}', batch, id)
  else
    local groups = {}
    for i, task in ipairs(leased.tasks) do
      groups[i] = '{"task_id":"' .. task .. '",' .. variants[(count + i) % 8 + 1]
    end
    path = "/v1/leases/" .. leased.id .. "/groups"
    body = '{"fence":' .. leased.fence .. ',"groups":[' .. table.concat(groups, ",") .. "]}"
  end
  sent_at = clock()
  return wrk.format("POST", path, headers, body)
end

function response(status, _, body)
  local took = clock() - sent_at
  if status ~= 200 then
    failed, leased = failed + 1, nil
    if failed == 1 then io.stderr:write(body:sub(1, 300), "\n") end
    return
  end
  if leased ~= nil then
    report_us[#report_us + 1], leased = took, nil
    return
  end
  local lease_id, fence = body:match('"lease":{"id":"([^"]+)".-"fence":(%d+)')
  if lease_id == nil then return end
  lease_us[#lease_us + 1], last_lease = took, clock()
  if mode == "lease" then return end
  local tasks = {}
  for task in body:gmatch('"task":{"id":"([^"]+)"') do tasks[#tasks + 1] = task end
  leased = { id = lease_id, fence = fence, tasks = tasks }
end

local function percentile(sorted, p)
  if #sorted == 0 then return "null" end
  return string.format("%.3f", sorted[math.max(1, math.ceil(#sorted * p))] / 1000)
end

function done(summary)
  local all = { lease = {}, report = {} }
  local failures, first, last = 0, math.huge, 0
  for _, thread in ipairs(threads) do
    failures = failures + thread:get("failed")
    first, last = math.min(first, thread:get("began")), math.max(last, thread:get("last_lease"))
    for _, v in ipairs(thread:get("lease_us")) do table.insert(all.lease, v) end
    for _, v in ipairs(thread:get("report_us")) do table.insert(all.report, v) end
  end
  local parts = { string.format('"seconds":%.3f,"failed":%d,"leasing_s":%.3f',
    summary.duration / 1e6, failures, math.max(last - first, 1) / 1e6) }
  for name, values in pairs(all) do
    table.sort(values)
    parts[#parts + 1] = string.format('"%s":{"n":%d,"p50_ms":%s,"p99_ms":%s}', name, #values,
      percentile(values, 0.5), percentile(values, 0.99))
  end
  io.write("RESULT {" .. table.concat(parts, ",") .. "}\n")
end

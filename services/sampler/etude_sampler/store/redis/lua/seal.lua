#!lua flags=allow-oom
-- Takes a run out of service and lets one loader in: from here on only its loads are taken.
-- KEYS[1] meta hash run-wide counters
-- KEYS[2] loading hash who loads the run, how far it is
-- ARGV[1] token of the loader
-- ARGV[2] num_tasks to be loaded
-- Returns {ok}
local meta, loading, token, num_tasks = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
redis.call('UNLINK', meta, loading)
redis.call('HSET', loading, 'by', token, 'n', 0, 'of', num_tasks)
return {'ok'}

-- The beginning of every script that touches a channel's log; the rest of the script is appended to this file.
--
-- KEYS  1 the log (stream, ids <offset>-0, one field "e")   2 meta (hash)   3 seq (hash)
--       4 approvals (hash, see append.lua)
-- ARGV  1 an epoch to use should a new one begin   2 how long the log is kept after its last publish, ms
--
-- meta: epoch, run (the server's run_id), last (offset), survived ("<epoch>.<offset> ..." of earlier epochs, oldest first),
--       bytes (ever appended since offset 1), mark and marks (see publish.lua), sweep (see publish.lua)

local LOG, META, SEQ = KEYS[1], KEYS[2], KEYS[3]
local NEW_EPOCH, AGE_MS = ARGV[1], tonumber(ARGV[2])
local META_MS = AGE_MS + 7 * 24 * 3600 * 1000 -- meta outlives the log, so that an epoch is never used again
local MAX_SURVIVED = 16

local function integer(n) -- Lua's own conversion turns to 1e+14 where offsets may still go on
  return string.format('%.0f', n)
end

-- What meta says, brought up to date in memory only; save() writes it.
local function open_log()
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  local meta = redis.call('HMGET', META, 'epoch', 'run', 'last', 'survived', 'bytes', 'mark')
  local log = {
    epoch = meta[1], run = run, last = tonumber(meta[3] or 0), survived = meta[4] or '',
    bytes = tonumber(meta[5] or 0), mark = tonumber(meta[6] or 0),
    fresh = false, changed = false,
  }
  if not log.epoch then -- what an older log held belongs to no epoch we know
    log.epoch, log.last, log.survived, log.bytes, log.mark = NEW_EPOCH, 0, '', 0, 0
    log.fresh, log.changed = true, true
  elseif meta[2] ~= run then -- another server process: what it did not get from the last one is lost
    local survived = {}
    for place in string.gmatch(log.survived, '%S+') do survived[#survived + 1] = place end
    survived[#survived + 1] = log.epoch .. '.' .. integer(log.last)
    if #survived > MAX_SURVIVED then table.remove(survived, 1) end
    log.survived = table.concat(survived, ' ')
    log.epoch, log.changed = NEW_EPOCH, true
  end
  return log
end

-- With what is known of the approvals in it; but never a key that somebody else uses under that name.
local function drop_log()
  redis.call('XLEN', LOG)
  redis.call('HLEN', KEYS[4])
  redis.call('DEL', LOG, KEYS[4])
end

local function save(log)
  if log.changed then
    -- First a command that Redis allows when it is out of memory; it then lets the script end, and reading goes on.
    redis.call(log.fresh and 'DEL' or 'PERSIST', META)
    redis.call('HSET', META, 'epoch', log.epoch, 'run', log.run, 'last', integer(log.last), 'survived', log.survived,
      'bytes', integer(log.bytes), 'mark', integer(log.mark))
  else
    redis.call('HSET', META, 'last', integer(log.last), 'bytes', integer(log.bytes))
  end
  redis.call('PEXPIRE', META, META_MS)
end

local function first_of(log)
  local head = redis.call('XRANGE', LOG, '-', '+', 'COUNT', 1)[1]
  return head and tonumber(string.match(head[1], '^%d+')) or log.last + 1
end

-- What appends to a log and announces it: log order is wire order. The rest of the script is appended to this file.
--
-- Before it stands ANNOUNCE, the command that does so: PUBLISH, on a cluster SPUBLISH.
--
-- KEYS  4 approvals (hash)
-- ARGV  3 Pub/Sub channel   4 most entries   5 most bytes
--
-- approvals: id -> "<state> <epoch> <offset> <time> <facts>"; see approvals.py

local APPROVALS = KEYS[4]
local CHANNEL, MAX_ENTRIES, MAX_BYTES = ARGV[3], ARGV[4], tonumber(ARGV[5])
local MAX_OFFSET = 9007199254740991 -- 2^53 - 1
local MAX_MESSAGE_BYTES = 256 * 1024
local MARKS = 64 -- so the limit in bytes is kept to 1/64
local MAX_APPROVALS, KEEP_APPROVALS = 4096, 3072

-- Appends the entries (body: the same, joined by line ends) and brings meta up to date. Gives an error, with nothing
-- written, or nil.
local function append(log, entries, body)
  local count = #entries
  if log.last + count > MAX_OFFSET then return redis.error_reply('SRTFULL offsets end at 2^53 - 1') end
  if log.fresh then drop_log() end
  for i = 1, count do
    local id = integer(log.last + i) .. '-0'
    local added
    if i < count then
      added = redis.pcall('XADD', LOG, id, 'e', entries[i])
    else
      added = redis.pcall('XADD', LOG, 'MAXLEN', '~', MAX_ENTRIES, id, 'e', entries[i])
    end
    -- Only the first can fail (no memory, or the log was written to from elsewhere), and then nothing has been written.
    if type(added) == 'table' and added.err then return added end
  end
  local first = log.last + 1
  log.last, log.bytes = log.last + count, log.bytes + #body
  redis.call('PEXPIRE', LOG, AGE_MS)

  -- How much was appended up to some offsets, so that a limit in bytes becomes the offset to keep from.
  if log.bytes - log.mark >= MAX_BYTES / MARKS then
    local kept, from = {}, nil
    local marks = (redis.call('HGET', META, 'marks') or '') .. ' ' .. integer(log.last) .. ':' .. integer(log.bytes)
    if log.fresh then marks = integer(log.last) .. ':' .. integer(log.bytes) end
    for offset, bytes in string.gmatch(marks, '(%d+):(%d+)') do
      if log.bytes - bytes >= MAX_BYTES then
        from = tonumber(offset) + 1
      else
        kept[#kept + 1] = offset .. ':' .. bytes
      end
    end
    if from then redis.call('XTRIM', LOG, 'MINID', '~', integer(from) .. '-0') end
    save(log)
    redis.call('HSET', META, 'mark', integer(log.bytes), 'marks', table.concat(kept, ' '))
  else
    save(log)
  end

  local message = '1 ' .. log.epoch .. ' ' .. integer(first) .. ' ' .. integer(count) .. '\n'
  if #message + #body <= MAX_MESSAGE_BYTES then message = message .. body end
  redis.call(ANNOUNCE, CHANNEL, message)
end

-- Records what the event at an offset says about an approval; gives the record.
local function record(id, state, log, offset, time, facts)
  local value = table.concat({state, log.epoch, integer(offset), time, facts}, ' ')
  redis.call('HSET', APPROVALS, id, value)
  redis.call('PEXPIRE', APPROVALS, META_MS) -- and nothing to do for a batch that says nothing about approvals
  return value
end

-- Forgets the oldest approvals if there are too many, those that are pending last.
local function forget_approvals()
  if redis.call('HLEN', APPROVALS) <= MAX_APPROVALS then return end
  local all, known = redis.call('HGETALL', APPROVALS), {}
  for i = 1, #all, 2 do
    local state, offset = string.match(all[i + 1], '^(%a+) %S+ (%d+)')
    known[#known + 1] = {id = all[i], pending = state == 'pending', offset = tonumber(offset)}
  end
  table.sort(known, function(a, b)
    if a.pending ~= b.pending then return b.pending end
    return a.offset < b.offset
  end)
  for i = 1, #known - KEEP_APPROVALS do redis.call('HDEL', APPROVALS, known[i].id) end
end

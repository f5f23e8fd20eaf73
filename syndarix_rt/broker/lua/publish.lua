-- Appends a batch and announces it: log order is wire order, and all of the batch is there or nothing of it.
--
-- ARGV  3 Pub/Sub channel   4 most entries   5 most bytes   6 the entries, joined by line ends
--       7 producer, or ''   8 its sequence   9 fingerprint of the batch
-- gives {epoch, first, last, duplicates}
--
-- seq: producer -> "<sequence> <epoch> <first> <last> <ms> <fingerprint>" of its last batch

local CHANNEL, MAX_ENTRIES, MAX_BYTES, BODY = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local PRODUCER, SEQUENCE, FINGERPRINT = ARGV[7], tonumber(ARGV[8]), ARGV[9]
local MAX_OFFSET = 9007199254740991 -- 2^53 - 1
local MAX_MESSAGE_BYTES = 256 * 1024
local RECORD_MS = 24 * 3600 * 1000
local SWEEP_EVERY, SWEEP_COUNT = 16, 64 -- four records are looked at for each one that is made
local MARKS = 64 -- so the limit in bytes is kept to 1/64

-- Everything up to the first write only reads and refuses.
local log = open_log()

local entries, at = {}, 1
while true do
  local stop = string.find(BODY, '\n', at, true)
  entries[#entries + 1] = string.sub(BODY, at, (stop or 0) - 1)
  if not stop then break end
  at = stop + 1
end
local count = #entries
local first, last = log.last + 1, log.last + count

local now, known
if PRODUCER ~= '' then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
  known = redis.call('HGET', SEQ, PRODUCER)
  if known then
    local sequence, epoch, from, to, ms, fingerprint = string.match(known, '^(%d+) (%S+) (%d+) (%d+) (%d+) (.*)$')
    if now - ms < RECORD_MS then
      if SEQUENCE < tonumber(sequence) then
        return redis.error_reply('SRTSEQUENCE ' .. sequence)
      elseif SEQUENCE == tonumber(sequence) then
        if fingerprint ~= FINGERPRINT then return redis.error_reply('SRTFINGERPRINT ' .. sequence) end
        return {epoch, tonumber(from), tonumber(to), to - from + 1}
      end
    end
  end
end
if last > MAX_OFFSET then return redis.error_reply('SRTFULL offsets end at 2^53 - 1') end

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
log.last, log.bytes = last, log.bytes + #BODY
redis.call('PEXPIRE', LOG, AGE_MS)

-- How much was appended up to some offsets, so that a limit in bytes becomes the offset to keep from.
if log.bytes - log.mark >= MAX_BYTES / MARKS then
  local kept, from = {}, nil
  local marks = (redis.call('HGET', META, 'marks') or '') .. ' ' .. integer(last) .. ':' .. integer(log.bytes)
  if log.fresh then marks = integer(last) .. ':' .. integer(log.bytes) end
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

if PRODUCER ~= '' then
  local record = {integer(SEQUENCE), log.epoch, integer(first), integer(last), integer(now), FINGERPRINT}
  redis.call('HSET', SEQ, PRODUCER, table.concat(record, ' '))
  redis.call('PEXPIRE', SEQ, RECORD_MS)
  if not known and redis.call('HLEN', SEQ) % SWEEP_EVERY == 0 then
    local page = redis.call('HSCAN', SEQ, redis.call('HGET', META, 'sweep') or '0', 'COUNT', SWEEP_COUNT)
    for i = 1, #page[2], 2 do
      local ms = string.match(page[2][i + 1], '^%d+ %S+ %d+ %d+ (%d+)')
      if now - ms >= RECORD_MS then redis.call('HDEL', SEQ, page[2][i]) end
    end
    redis.call('HSET', META, 'sweep', page[1])
  end
end

local message = '1 ' .. log.epoch .. ' ' .. integer(first) .. ' ' .. integer(count) .. '\n'
if #message + #BODY <= MAX_MESSAGE_BYTES then message = message .. BODY end
redis.call('PUBLISH', CHANNEL, message)
return {log.epoch, first, last, 0}

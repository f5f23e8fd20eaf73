-- Appends a batch and announces it: all of the batch is there or nothing of it.
--
-- ARGV  6 the entries, joined by line ends   7 producer, or ''   8 its sequence   9 fingerprint of the batch
--       10... what the batch says about approvals, five each: entry (from 1), id, state, time, facts
-- gives {epoch, first, last, duplicates}
--
-- seq: producer -> "<sequence> <epoch> <first> <last> <ms> <fingerprint>" of its last batch

local BODY, PRODUCER, SEQUENCE, FINGERPRINT = ARGV[6], ARGV[7], tonumber(ARGV[8]), ARGV[9]
local RECORD_MS = 24 * 3600 * 1000
local SWEEP_EVERY, SWEEP_COUNT = 16, 64 -- four records are looked at for each one that is made

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

-- What a person has decided, no run decides again, unless the question has been asked anew since.
local states, late = {}, {}
for i = 10, #ARGV, 5 do
  local entry, id, state = unpack(ARGV, i, i + 2)
  local was = states[id] or not log.fresh and string.match(redis.call('HGET', APPROVALS, id) or '', '^%a+')
  if was == 'decided' and state == 'resolved' then
    late[#late + 1] = entry
  elseif state == 'pending' or was == 'pending' then
    states[id] = state
  end
end
if #late > 0 then return redis.error_reply('SRTDECIDED ' .. table.concat(late, ' ')) end

local refused = append(log, entries, BODY)
if refused then return refused end

for i = 10, #ARGV, 5 do
  local entry, id, state, time, facts = unpack(ARGV, i, i + 4)
  if state == 'pending' or string.find(redis.call('HGET', APPROVALS, id) or '', '^pending ') then
    record(id, state, log, first + entry - 1, time, facts)
  end
end
if #ARGV >= 10 then forget_approvals() end

if PRODUCER ~= '' then
  local sent = {integer(SEQUENCE), log.epoch, integer(first), integer(last), integer(now), FINGERPRINT}
  redis.call('HSET', SEQ, PRODUCER, table.concat(sent, ' '))
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

return {log.epoch, first, last, 0}

-- Reads a page and the position it was read at; with a limit of 0, the position alone.
--
-- ARGV  3 after which offset   4 most entries   5 most bytes (the page ends after the entry that passes them)
-- gives {epoch, first, last, survived, first offset of the page, entries}

local AFTER, LIMIT, MAX_BYTES = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local log = open_log()
if log.fresh then drop_log() end
local first = first_of(log)
if log.changed then save(log) end

local from = math.max(AFTER + 1, first)
local entries, bytes, step = {}, 0, 8 -- few at first, so that not much is read in vain when they are large
while #entries < LIMIT and bytes < MAX_BYTES and from + #entries <= log.last do
  local start = integer(from + #entries) .. '-0'
  local found = redis.call('XRANGE', LOG, start, integer(log.last) .. '-0', 'COUNT', math.min(step, LIMIT - #entries))
  for _, entry in ipairs(found) do
    if entry[1] ~= integer(from + #entries) .. '-0' then
      -- Somebody has deleted entries by hand. A page has no hole: it ends here, or begins here.
      if #entries > 0 then return {log.epoch, first, log.last, log.survived, from, entries} end
      from = tonumber(string.match(entry[1], '^%d+'))
    end
    entries[#entries + 1] = entry[2][2]
    bytes = bytes + #entry[2][2]
    if bytes >= MAX_BYTES then break end
  end
  if #found == 0 then
    if #entries == 0 then from = log.last + 1 end
    break
  end
  step = step * 2
end
return {log.epoch, first, log.last, log.survived, from, entries}

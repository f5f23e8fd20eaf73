-- Reads a page and the position it was read at; with a limit of 0, the position alone.
--
-- ARGV  3 after which offset   4 most entries   5 most bytes (the page ends after the entry that passes them)
-- gives {epoch, first, last, survived, first offset of the page, entries}

local AFTER, LIMIT, MAX_BYTES = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local STEP = 100 -- entries at a time, so that few are read in vain when they are large

local log = open_log()
if log.fresh then drop_log() end
local first = first_of(log)
if log.changed then save(log) end

local from = math.max(AFTER + 1, first)
local entries, bytes, whole = {}, 0, true
while whole and #entries < LIMIT and bytes < MAX_BYTES do
  local start = from + #entries
  if start > log.last then break end
  local step = math.min(STEP, LIMIT - #entries)
  local found = redis.call('XRANGE', LOG, integer(start) .. '-0', integer(log.last) .. '-0', 'COUNT', step)
  if #entries == 0 and found[1] then -- someone may have deleted entries by hand
    from = tonumber(string.match(found[1][1], '^%d+'))
  end
  for _, entry in ipairs(found) do
    whole = entry[1] == integer(from + #entries) .. '-0'
    if not whole then break end
    entries[#entries + 1] = entry[2][2]
    bytes = bytes + #entry[2][2]
  end
  if #found < step then break end
end
return {log.epoch, first, log.last, log.survived, from, entries}

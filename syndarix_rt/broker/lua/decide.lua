-- Decides an approval: tests that it still waits as expected, appends the decision's event, and records it.
--
-- ARGV  6 the approval   7 the record it should have, or '' to ask only   8 the latest event of the simulation holds
--       this text, or '' for a decision in wall time   9 how many entries may be searched for it
--       10 when it was asked for   11 the event's time unless that event says another
--       12-14 the event, cut open where its time and the seconds that it was waited for belong   15 facts for its record
-- gives the record that it has then; nil if no such approval is known

local ID, EXPECTED, MARK, SEARCH = ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[9])
local TIME = '^(%d%d%d%d)%-(%d%d)%-(%d%d)T(%d%d):(%d%d):(%d%d)%.(%d%d%d%d%d%d)Z$'
local PAGE = 100

local log = open_log()
local known = redis.call('HGET', APPROVALS, ID)
if log.fresh or not known then return nil end
if known ~= EXPECTED then return known end

local function time_of_the_latest()
  local simulation = cjson.decode('{' .. MARK .. '}').simulation
  local upto, left = '+', SEARCH
  while left > 0 do
    local page = redis.call('XREVRANGE', LOG, upto, '-', 'COUNT', math.min(PAGE, left))
    for _, entry in ipairs(page) do
      if string.find(entry[2][2], MARK, 1, true) then
        local ok, event = pcall(cjson.decode, entry[2][2])
        if ok and type(event) == 'table' and event.simulation == simulation and type(event.time) == 'string'
          and string.find(event.time, TIME) then
          return event.time
        end
      end
    end
    if #page == 0 then return nil end
    upto, left = '(' .. page[#page][1], left - #page
  end
end

-- Seconds since some midnight long ago, and microseconds.
local function instant(time)
  local year, month, day, hour, minute, second, us = string.match(time, TIME)
  year, month = tonumber(year), tonumber(month)
  if month < 3 then year, month = year - 1, month + 12 end -- leap days come last
  local days = 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
    + math.floor((153 * (month - 3) + 2) / 5) + day
  return ((days * 24 + hour) * 60 + minute) * 60 + second, tonumber(us)
end

local function seconds_between(from, to)
  local from_s, from_us = instant(from)
  local to_s, to_us = instant(to)
  local s, us = to_s - from_s, to_us - from_us
  if us < 0 then s, us = s - 1, us + 1000000 end
  if s < 0 then return '0.0' end
  local fraction = string.gsub(string.format('%06d', us), '0+$', '')
  return integer(s) .. '.' .. (fraction == '' and '0' or fraction)
end

local asked, time = ARGV[10], ARGV[11]
if MARK ~= '' then time = time_of_the_latest() or time end
local event = ARGV[12] .. time .. ARGV[13] .. seconds_between(asked, time) .. ARGV[14]
local refused = append(log, {event}, event)
if refused then return refused end
return record(ID, 'decided', log, log.last, time, ARGV[15])

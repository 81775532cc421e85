-- For wrk: sends the requests of a file in order, starts at a given one, and prints the result.
-- wrk -s replay.lua URL -- FILE FIRST [PLACEHOLDER SEED]
--
-- A placeholder in a request is replaced by random digits, so that Triton's cache knows no basket.

local requests, following = {}, 0
local placeholder

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  for length in function() return file:read("*l") end do
    requests[#requests + 1] = file:read(tonumber(length))
  end
  file:close()
  following = tonumber(arguments[2]) % #requests
  placeholder = arguments[3]
  math.randomseed(tonumber(arguments[4] or 0))
end

local function fill_in(text)
  local first, last = text:find(placeholder, 1, true)
  local digits = ("%0" .. #placeholder .. "d"):format(math.random(0, 10 ^ #placeholder - 1))
  return text:sub(1, first - 1) .. digits .. text:sub(last + 1)
end

function request()
  following = following % #requests + 1
  return placeholder and fill_in(requests[following]) or requests[following]
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end

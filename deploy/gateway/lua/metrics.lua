-- Counts requests and their times for Prometheus. The supervisor reads the text from the control socket.
--
-- The counts are in a shared dictionary, so neither a worker's end nor a reload loses any.

local workers = require("workers")

local shared = ngx.shared.metrics
local BOUNDS_S = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5}
local HTTP_OF_GRPC = {  -- gRPC status → the HTTP status with the same meaning
  [0] = 200, [3] = 400, [4] = 504, [5] = 503, [7] = 403, [8] = 429, [12] = 404, [13] = 500, [14] = 503, [16] = 401,
}
local TEXTS = {
  requests = {"counter", "Requests; gRPC requests have the HTTP status of the same meaning."},
  context_requests = {"counter", "Requests with X-Placement or X-Variant; pairs beyond a bound are other."},
  request_seconds = {"histogram", "From the first byte of a request with a key to the last of its answer."},
  upstream_seconds = {"histogram", "The part spent waiting for Triton or the supervisor; the slowest of parallel queries counts."},
  unlogged = {"counter", "Requests without a valid key that are counted but not logged."},
  cache_mismatches = {"counter", "Answers of Triton's cache to another question; each was asked once more."},
  canary_failures = {"counter", "Questions that the canary release did not answer; the active one was asked."},
  worker_deaths = {"counter", "Workers that ended without being asked to."},
  at_triton = {"gauge", "Requests that wait for Triton."},
  workers = {"gauge", "Workers that live."},
  start_time_seconds = {"gauge", "When nginx started, in Unix time."},
}

local metrics = {}

local function add(entry, change)
  shared:incr(entry, change, 0)
end

-- Returns the bucket of a time.
local function bucket_of(seconds)
  for n = 1, #BOUNDS_S do
    if seconds <= BOUNDS_S[n] then
      return n
    end
  end
  return #BOUNDS_S + 1
end

-- Returns the entries of a histogram by bucket, and that of its sum.
local function entries_of(name, labels)
  local entries = {sum = name .. "|" .. labels .. "|sum"}
  for bucket = 1, #BOUNDS_S + 1 do
    entries[bucket] = name .. "|" .. labels .. "|" .. bucket
  end
  return entries
end

local known = {}  -- route → release → the names of their entries

local function names_of(route, release)
  local releases = known[route] or {}
  known[route] = releases
  local names = releases[release]
  if not names then
    local labels = 'route="' .. route .. '",release="' .. release .. '"'
    names = {
      requests = "requests|" .. labels .. ',key="',
      request_seconds = entries_of("request_seconds", labels),
      upstream_seconds = entries_of("upstream_seconds", labels),
    }
    releases[release] = names
  end
  return names
end

local function observe(entries, seconds)
  add(entries[bucket_of(seconds)], 1)
  add(entries.sum, seconds)
end

-- Counts the request that ends. `upstream_s` is nil if nothing behind the gateway was asked.
function metrics.count(request)
  local status = HTTP_OF_GRPC[request.grpc] or request.grpc and 500 or request.status
  local names = names_of(request.route, request.release)
  add(names.requests .. request.key .. '",status="' .. status .. '",model="' .. request.model .. '"', 1)
  if request.context then
    add("context_requests|" .. request.context .. ',status="' .. math.floor(status / 100) .. 'xx"', 1)
  end
  if request.key ~= "" then  -- a flood without keys would make the gateway look fast
    observe(names.request_seconds, request.seconds)
  end
  if request.upstream_s then
    observe(names.upstream_seconds, request.upstream_s)
  end
end

function metrics.add(name, change)
  add(name .. "|", change)
end

-- ---- the text

local function head(lines, name)
  local kind = TEXTS[name][1]
  local full = "cesta_gateway_" .. name .. (kind == "counter" and "_total" or "")
  lines[#lines + 1] = "# HELP " .. full .. " " .. TEXTS[name][2]
  lines[#lines + 1] = "# TYPE " .. full .. " " .. kind
  return full
end

local function write_histogram(lines, full, labels, values)
  local sum = 0
  for n = 1, #BOUNDS_S + 1 do
    sum = sum + (values[tostring(n)] or 0)
    local bound = BOUNDS_S[n] and tostring(BOUNDS_S[n]) or "+Inf"
    lines[#lines + 1] = full .. "_bucket{" .. labels .. ',le="' .. bound .. '"} ' .. sum
  end
  lines[#lines + 1] = full .. "_sum{" .. labels .. "} " .. (values.sum or 0)
  lines[#lines + 1] = full .. "_count{" .. labels .. "} " .. sum
end

-- Returns the values by name, labels and part (a bucket's number or "sum").
local function read()
  local families = {}
  for _, entry in ipairs(shared:get_keys(0)) do
    local name, labels, part = entry:match("^([^|]+)|([^|]*)|?(.*)$")
    local family = families[name] or {}
    families[name] = family
    family[labels] = family[labels] or {}
    family[labels][part] = shared:get(entry)
  end
  return families
end

-- Returns all counts as Prometheus reads them.
function metrics.text()
  local families, lines = read(), {}
  for _, name in ipairs({"unlogged", "cache_mismatches", "canary_failures"}) do  -- Prometheus must see the 0 before the first one
    families[name] = families[name] or {[""] = {[""] = 0}}
  end
  families.worker_deaths = {[""] = {[""] = workers.deaths()}}
  families.start_time_seconds = {[""] = {[""] = workers.started()}}
  families.workers = {[""] = {[""] = workers.living()}}
  families.at_triton = {[""] = {[""] = workers.total("all", "places")}}
  for name, text in pairs(TEXTS) do
    local full = head(lines, name)
    for labels, values in pairs(families[name] or {}) do
      if text[1] == "histogram" then
        write_histogram(lines, full, labels, values)
      else
        lines[#lines + 1] = full .. (labels ~= "" and "{" .. labels .. "} " or " ") .. values[""]
      end
    end
  end
  return table.concat(lines, "\n") .. "\n"
end

return metrics

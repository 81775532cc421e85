-- Limits: the rate of a key, its requests in flight, its share of Triton, and the rate of an address without a key.

local workers = require("workers")

local rates = ngx.shared.rates          -- of keys
local addresses = ngx.shared.addresses  -- of callers without one; they are apart, so that a flood pushes no key out
local sessions = ngx.shared.sessions    -- of pages; apart for the same reason

local IN_FLIGHT = 32   -- requests of one key whose callers wait
local AT_TRITON = 64   -- requests of all keys at Triton; more would only wait there
local PAGES = 256      -- requests in flight of all pages of one key
local OF_SESSION = 4   -- requests in flight of one session
local SESSION_S = 30   -- a session's count lives as long: a worker that dies does not block it
local SHARE = 8        -- of these a key always gets as many as this, however much the others ask
local ADDRESS_RATE = 10
local ADDRESS_BURST = 20
local SLACK = 32       -- requests that workers may let in beyond a burst, because they do not wait for each other

local limits = {}

-- The generic cell rate algorithm: `name` may go on if it has stayed below `rate` per second, with `burst` more at once.
-- `cost` is what it then has used; by default 1. It may go beyond the burst, which the next one waits for.
-- Returns that, the seconds until it has the whole burst again, and if it may not, those until it may.
local function below_rate(dictionary, name, rate, burst, cost)
  local now, step = ngx.now(), 1 / rate
  local due = dictionary:get(name) or now
  local latest = now + 2 * (burst + SLACK) * step
  if due < now or due > latest then  -- beyond `latest` only if the machine's clock was set back
    due = now
    dictionary:set(name, due)
  end
  local behind = due - now
  if behind > burst * step then
    return false, behind, behind - burst * step
  end
  cost = cost or 1
  dictionary:incr(name, cost * step, now, math.ceil((burst + cost) * step) + 1)
  return true, behind + cost * step
end

-- Counts a request of a key that has just begun. Returns nil if the key has too many. Counting comes before the check,
-- so that workers which do both at the same moment never let in too many.
--
-- A session has less than its key, so that one visitor does not hold all that the pages have. Pages are counted apart from
-- the key itself: visitors must not keep the shop's server from asking for tokens. Returns what to leave.
function limits.enter(key)
  local entered, kind, most = key.name, "callers", IN_FLIGHT
  if key.session then
    entered, kind, most = key.name .. " " .. key.session, "pages", PAGES
    if sessions:incr("in flight:" .. entered, 1, 0, SESSION_S) > OF_SESSION then
      sessions:incr("in flight:" .. entered, -1)
      return nil
    end
  end
  workers.add(kind, key.name, 1)
  if workers.total(kind, key.name) > most then
    limits.leave(entered)
    return nil
  end
  return entered
end

function limits.leave(entered)
  local blank = entered:find(" ", 1, true)
  if blank then
    sessions:incr("in flight:" .. entered, -1)
  end
  workers.add(blank and "pages" or "callers", blank and entered:sub(1, blank - 1) or entered, -1)
end

function limits.session(key)
  local may, _, wait_s = below_rate(sessions, key.name .. " " .. key.session, key.session_rate, key.session_rate)
  return may, wait_s
end

-- Sends the draft RateLimit fields of the IETF (draft-ietf-httpapi-ratelimit-headers): the quota, and what is left of it.
local function tell(policy, rate, burst, behind)
  local left = math.max(0, math.floor(burst - behind * rate))
  ngx.header["RateLimit-Policy"] = string.format('"%s";q=%d;w=%d', policy, burst, math.ceil(burst / rate))
  ngx.header["RateLimit"] = string.format('"%s";r=%d;t=%d', policy, left, math.ceil(behind))
end

-- Returns whether a key may go on by this policy, and if not, the seconds until it may. While less than half of the quota
-- is left, the answer tells the quota: a client far below its rate has no use for it, and it takes time.
local function within(policy, key, rate, burst, questions)
  local may, behind, wait_s = below_rate(rates, policy .. ":" .. key.name, rate, burst, questions)
  if behind * rate > burst / 2 then
    tell(policy, rate, burst, behind)
  end
  return may, wait_s
end

-- `questions` are those of the request, by default 1.
function limits.single(key, questions)
  return within(key.session and "pages" or "single", key, key.rate, key.rate, questions)
end

-- Returns whether a caller without a key may have an answer, and whether the request is to be logged. `address` is
-- binary. An IPv6 address counts by its first 64 bits, because its owner has all that begin with them.
function limits.address(address)
  address = #address == 16 and address:sub(1, 8) or address
  if below_rate(addresses, address, ADDRESS_RATE, ADDRESS_BURST) then
    return true, true
  end
  return false, addresses:add("logged:" .. address, true, 1)
end

function limits.give_place_back(key_name)
  if workers.add("places", key_name, -1) == 0 then
    workers.add("all", "keys", -1)
  end
  workers.add("all", "places", -1)
end

-- Returns how many places a key has even if all are taken.
local function fair_share()
  return math.max(1, math.min(SHARE, math.floor(AT_TRITON / workers.total("all", "keys"))))
end

-- Takes a place at Triton, which is kept until Triton has answered, also if the caller leaves. Returns false if there
-- is none.
function limits.take_place(key_name)
  if workers.add("places", key_name, 1) == 1 then
    workers.add("all", "keys", 1)
  end
  workers.add("all", "places", 1)
  if workers.total("all", "places") > AT_TRITON and workers.total("places", key_name) > fair_share() then
    limits.give_place_back(key_name)
    return false
  end
  return true
end

return limits

-- The supervisor's health, asked twice a second, so that no caller's probe waits or is refused.

local answers = require("answers")
local http = require("http")

local results = ngx.shared.health
local PATHS = {"/healthz", "/readyz"}
local EVERY_S = 0.5
local OLD_S = 1
local TIMEOUT_MS = 400

local health = {}
local address

function health.init(supervisor_address)
  address = http.address_of(supervisor_address)
end

local function ask(path)
  local request = {"GET ", path, " HTTP/1.1\r\nHost: cesta\r\n\r\n"}
  local head, body = http.send(address, request, TIMEOUT_MS)
  local status = head and head.status or body == "timeout" and 504 or 502
  body = head and body or ""
  results:set(path, status .. " " .. ngx.now() .. " " .. body)
end

local function ask_all(ending)
  for _, path in ipairs(ending and {} or PATHS) do
    ask(path)
  end
end

function health.follow()
  if ngx.worker.id() == 0 then
    ngx.timer.at(0, ask_all)
    ngx.timer.every(EVERY_S, ask_all)
  end
end

local function latest(path)
  local status, at, body = (results:get(path) or "502 0 "):match("^(%d+) (%S+) (.*)$")
  return tonumber(status), tonumber(at), body
end

-- Returns the status and the body of the supervisor's answer, at most a second old.
function health.of(path)
  local status, at, body = latest(path)
  if ngx.now() - at > OLD_S then
    ask(path)
    status, at, body = latest(path)
  end
  return status, body
end

function health.answer(path)
  local status, body = health.of(path)
  if body == "" then
    answers.refuse(status, status == 504 and "the supervisor took too long" or "what answers this cannot be reached")
  end
  if status ~= 200 then  -- problem details of the supervisor, in its words, but with this request's id
    body = body:gsub('"request_id": ?"[%w._-]*"', '"request_id":"' .. ngx.ctx.id .. '"', 1)
    ngx.header["Content-Type"] = "application/problem+json"
    ngx.header["Retry-After"] = status == 503 and 1 or nil
  end
  answers.send(status, body)
end

return health

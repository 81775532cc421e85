-- A request over HTTP/1.1 to a server behind the gateway, on a connection that is kept. It goes on if the caller leaves.

local http = {}

local CONNECT_MS = 1000
local KEEP_MS = 5000  -- an idle connection delays Triton's drain
local KEPT = 64
local MAX_BYTES = 4 * 1024 * 1024

local function read_head(socket)
  local line, fault = socket:receive("*l")
  if not line then
    return nil, fault
  end
  local status = line:match("^HTTP/1%.[01] (%d%d%d)")
  if not status then
    return nil, "not HTTP"
  end
  local headers = {}
  while true do
    line, fault = socket:receive("*l")
    if not line then
      return nil, fault
    end
    if line == "" then
      return tonumber(status), headers
    end
    local name, value = line:match("^([^:]+):%s*(.-)%s*$")
    if name then
      headers[name:lower()] = value
    end
  end
end

local function read_answer(socket)
  local status, headers = read_head(socket)
  if not status then
    return nil, headers
  end
  local length = tonumber(headers["content-length"])
  if not length or length > MAX_BYTES then
    return nil, "no length"
  end
  local body, fault = "", nil
  if length > 0 then
    body, fault = socket:receive(length)
    if not body then
      return nil, fault
    end
  end
  return {status = status, headers = headers, body = body}
end

local function attempt(address, request, timeout_ms)
  local socket = ngx.socket.tcp()
  socket:settimeouts(CONNECT_MS, timeout_ms, timeout_ms)
  local good, fault = socket:connect(address.host, address.port, {pool = address.pool, pool_size = KEPT})
  if not good then
    return nil, fault, false
  end
  local reused = socket:getreusedtimes() > 0
  good, fault = socket:send(request)
  local answer
  if good then
    answer, fault = read_answer(socket)
  end
  if not answer then
    socket:close()
    return nil, fault, reused and fault ~= "timeout"
  end
  if answer.headers.connection and answer.headers.connection:lower() == "close" then
    socket:close()
  else
    socket:setkeepalive(KEEP_MS, KEPT)
  end
  return answer
end

-- Sends a request, a list of strings, to an address of `address_of`. Returns the answer, {status, headers, body}, or nil
-- and the reason, "timeout" among others. A connection that the server has closed meanwhile is replaced.
function http.send(address, request, timeout_ms)
  local answer, fault, stale
  repeat
    answer, fault, stale = attempt(address, request, timeout_ms)
  until not stale
  return answer, fault
end

function http.address_of(text)
  local host, port = text:match("^(.+):(%d+)$")
  return {host = host, port = tonumber(port), pool = text}
end

return http

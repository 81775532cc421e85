-- A request over HTTP/1.1 to a server behind the gateway, on a connection that is kept. It goes on if the caller leaves.

local http = {}

local CONNECT_MS = 1000
local KEEP_MS = 5000  -- an idle connection delays Triton's drain
local KEPT = 64
local MAX_BYTES = 4 * 1024 * 1024
local PIECE_BYTES = 16384

-- Returns status and headers of an answer's head, or nil if it is not HTTP.
local function parse_head(head)
  local status = head:match("^HTTP/1%.[01] (%d%d%d)")
  if not status then
    return nil
  end
  local headers = {}
  for name, value in head:gmatch("\n([^:\r\n]+): *([^\r\n]*)") do
    headers[name:lower()] = value
  end
  return tonumber(status), headers
end

-- Reads what has arrived. A server that sends byte by byte has no more time than any other.
local function read_piece(socket, until_s, most)
  local left_ms = math.ceil(1000 * (until_s - ngx.now()))
  if left_ms < 1 then
    return nil, "timeout"
  end
  socket:settimeout(left_ms)
  return socket:receiveany(most)
end

-- Reads until the head is there. Most answers arrive in one piece.
local function read_head(socket, until_s)
  local text = ""
  repeat
    local piece, fault = read_piece(socket, until_s, PIECE_BYTES)
    if not piece then
      return nil, fault
    end
    text = text == "" and piece or text .. piece
    local first, last = text:find("\r\n\r\n", 1, true)
    if first then
      return text:sub(1, first + 1), text:sub(last + 1)
    end
  until #text > PIECE_BYTES
  return nil, "the head is too long"
end

-- Returns a body of `length` bytes, which begins with `body`, or nil and the reason.
local function read_body(socket, until_s, body, length)
  local parts, size = {body}, #body
  while size < length do
    local piece, fault = read_piece(socket, until_s, length - size)
    if not piece then
      return nil, fault
    end
    parts[#parts + 1], size = piece, size + #piece
  end
  return table.concat(parts)
end

local function read_answer(socket, until_s)
  local head, body = read_head(socket, until_s)
  if not head then
    return nil, body
  end
  local status, headers = parse_head(head)
  local length = status and tonumber(headers["content-length"])
  if not length or length > MAX_BYTES or #body > length then
    return nil, "not an answer with a length"
  end
  if #body < length then
    local whole, fault = read_body(socket, until_s, body, length)
    if not whole then
      return nil, fault
    end
    body = whole
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
    answer, fault = read_answer(socket, ngx.now() + timeout_ms / 1000)
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

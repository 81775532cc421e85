-- A request over HTTP/1.1 to a server behind the gateway, on a connection that is kept. It goes on if the caller leaves.

local memo = require("memo")

local http = {}

local CONNECT_MS = 1000
local KEEP_MS = 5000  -- an idle connection delays Triton's drain
local KEPT = 64
local MAX_BYTES = 4 * 1024 * 1024
local PIECE_BYTES = 16384

-- Reads an answer's head: {status, length, closes, json_bytes}, or nil if it is not HTTP with a length. Most heads are
-- alike, because neither Triton nor its answers' sizes change much.
local read_head = memo(1000, function(head)
  local status = head:match("^HTTP/1%.[01] (%d%d%d)")
  local headers = head:lower()
  local length = headers:match("\ncontent%-length: *(%d+)")
  return status and length and {
    status = tonumber(status),
    length = tonumber(length),
    closes = headers:find("\nconnection: *close") ~= nil,
    json_bytes = tonumber(headers:match("\ninference%-header%-content%-length: *(%d+)")),
  } or nil
end)

-- Reads what has arrived. A server that sends byte by byte has no more time than any other.
local function read_piece(socket, until_s, most)
  local left_ms = math.ceil(1000 * (until_s - ngx.now()))
  if left_ms < 1 then
    return nil, "timeout"
  end
  socket:settimeout(left_ms)
  return socket:receiveany(most)
end

-- Returns the head and what has arrived after it, or nil and the reason. Most answers arrive in one piece.
local function receive_head(socket, until_s)
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
local function receive_body(socket, until_s, body, length)
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

local function receive_answer(socket, until_s)
  local text, body = receive_head(socket, until_s)
  if not text then
    return nil, body
  end
  local head = read_head(text)
  if not head or head.length > MAX_BYTES or #body > head.length then
    return nil, "not an answer with a length"
  end
  if #body < head.length then
    local whole, fault = receive_body(socket, until_s, body, head.length)
    if not whole then
      return nil, fault
    end
    body = whole
  end
  return head, body
end

local function attempt(address, request, timeout_ms)
  local socket = ngx.socket.tcp()
  socket:settimeouts(CONNECT_MS, timeout_ms, timeout_ms)
  local good, fault = socket:connect(address.host, address.port, address.options)
  if not good then
    return nil, fault, false
  end
  local reused = socket:getreusedtimes() > 0
  good, fault = socket:send(request)
  local head, body
  if good then
    head, body = receive_answer(socket, ngx.now() + timeout_ms / 1000)
    fault = body
  end
  if not head then
    socket:close()
    return nil, fault, reused and fault ~= "timeout"
  end
  if head.closes then
    socket:close()
  else
    socket:setkeepalive(KEEP_MS, KEPT)
  end
  return head, body
end

-- Sends a request, a list of strings, to an address of `address_of`. Returns the head of the answer, {status, json_bytes},
-- and its body; or nil and the reason, "timeout" among others. A connection that the server has closed meanwhile is
-- replaced.
function http.send(address, request, timeout_ms)
  local head, body, stale
  repeat
    head, body, stale = attempt(address, request, timeout_ms)
  until not stale
  return head, body
end

function http.address_of(text)
  local host, port = text:match("^(.+):(%d+)$")
  return {host = host, port = tonumber(port), options = {pool = text, pool_size = KEPT}}
end

return http

-- Answers to callers: JSON with a sentence over HTTP, a status in headers or trailers over gRPC.

local cjson = require("cjson.safe")
local problems = require("problems")

local answers = {}

-- Ends the request with a status; problems.lua describes the rest. It is raised as a table, so that `run` can tell it from
-- a fault.
function answers.refuse(status, text, code, pointer)
  error({status = status, text = text, code = code, pointer = pointer}, 0)
end

-- Ends the request with a status and the time after which it may succeed.
function answers.refuse_for_now(status, code, retry_s, text)
  error({status = status, text = text, code = code, retry_s = retry_s}, 0)
end

local function traced(fault)
  if type(fault) == "table" then
    return fault
  end
  return debug.traceback(fault, 2)
end

-- Calls `work` with the arguments after it and returns its result, or nil and what was refused.
-- The text of a fault in these scripts goes into the request log, not to the caller.
function answers.run(work, ...)
  local good, result = xpcall(work, traced, ...)
  if good then
    return result
  end
  if type(result) == "table" and result.status then
    return nil, result
  end
  ngx.var.trouble = tostring(result)
  return nil, {status = 500}
end

-- Tells whether a string needs no escapes in JSON. A loop over bytes is compiled, a search for a pattern is not.
local function is_plain(text)
  for n = 1, #text do
    local byte = text:byte(n)
    if byte < 32 or byte == 34 or byte == 92 or byte > 126 then
      return false
    end
  end
  return true
end

local function quoted(text)
  return is_plain(text) and '"' .. text .. '"' or cjson.encode(text)
end

-- Writes a string into a buffer, as JSON.
function answers.write_quoted(buffer, text)
  if is_plain(text) then
    buffer:put('"', text, '"')
  else
    buffer:put(cjson.encode(text))
  end
end

-- Sends JSON, which is nginx's default type. Each assignment to ngx takes 2 µs.
function answers.send(status, body)
  if status ~= 200 then
    ngx.status = status
  end
  ngx.header["Content-Length"] = #body
  ngx.print(body)
end

-- Returns a problem as JSON. `error` repeats `detail` for older clients.
local function encode(problem)
  local detail = quoted(problem.detail)
  return table.concat({
    '{"type": "urn:problem-type:cesta:', problem.code, '", "title": ', quoted(problem.title),
    ', "status": ', problem.status, ', "detail": ', detail, ', "code": "', problem.code, '"',
    problem.pointer and ', "pointer": ' .. quoted(problem.pointer) or "",
    ', "error": ', detail, ', "request_id": "', ngx.var.id, '"}\n',
  })
end

-- Returns the problem of one of several questions as JSON.
function answers.problem(refusal)
  return encode(problems.of(refusal)):sub(1, -2)
end

function answers.send_error(refusal)
  local problem, header = problems.of(refusal), ngx.header
  header["Content-Type"] = "application/problem+json"
  header["Retry-After"] = problem.retry_s
  answers.send(problem.status, encode(problem))
end

return answers

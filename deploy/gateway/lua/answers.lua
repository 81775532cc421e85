-- Answers to callers: JSON with a sentence over HTTP, a status in headers or trailers over gRPC.

local cjson = require("cjson.safe")
local utf8 = require("utf8_text")

local answers = {}

-- Ends the request with a status and a sentence; by default that of variables.conf. It is raised as a table, so that `run` can tell it from a fault.
function answers.refuse(status, text)
  error({status = status, text = text}, 0)
end

local function traced(fault)
  if type(fault) == "table" then
    return fault
  end
  return debug.traceback(fault, 2)
end

-- Calls `work` with the arguments after it and returns its result, or nil and what was refused: {status, text}.
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

-- Returns a string as JSON.
function answers.quoted(text)
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

-- Returns the sentence of a refusal. It may quote what a caller sent, which need not be UTF-8.
function answers.sentence(refusal)
  ngx.status = refusal.status
  local text = refusal.text or ngx.var.error_text
  return utf8.is_valid(text) and text or (text:gsub("[\128-\255]", "?"))
end

function answers.send_error(refusal)
  local sentence = answers.quoted(answers.sentence(refusal))
  answers.send(refusal.status, '{"error": ' .. sentence .. ', "request_id": "' .. ngx.var.id .. '"}\n')
end

return answers

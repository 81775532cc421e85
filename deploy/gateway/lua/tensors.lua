-- Triton's V2 protocol with binary tensors over HTTP, as cesta_client sends it.

local answers = require("answers")
local cjson = require("cjson.safe").new()
local question = require("question")
local triton = require("triton")

cjson.decode_invalid_numbers(false)

local tensors = {}

local function refuse(text)
  answers.refuse(400, text, "unreadable_tensors")
end

local function is_whole(value)
  return type(value) == "number" and value == math.floor(value) and value >= 0 and value < 2 ^ 31
end

-- Reads the JSON before the tensors: the request's id and its inputs, each {name, datatype, shape, raw}.
local function read(body, head_bytes)
  if not head_bytes or head_bytes < 2 or head_bytes > #body or not is_whole(head_bytes) then
    refuse("Inference-Header-Content-Length is not the length of the JSON before binary tensors")
  end
  local head = cjson.decode(body:sub(1, head_bytes))
  if type(head) ~= "table" or type(head.inputs) ~= "table" then
    refuse("the request is not V2 with binary tensors")
  end
  if head.outputs ~= nil then
    refuse("outputs and data must be left out; every output comes, and data is binary")
  end
  local inputs, at = {}, head_bytes + 1
  for n, given in ipairs(head.inputs) do
    if type(given) ~= "table" or type(given.name) ~= "string" or type(given.parameters) ~= "table" then
      refuse("the request is not V2 with binary tensors")
    end
    if given.data ~= nil then
      refuse("outputs and data must be left out; every output comes, and data is binary")
    end
    local bytes = given.parameters.binary_data_size
    if not is_whole(bytes) then
      refuse("every input needs its binary_data_size")
    end
    inputs[n] = {name = given.name, datatype = given.datatype, shape = given.shape}
    inputs[n].raw = body:sub(at, at + bytes - 1)
    at = at + bytes
  end
  local id = type(head.id) == "string" and head.id or ""
  return {id = id, inputs = inputs, whole = at == #body + 1}
end

-- Returns {id, inputs, count} of a request.
function tensors.read(body)
  local request = read(body, tonumber(ngx.var.http_inference_header_content_length))
  request.count = question.count(request.inputs)
  if not request.whole then
    refuse("the tensors cannot be read")
  end
  return request
end

function tensors.answer(request)
  local answer = triton.ask(request.inputs, request.count, triton.WHOLE, ngx.ctx.id)
  ngx.header["Content-Type"] = "application/octet-stream"
  ngx.header["Inference-Header-Content-Length"] = answer.head_bytes
  ngx.header["Content-Length"] = #answer.body
  ngx.print(answer.body)
end

return tensors

-- ModelInfer over gRPC, in the one form that cesta_client writes. Triton is asked over HTTP.

local answers = require("answers")
local problems = require("problems")
local protobuf = require("protobuf")
local question = require("question")
local triton = require("triton")

local REQUEST = {"model_name", "model_version", "id", "parameters", "inputs", "outputs", "raw"}
local TENSOR = {"name", "datatype", "shape", "parameters", "contents"}
local REPEATED = {parameters = true, inputs = true, outputs = true, raw = true}
local grpc = {}

local function refuse(text)
  answers.refuse(400, text, "unreadable_message")
end

local function read_tensor(body, field)
  local tensor = protobuf.read(body, field[1], field[2], TENSOR, REPEATED)
  if tensor.parameters or tensor.contents then
    refuse("inputs have neither parameters nor contents; send raw_input_contents")
  end
  local shape = protobuf.read_numbers(body, tensor.shape)
  return {name = protobuf.text(body, tensor.name), datatype = protobuf.text(body, tensor.datatype), shape = shape}
end

-- Returns the message of a gRPC body: after five bytes, which tell its length.
local function check_frame(body)
  local a, b, c, d = body:byte(2, 5)
  if not d or a * 16777216 + b * 65536 + c * 256 + d ~= #body - 5 then
    refuse("one message is wanted")
  end
  if body:byte(1) ~= 0 then
    refuse("compressed messages are not read; send it uncompressed")
  end
end

-- Returns {id, inputs, count} of a request.
function grpc.read(body)
  check_frame(body)
  local request = protobuf.read(body, 6, #body, REQUEST, REPEATED)
  if protobuf.text(body, request.model_name) ~= triton.MODEL or request.model_version then
    refuse('model "' .. triton.MODEL .. '" is the only one here, without a version')
  end
  if request.parameters or request.outputs then
    refuse("parameters and outputs must be left out; every output comes")
  end
  local inputs, raws = {}, request.raw or {}
  for n, field in ipairs(request.inputs or {}) do
    inputs[n] = read_tensor(body, field)
    inputs[n].raw = protobuf.text(body, raws[n])
  end
  if #raws ~= #inputs then
    refuse("raw_input_contents has not one entry per input")
  end
  return {id = protobuf.text(body, request.id), inputs = inputs, count = question.count(inputs)}
end

local function encode(answer)
  local parts = {
    protobuf.field(1, triton.MODEL), protobuf.field(2, answer.release), protobuf.field(3, ngx.ctx.id),
  }
  local raws = {}
  for n, output in ipairs(answer.outputs) do
    local tensor = protobuf.field(1, output.name) .. protobuf.field(2, output.datatype)
    parts[#parts + 1] = protobuf.field(5, tensor .. protobuf.field(3, protobuf.numbers(output.shape)))
    local from = answer.head_bytes + output.at
    raws[n] = protobuf.field(6, answer.body:sub(from, from + output.bytes - 1))
  end
  local message = table.concat(parts) .. table.concat(raws)
  local size = #message
  local frame = string.char(0, math.floor(size / 16777216), math.floor(size / 65536) % 256,
    math.floor(size / 256) % 256, size % 256)
  return frame .. message
end

function grpc.answer(request)
  local answer = triton.ask(request.inputs, request.count, triton.WHOLE, "")
  grpc.send(encode(answer))
end

local function escaped(words)
  return (words:gsub("[^ -$&-~]", function(byte) return string.format("%%%02X", byte:byte()) end))
end

-- Sends a message, or none, and its status as trailers. An error without a gRPC status would make clients retry what
-- they should not.
local function send(message, status, sentence)
  ngx.var.grpc_said, ngx.var.grpc_words = status, escaped(sentence)
  ngx.status = 200
  ngx.header["Content-Type"] = "application/grpc"
  ngx.print(message)
end

function grpc.send(message)
  send(message, 0, "")
end

-- The trailers of an error have its code, the input that it is about, and the time after which to ask again.
function grpc.send_error(refusal)
  local problem, var = problems.of(refusal), ngx.var
  ngx.status = problem.status  -- of which nginx computes grpc_code
  local code = var.grpc_code
  var.problem_code, var.problem_pointer = problem.code, escaped(problem.pointer or "")
  var.problem_retry = problem.retry_s or ""
  send("", code, problem.detail)
end

return grpc

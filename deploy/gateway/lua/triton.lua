-- Asks Triton a question, over HTTP for callers of every protocol: a gRPC call that its caller gives up can end the
-- server (docs/triton.md).

local answers = require("answers")
local cjson = require("cjson.safe")
local http = require("http")
local limits = require("limits")
local lrucache = require("resty.lrucache")
local metrics = require("metrics")
local question = require("question")
local split = require("split")
local tensor = require("tensor")

local MODEL = "recommender"
local TIMEOUT_MS = 2000

local heads = lrucache.new(512)  -- the JSON of answers, read; reading it takes 8 µs
local triton = {MODEL = MODEL}
local address

function triton.init(triton_address)
  address = http.address_of(triton_address)
end

-- The sampler's sentences describe the request. Other texts of Triton are not passed on.
local SUBJECTS = {"^unknown category ", "^basket ", "^exclude ", "^categories ", "^user_id "}

local function sentence_in(text)
  local sentence = text:match("in ensemble '[^']*', (.*)$")
  for _, subject in ipairs(SUBJECTS) do
    if sentence and sentence:find(subject) then
      return sentence
    end
  end
end

local function refuse_as_unreachable()
  answers.refuse(502, "the recommender cannot be reached")
end

-- Refuses what Triton refused. `where` begins the sampler's sentence.
local function refuse(answer, where)
  local body = cjson.decode(answer.body)
  local text = type(body) == "table" and type(body.error) == "string" and body.error or ""
  local sentence = answer.status == 400 and sentence_in(text)
  if sentence then
    answers.refuse(400, where .. sentence)
  end
  if answer.status == 503 then  -- a full queue, or a release that is not ready
    answers.refuse(503)
  end
  ngx.var.trouble = "Triton answers " .. answer.status .. ": " .. text:sub(1, 200)
  refuse_as_unreachable()
end

local function request_of(model, head, tensors)
  return {
    "POST /v2/models/", model, "/infer HTTP/1.1\r\nHost: triton\r\nContent-Type: application/octet-stream\r\n",
    "Inference-Header-Content-Length: ", #head, "\r\nContent-Length: ", #head + #tensors, "\r\n",
    ngx.ctx.trace_header or "", "\r\n", head, tensors,
  }
end

-- Sends one question to one model, and takes the time. The slowest of parallel queries counts.
local function send(model, head, tensors)
  local ctx = ngx.ctx
  local key_name = ctx.key.name
  if not limits.take_place(key_name) then
    answers.refuse(503)
  end
  ctx.places = (ctx.places or 0) + 1
  local began = ngx.now()
  local answer, fault = http.send(address, request_of(model, head, tensors), TIMEOUT_MS)
  limits.give_place_back(key_name)
  ctx.places = ctx.places - 1
  ctx.triton_s = math.max(ctx.triton_s or 0, ngx.now() - (ctx.asked_since or began))
  if not answer then
    if fault == "timeout" then
      answers.refuse(504)
    end
    refuse_as_unreachable()
  end
  return answer
end

-- Reads the JSON before the tensors: the release and, by name, the place and shape of each tensor.
local function read_head(text)
  local head = cjson.decode(text)
  if type(head) ~= "table" or type(head.outputs) ~= "table" or not head.model_version then
    return nil
  end
  local at, outputs = 1, {}
  for n, output in ipairs(head.outputs) do
    local parameters = type(output) == "table" and output.parameters
    local bytes = type(parameters) == "table" and parameters.binary_data_size
    if type(bytes) ~= "number" then
      return nil
    end
    outputs[n] = {name = output.name, datatype = output.datatype, shape = output.shape, at = at, bytes = bytes}
    outputs[output.name] = outputs[n]
    at = at + bytes
  end
  return {release = head.model_version, outputs = outputs, bytes = at - 1}
end

-- Without the id, which comes first, most heads are alike: only the size of item_ids differs.
local function head_of(text)
  local id = '{"id":"' .. ngx.ctx.id .. '",'
  if text:sub(1, #id) == id then
    text = "{" .. text:sub(#id + 1)
  end
  local head = heads:get(text)
  if not head then
    head = read_head(text)
    if head then
      heads:set(text, head)
    end
  end
  return head
end

-- Reads a V2 answer. `body` is all of it, and `tensors` the bytes after the head.
local function decode(answer)
  local size = tonumber(answer.headers["inference-header-content-length"])
  local head = size and size <= #answer.body and head_of(answer.body:sub(1, size))
  if not head or head.bytes > #answer.body - size then
    refuse_as_unreachable()
  end
  return {
    release = head.release, outputs = head.outputs, tensors = answer.body:sub(size + 1), body = answer.body,
    head_bytes = size,
  }
end

-- Tells whether the answer is to this question. Releases without digests have no cache.
local function fits(answer, digests)
  local output = answer.outputs.digest
  if not output then
    return true
  end
  local row = 0
  local last = tensor.walk(answer.tensors, output.at, #digests, function(first, stop)
    row = row + 1
    if row and answer.tensors:sub(first, stop) ~= digests[row] then
      row = -1e9
    end
  end)
  return last ~= nil and row == #digests
end

local function ask_model(model, inputs, count, where, nonce)
  ngx.ctx.model = model
  local head, tensors = question.encode(inputs, count, ngx.ctx.id, nonce)
  local answer = send(model, head, tensors)
  if answer.status == 404 and model ~= MODEL then  -- the canary is not loaded; no caller loses an answer
    return ask_model(MODEL, inputs, count, where, nonce)
  end
  if answer.status ~= 200 then
    refuse(answer, where)
  end
  return decode(answer)
end

-- Returns the answer to `count` queries as `decode` reads it. `where` begins the sentence of a refusal.
--
-- If the cache answers with another question's answer, Triton is asked once more, past the cache.
function triton.ask(inputs, count, where)
  local ctx = ngx.ctx
  local model = split.model()
  local digests = question.digests(inputs, count)
  local answer = ask_model(model, inputs, count, where)
  if not fits(answer, digests) then
    metrics.add("cache_mismatches", 1)
    ngx.var.trouble = "Triton's cache held another question's answer"
    answer = ask_model(model, inputs, count, where, ngx.var.request_id .. math.random(1, 2 ^ 31))
    if not fits(answer, digests) then
      refuse_as_unreachable()
    end
  end
  ctx.release = answer.release
  return answer
end

return triton

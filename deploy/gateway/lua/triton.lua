-- Asks Triton a question, over HTTP for callers of every protocol: a gRPC call that its caller gives up can end the
-- server (docs/triton.md).

local answers = require("answers")
local cjson = require("cjson.safe")
local http = require("http")
local limits = require("limits")
local memo = require("memo")
local metrics = require("metrics")
local question = require("question")
local split = require("split")
local state = require("state")
local tensor = require("tensor")

local MODEL = "recommender"
local LISTS = "lists"
local TIMEOUT_MS = 2000
local CANARY_MS = 1000  -- then the active release has the rest of the time

local triton = {MODEL = MODEL}
local address

function triton.init(triton_address)
  address = http.address_of(triton_address)
end

-- The place of a query that is not part of a batch in JSON.
triton.WHOLE = {words = "", pointer = ""}

-- The sampler's sentences describe the request. Other texts of Triton are not passed on.
local SENTENCES = {  -- how one begins, with the input → the code
  {"^unknown (category) ", "unknown_category"},  -- of releases made before these became warnings
  {"^(%l[%l_]*) has %d+ %l+; at most ", "too_many_ids"},
  {"^(%l[%l_]*) holds an id of %d+ bytes", "id_too_long"},
  {"^(%l[%l_]*) holds an id that is not UTF%-8", "not_utf8"},
  {"^(%l[%l_]*) ", "out_of_range"},
}
local POINTERS = {  -- by the word in the sentence
  basket = "/basket", exclude = "/exclude", categories = "/categories", category = "/categories", user_id = "/user_id",
  store_id = "/store_id", exclude_categories = "/exclude_categories", items = "/items", history = "/history",
  history_ages = "/history_ages", item = "/item_id", days = "/days", limit = "/limit", kind = "/kind",
}

-- Inputs that an answer may do without. A release made before there were others must not answer as if they were not asked.
local MAY_BE_LOST = {store_id = true, history = true, history_ages = true}

local function read_sentence(text)
  local sentence = text:match("in ensemble '[^']*', (.*)$")
  for _, kind in ipairs(sentence and SENTENCES or {}) do
    local input = sentence:match(kind[1])
    if input and POINTERS[input] then
      return {text = sentence, code = kind[2], path = POINTERS[input]}
    end
  end
end

local function refuse_as_unreachable()
  answers.refuse(502, "the recommender cannot be reached")
end

local function error_in(text)
  local body = cjson.decode(text)
  return type(body) == "table" and type(body.error) == "string" and body.error or ""
end

-- Returns the sampler's sentence if the caller is to blame: {text, code, path}.
local function sentence_of(status, text)
  return status == 400 and read_sentence(error_in(text))
end

-- Refuses what Triton refused. `place` is that of the query.
local function refuse(status, text, place)
  local sentence = sentence_of(status, text)
  if sentence then
    answers.refuse(400, place.words .. sentence.text, sentence.code, place.pointer .. sentence.path)
  end
  if status == 503 then  -- a full queue, or a release that is not ready
    answers.refuse_for_now(503, "not_ready")
  end
  ngx.var.trouble = "Triton answers " .. status .. ": " .. error_in(text):sub(1, 200)
  refuse_as_unreachable()
end

-- Tells whether Triton refused a question for inputs that the release's contract does not have.
local function lacks_inputs(status, text)
  local sentence = status == 400 and error_in(text)
  return sentence and (sentence:find("unexpected inference input", 1, true) or sentence:find("expected number of inputs", 1, true))
end

local function request_of(model, head, raws)
  local bytes = #head
  for n = 1, #raws do
    bytes = bytes + #raws[n]
  end
  return {
    "POST /v2/models/", model, "/infer HTTP/1.1\r\nHost: triton\r\nContent-Type: application/octet-stream\r\n",
    "Inference-Header-Content-Length: ", #head, "\r\nContent-Length: ", bytes, "\r\n",
    ngx.ctx.trace_header or "", "\r\n", head, raws,
  }
end

-- Sends one question to one model, and takes the time. The slowest of parallel queries counts. Returns the answer's head and
-- body, or nil and the reason.
local function send(model, timeout_ms, head, raws)
  local ctx = ngx.ctx
  local key_name = ctx.key.name
  if not limits.take_place(key_name) then
    answers.refuse_for_now(503, "overloaded")
  end
  ctx.places = (ctx.places or 0) + 1
  local began = ngx.now()
  local answered, body = http.send(address, request_of(model, head, raws), timeout_ms)
  limits.give_place_back(key_name)
  ctx.places = ctx.places - 1
  ctx.triton_s = math.max(ctx.triton_s or 0, ngx.now() - (ctx.asked_since or began))
  return answered, body
end

-- Sends a question. A release that was made before there were live tables refuses their key, and is asked without it.
local function send_live(model, timeout_ms, inputs, count, id, own)
  if own.live and state.lacks_live(model) then
    own = {nonce = own.nonce}
  end
  local head, body = send(model, timeout_ms, question.encode(inputs, count, id, own))
  if own.live and head and lacks_inputs(head.status, body) then
    state.note_lacking(model)
    return send(model, timeout_ms, question.encode(inputs, count, id, {nonce = own.nonce}))
  end
  return head, body
end

-- Asks the canary release. Returns nil if it is not loaded, or if its process has died: no caller loses an answer by that.
local function try_canary(model, inputs, count, id, own)
  local head, body = send_live(model, CANARY_MS, inputs, count, id, own)
  if head and (head.status == 200 or sentence_of(head.status, body)) then
    return head, body
  end
  ngx.var.trouble = "the canary release answers " .. (head and head.status .. ": " .. error_in(body):sub(1, 200) or "nothing")
end

-- Reads the JSON before the tensors: the release and, by name, the place and shape of each tensor. Reading takes 8 µs.
-- Most heads are alike: only the size of item_ids differs.
local read_head = memo(500, function(text)
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
end)

-- Reads a V2 answer: its release, its outputs with their places after the head, and the head's length. The id comes first.
local function decode(head, body, id)
  local size = head.json_bytes
  local text = size and size <= #body and body:sub(1, size)
  if text and id ~= "" then
    text = text:gsub('^{"id":"[%w._-]*",', "{")
  end
  local read = text and read_head(text)
  if not read or read.bytes > #body - size then
    refuse_as_unreachable()
  end
  return {release = read.release, outputs = read.outputs, body = body, head_bytes = size}
end

-- Reads the warnings of a row: `width` texts from `at` on, of which empty ones are padding. Returns their end.
local function read_warnings(answer, at, width, row)
  for _ = 1, width do
    local first, last = tensor.bounds(answer.body, at)
    if not first then
      return nil
    end
    if last >= first then
      answer.warnings = answer.warnings or {}
      answer.warnings[row] = answer.warnings[row] or {}
      table.insert(answer.warnings[row], answer.body:sub(first, last))
    end
    at = last + 1
  end
  return at
end

-- Tells whether the answer is to this question, and reads its warnings, which follow each digest. Releases without
-- digests have no cache.
local function fits(answer, digests)
  local output = answer.outputs.digest
  if not output then
    return true
  end
  local at, warnings = answer.head_bytes + output.at, (output.shape[2] or 1) - 1
  for row = 1, #digests do
    local first, last = tensor.bounds(answer.body, at)
    if not first or answer.body:sub(first, last) ~= digests[row] then
      return false
    end
    at = warnings == 0 and last + 1 or read_warnings(answer, last + 1, warnings, row)
    if not at then
      return false
    end
  end
  return true
end

-- Returns the answer of one model, or nil if its release is older than some of the inputs.
local function ask_model(model, inputs, count, place, id, own)
  ngx.ctx.model = model
  local head, body, left_ms = nil, nil, TIMEOUT_MS
  if model ~= MODEL then
    local began = ngx.now()
    head, body = try_canary(model, inputs, count, id, own)
    left_ms = math.floor(TIMEOUT_MS - 1000 * (ngx.now() - began))
  end
  local covered = not head and model ~= MODEL
  if not head then
    ngx.ctx.model = MODEL
    head, body = send_live(MODEL, left_ms, inputs, count, id, own)
  end
  if not head then
    if body == "timeout" then
      answers.refuse(504)
    end
    refuse_as_unreachable()
  end
  if head.status ~= 200 then
    if lacks_inputs(head.status, body) and question.plain(inputs) then
      return nil
    end
    refuse(head.status, body, place)
  end
  if covered then
    metrics.add("canary_failures", 1)
  end
  return decode(head, body, id)
end

-- Returns a question without the inputs that an older release lacks, and the warnings that tell so.
local function without_further(inputs, place)
  local plain, names = question.plain(inputs)
  local warnings = plain and {}
  for n, name in ipairs(names) do
    if not MAY_BE_LOST[name] then
      local text = place.words .. "the active release is older than " .. name .. "; publish and promote a new one"
      answers.refuse(400, text, "unsupported_input", place.pointer .. "/" .. name)
    end
    warnings[n] = "unsupported_input:" .. name
  end
  return plain or inputs, warnings
end

-- Adds warnings to those of each query of an answer.
local function warn(answer, count, warnings)
  answer.warnings = answer.warnings or {}
  for row = 1, count do
    answer.warnings[row] = answer.warnings[row] or {}
    for _, warning in ipairs(warnings) do
      table.insert(answer.warnings[row], warning)
    end
  end
end

-- Returns the answer to `count` queries as `decode` reads it. `place` is that of the query in the body. The answer brings
-- `id` back; for its trace, a traced request always has one.
--
-- If the cache answers with another question's answer, Triton is asked once more, past the cache.
function triton.ask(inputs, count, place, id)
  local ctx = ngx.ctx
  id = ctx.trace_header and ctx.id or id
  local model = split.model()
  local digests = question.digests(inputs, count)
  local own, warnings = {live = state.live()}, nil
  local answer = ask_model(model, inputs, count, place, id, own)
  if not answer then
    inputs, warnings = without_further(inputs, place)
    digests, own = question.digests(inputs, count), {}
    answer = ask_model(model, inputs, count, place, id, own)
  end
  if not fits(answer, digests) then
    metrics.add("cache_mismatches", 1)
    ngx.var.trouble = "Triton's cache held another question's answer"
    own.nonce = ngx.var.request_id .. math.random(1, 2 ^ 31)
    answer = ask_model(model, inputs, count, place, id, own)
    if not fits(answer, digests) then
      refuse_as_unreachable()
    end
  end
  if warnings then
    warn(answer, count, warnings)
  end
  ctx.release = answer.release
  return answer
end

-- Asks the lists of the active release a question with this digest. A release from before lists does not have them.
local function ask_lists(inputs, place, own)
  ngx.ctx.model = LISTS
  local head, body = send(LISTS, TIMEOUT_MS, question.encode(inputs, 1, "", own))
  if not head then
    if body == "timeout" then
      answers.refuse(504)
    end
    refuse_as_unreachable()
  end
  if head.status ~= 200 then
    local words = error_in(body)
    if words:find("unknown model: 'lists'", 1, true) or words:find("'lists' has no available versions", 1, true) then
      answers.refuse(404, "the active release has no lists; publish and promote a new one", "not_in_this_release")
    end
    refuse(head.status, body, place)
  end
  return decode(head, body, "")
end

-- Returns the answer to one question as `decode` reads it. `digest` is the question's.
function triton.ask_lists(inputs, digest, place)
  local own = {live = state.live()}
  local answer = ask_lists(inputs, place, own)
  if not fits(answer, {digest}) then
    metrics.add("cache_mismatches", 1)
    ngx.var.trouble = "Triton's cache held another question's answer"
    own.live = (own.live or "") .. ngx.var.request_id .. math.random(1, 2 ^ 31)
    answer = ask_lists(inputs, place, own)
    if not fits(answer, {digest}) then
      refuse_as_unreachable()
    end
  end
  ngx.ctx.release = answer.release
  return answer
end

return triton

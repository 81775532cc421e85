-- A question to Triton: 1 to 64 queries as binary tensors, in the one form that is accepted.
--
-- Triton's cache compares the bytes of inputs and not their shapes, and it does so by 64 bits that an attacker can
-- compute. A question therefore knows the digest of each of its queries, and Triton's answer brings the digest of the
-- query that it answers. ensemble/candidate_sampler/digest.py defines the digest.

local answers = require("answers")
local buffer = require("string.buffer")
local digest = require("digest")
local tensor = require("tensor")

local INPUTS = {"basket", "user_id", "exclude", "categories"}
local NONE = tensor.uint32(0)
local MAX_QUERIES = 64
local MAX_IDS = 1200  -- a column's width, with padding and repetitions; the sampler counts the remaining ids

local question = {}

local KNOWN = {}
for _, name in ipairs(INPUTS) do
  KNOWN[name] = true
end

local function refuse(text, name)
  answers.refuse(400, text, "unreadable_tensors", name and "/" .. name)
end

-- Cuts a text for a sentence, at a character's end.
local function cut(text, size)
  text = tostring(text)
  if #text <= size then
    return text
  end
  return (text:sub(1, size):gsub("[\192-\255][\128-\191]*$", ""))
end

local function whole(value)
  return type(value) == "number" and value == math.floor(value) and value >= 0 and value < 2 ^ 31
end

-- Checks names, types and shapes of `inputs`: a list of {name, datatype, shape}. Returns the number of queries.
function question.count(inputs)
  if #inputs < 1 or #inputs > #INPUTS then
    refuse(#inputs .. " inputs; 1 to " .. #INPUTS .. " are allowed")
  end
  local seen, count, user = {}, nil, nil
  for place, input in ipairs(inputs) do
    local name = input.name
    if not KNOWN[name] or seen[name] then
      local listed = table.concat(INPUTS, ", ")
      refuse("input " .. place - 1 .. ' has the name "' .. cut(name, 40) .. '"; each of ' .. listed .. " once")
    end
    seen[name] = true
    if input.datatype ~= "BYTES" then
      refuse(name .. " has another datatype than BYTES", name)
    end
    local most = name == "user_id" and 1 or MAX_IDS
    local shape = input.shape
    if type(shape) ~= "table" or #shape ~= 2 or not whole(shape[1]) or not whole(shape[2]) or shape[2] > most then
      refuse(name .. " has a shape other than [queries, 0 to " .. most .. "]", name)
    end
    count = count or shape[1]
    if shape[1] ~= count or count < 1 or count > MAX_QUERIES then
      refuse(name .. " holds " .. shape[1] .. " queries; 1 to " .. MAX_QUERIES .. " are allowed, as many in each input", name)
    end
    user = name == "user_id" and input or user
  end
  if user and user.shape[2] ~= 1 or not user and count > 1 then
    refuse('several queries need user_id, one each; "" stands for unknown', "user_id")
  end
  return count
end

local function refuse_unreadable()
  refuse("the tensors cannot be read")
end

-- Returns bytes and number of the ids of one query of an input, and the place after them.
local function read_ids(raw, from, width)
  local at, ids = from, 0
  for _ = 1, width do
    local first, last = tensor.bounds(raw, at)
    if not first then
      refuse_unreadable()
    end
    if last >= first then  -- an empty string is padding
      ids = ids + 1
    end
    at = last + 1
  end
  return raw:sub(from, at - 1), ids, at
end

local function without_padding(text)
  local parts, at = {}, 1
  while at <= #text do
    local first, last = tensor.bounds(text, at)
    parts[#parts + 1] = last >= first and text:sub(at, last) or ""
    at = last + 1
  end
  return table.concat(parts)
end

-- Adds to an input, by query, the ids' bytes and their number. Refuses a tensor whose bytes are not as its shape tells.
local function read_tensor(input)
  local width, at, texts, numbers = input.shape[2], 1, {}, {}
  for row = 1, input.shape[1] do
    texts[row], numbers[row], at = read_ids(input.raw, at, width)
    if numbers[row] < width then
      texts[row] = without_padding(texts[row])
    end
  end
  if at ~= #input.raw + 1 then
    refuse_unreadable()
  end
  input.texts, input.numbers = texts, numbers
end

local hashed = buffer.new(4096)

-- Returns the digest of each query. `inputs` are checked, and `raw` are their bytes.
function question.digests(inputs, count)
  local by_name = {}
  for n = 1, #inputs do
    local input = inputs[n]
    if not input.texts then
      read_tensor(input)
    end
    by_name[input.name] = input
  end
  local digests = {}
  for row = 1, count do
    hashed:reset()
    for n = 1, #INPUTS do
      local input = by_name[INPUTS[n]]
      if input then
        hashed:put(tensor.uint32(input.numbers[row]), input.texts[row])
      else
        hashed:put(NONE)
      end
    end
    digests[row] = digest.sha256(hashed:ref())
  end
  return digests
end

local head = buffer.new(1024)

-- Returns the JSON and the tensors of a V2 request with binary data. `nonce` makes it new to Triton's cache.
function question.encode(inputs, count, id, nonce)
  head:reset():put('{"id":"', id, '","parameters":{"binary_data_output":true},"inputs":[')
  local raws = {}
  if nonce then
    local raw = (tensor.uint32(#nonce) .. nonce):rep(count)
    inputs = {{name = "nonce", shape = {count, 1}, raw = raw}, unpack(inputs)}
  end
  for n = 1, #inputs do
    local input = inputs[n]
    raws[n] = input.raw
    head:put(n > 1 and ',{"name":"' or '{"name":"', input.name, '","datatype":"BYTES","shape":[', input.shape[1], ",",
      input.shape[2], '],"parameters":{"binary_data_size":', #input.raw, "}}")
  end
  return head:put("]}"):get(), raws
end

question.cut = cut
return question

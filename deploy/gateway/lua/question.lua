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
local FURTHER = {"store_id", "exclude_categories", "items", "history", "history_ages"}  -- in the digest if they hold something
local AGES = "history_ages"
local NONE = tensor.uint32(0)
local MAX_QUERIES = 64
local MAX_IDS = 1200  -- a column's width, with padding and repetitions; the sampler counts the remaining ids

local question = {}

local ALL, KNOWN = {}, {}
for _, names in ipairs({INPUTS, FURTHER}) do
  for _, name in ipairs(names) do
    ALL[#ALL + 1], KNOWN[name] = name, true
  end
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

local function check_ages(history, ages)
  if (history and history.shape[2]) ~= (ages and ages.shape[2]) then
    refuse("history and history_ages have as many values, or both are left out", AGES)
  end
end

-- Checks names, types and shapes of `inputs`: a list of {name, datatype, shape}. Returns the number of queries.
function question.count(inputs)
  if #inputs < 1 or #inputs > #ALL then
    refuse(#inputs .. " inputs; 1 to " .. #ALL .. " are allowed")
  end
  local seen, count, user = {}, nil, nil
  for place, input in ipairs(inputs) do
    local name = input.name
    if not KNOWN[name] or seen[name] then
      local listed = table.concat(ALL, ", ")
      refuse("input " .. place - 1 .. ' has the name "' .. cut(name, 40) .. '"; each of ' .. listed .. " once")
    end
    seen[name] = input
    local datatype = name == AGES and "FP32" or "BYTES"
    if input.datatype ~= datatype then
      refuse(name .. " has another datatype than " .. datatype, name)
    end
    local most = (name == "user_id" or name == "store_id") and 1 or MAX_IDS
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
  check_ages(seen.history, seen[AGES])
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
  local width, at, texts, numbers, starts = input.shape[2], 1, {}, {}, {}
  for row = 1, input.shape[1] do
    starts[row] = at
    texts[row], numbers[row], at = read_ids(input.raw, at, width)
    if numbers[row] < width then
      texts[row] = without_padding(texts[row])
    end
  end
  if at ~= #input.raw + 1 then
    refuse_unreadable()
  end
  input.texts, input.numbers, input.starts = texts, numbers, starts
end

-- Adds to the ages, by query, the bytes of those that stand beside an id.
local function read_ages(ages, history)
  local width, texts = ages.shape[2], {}
  if #ages.raw ~= 4 * width * ages.shape[1] then
    refuse_unreadable()
  end
  for row = 1, ages.shape[1] do
    local beside, at = {}, history.starts[row]
    for n = 1, width do
      local first, last = tensor.bounds(history.raw, at)
      local from = 4 * (width * (row - 1) + n - 1)
      beside[n] = last >= first and ages.raw:sub(from + 1, from + 4) or ""
      at = last + 1
    end
    texts[row] = table.concat(beside)
  end
  ages.texts, ages.numbers = texts, history.numbers
end

local hashed = buffer.new(4096)

local function put_further(by_name, row)
  for n = 1, #FURTHER do
    local name = FURTHER[n]
    local input = by_name[name]
    if input and input.numbers[row] > 0 then
      hashed:put(tensor.uint32(#name), name, tensor.uint32(input.numbers[row]), input.texts[row])
    end
  end
end

-- Returns the digest of each query. `inputs` are checked, and `raw` are their bytes.
function question.digests(inputs, count)
  local by_name = {}
  for n = 1, #inputs do
    local input = inputs[n]
    if not input.texts and input.name ~= AGES then
      read_tensor(input)
    end
    by_name[input.name] = input
  end
  local ages = by_name[AGES]
  if ages and not ages.texts then
    read_ages(ages, by_name.history)
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
    if #inputs > 2 then  -- most questions have basket and user alone
      put_further(by_name, row)
    end
    digests[row] = digest.sha256(hashed:ref())
  end
  return digests
end

local head = buffer.new(1024)
local DATATYPES = {history_ages = "FP32", days = "INT32", limit = "INT32"}  -- of the inputs that are no texts

-- Returns the inputs that every release has, and the names of the others; nil if there are no others.
function question.plain(inputs)
  local plain, names = {}, {}
  for n = 1, #inputs do
    local input, further = inputs[n], true
    for k = 1, #INPUTS do
      further = further and input.name ~= INPUTS[k]
    end
    if further then
      names[#names + 1] = input.name
    else
      plain[#plain + 1] = input
    end
  end
  return #names > 0 and plain or nil, names
end

-- Returns the JSON and the tensors of a V2 request with binary data. `own` are inputs of the gateway's that
-- change the key in Triton's cache and nothing else: {nonce, live}, each may be nil.
function question.encode(inputs, count, id, own)
  head:reset():put('{"id":"', id, '","parameters":{"binary_data_output":true},"inputs":[')
  local raws = {}
  for name, value in pairs(own) do
    local raw = (tensor.uint32(#value) .. value):rep(count)
    inputs = {{name = name, shape = {count, 1}, raw = raw}, unpack(inputs)}
  end
  for n = 1, #inputs do
    local input = inputs[n]
    raws[n] = input.raw
    head:put(n > 1 and ',{"name":"' or '{"name":"', input.name, '","datatype":"', DATATYPES[input.name] or "BYTES", '","shape":[',
      input.shape[1], ",", input.shape[2], '],"parameters":{"binary_data_size":', #input.raw, "}}")
  end
  return head:put("]}"):get(), raws
end

question.cut = cut
return question

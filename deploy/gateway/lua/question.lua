-- A question to Triton: 1 to 64 queries as binary tensors, in the one form that is accepted.
--
-- Triton's cache compares the bytes of inputs and not their shapes, and it does so by 64 bits that an attacker can
-- compute. A question therefore knows the digest of each of its queries, and Triton's answer brings the digest of the
-- query that it answers. ensemble/candidate_sampler/digest.py defines the digest.

local digest = require("digest")
local tensor = require("tensor")
local answers = require("answers")

local INPUTS = {"basket", "user_id", "exclude", "categories"}
local MAX_QUERIES = 64
local MAX_IDS = 1200  -- a column's width, with padding and repetitions; the sampler counts the remaining ids

local question = {}

local KNOWN = {}
for _, name in ipairs(INPUTS) do
  KNOWN[name] = true
end

local function refuse(text)
  answers.refuse(400, text)
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
      refuse(name .. " has another datatype than BYTES")
    end
    local most = name == "user_id" and 1 or MAX_IDS
    local shape = input.shape
    if type(shape) ~= "table" or #shape ~= 2 or not whole(shape[1]) or not whole(shape[2]) or shape[2] > most then
      refuse(name .. " has a shape other than [queries, 0 to " .. most .. "]")
    end
    count = count or shape[1]
    if shape[1] ~= count or count < 1 or count > MAX_QUERIES then
      refuse(name .. " holds " .. shape[1] .. " queries; 1 to " .. MAX_QUERIES .. " are allowed, as many in each input")
    end
    user = name == "user_id" and input or user
  end
  if user and user.shape[2] ~= 1 or not user and count > 1 then
    refuse('several queries need user_id, one each; "" stands for unknown')
  end
  return count
end

-- Returns the part of the digests' texts that one input contributes, by query. Refuses a tensor whose bytes are not as
-- its shape tells.
local function texts_of(input)
  local raw, rows, width = input.raw, input.shape[1], input.shape[2]
  local at, texts = 1, {}
  for row = 1, rows do
    local from, empty, ids = at, false, 0
    local parts = nil
    at = tensor.walk(raw, at, width, function(first, last)
      if last < first then
        empty = true
      else
        ids = ids + 1
      end
    end)
    if not at then
      refuse("the tensors cannot be read")
    end
    local text = raw:sub(from, at - 1)
    if empty then
      parts = {}
      tensor.walk(raw, from, width, function(first, last)
        if last >= first then
          parts[#parts + 1] = raw:sub(first - 4, last)
        end
      end)
      text = table.concat(parts)
    end
    texts[row] = tensor.uint32(ids) .. text
  end
  if at ~= #raw + 1 then
    refuse("the tensors cannot be read")
  end
  return texts
end

-- Returns the digest of each query. `inputs` are checked, and `raw` are their bytes.
function question.digests(inputs, count)
  local texts = {}
  for _, input in ipairs(inputs) do
    texts[input.name] = input.texts or texts_of(input)
  end
  local digests, none = {}, tensor.uint32(0)
  for row = 1, count do
    local parts = {}
    for n, name in ipairs(INPUTS) do
      parts[n] = texts[name] and texts[name][row] or none
    end
    digests[row] = digest.sha256(table.concat(parts))
  end
  return digests
end

local function tensor_head(input)
  return '{"name":"' .. input.name .. '","datatype":"BYTES","shape":[' .. input.shape[1] .. "," .. input.shape[2]
    .. '],"parameters":{"binary_data_size":' .. #input.raw .. "}}"
end

-- Returns the head and the tensors of a V2 request with binary data. `nonce` makes it new to Triton's cache.
function question.encode(inputs, count, id, nonce)
  local heads, raws = {}, {}
  for n, input in ipairs(inputs) do
    heads[n], raws[n] = tensor_head(input), input.raw
  end
  if nonce then
    local fresh = {name = "nonce", shape = {count, 1}, raw = (tensor.uint32(#nonce) .. nonce):rep(count)}
    heads[#heads + 1], raws[#raws + 1] = tensor_head(fresh), fresh.raw
  end
  local head = '{"id":"' .. id .. '","inputs":[' .. table.concat(heads, ",")
    .. '],"parameters":{"binary_data_output":true}}'
  return head, table.concat(raws)
end

question.cut = cut
return question

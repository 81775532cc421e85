-- A query in a shop's JSON, and the items of its answer.

local answers = require("answers")
local buffer = require("string.buffer")
local cjson = require("cjson.safe").new()
local order = require("order")
local problems = require("problems")
local question = require("question")
local tensor = require("tensor")
local utf8 = require("utf8_text")

cjson.decode_invalid_numbers(false)

local LISTS = {"basket", "exclude", "categories", "exclude_categories", "items"}
local KNOWN = {
  "basket", "exclude", "categories", "user_id", "k", "store_id", "exclude_categories", "items", "history", "history_ages",
}
local MAX_K = 20
local DEFAULT_K = 10
local REASONS = {"usual", "together", "similar", "popular", "category"}  -- in the order of their bits
local NONE = tensor.uint32(0)
local packed = buffer.new(4096)

local query = {}

-- `place` is {words, pointer}: how a sentence about this query begins, and the JSON pointer to it. `path` leads on from there.
local function refuse(place, code, text, path)
  answers.refuse(400, place.words .. text, code, place.pointer .. (path or ""))
end

local function refuse_body(code, text)
  answers.refuse(400, text, code)
end

query.MAX_K = MAX_K
query.ROOT = {words = "", pointer = ""}

-- Returns the place of a batch's query, counted from 1.
function query.place(n)
  return {words = "queries[" .. n - 1 .. "]: ", pointer = "/queries/" .. n - 1}
end

-- Lua's tables do not tell an empty list from an empty object, so the text does. It is read only where that matters.
local function skeleton(text)
  return (text:gsub("\\.", ""))
end

local function is_object(text, name)
  return skeleton(text):find('"' .. name .. '"%s*:%s*{%s*}') ~= nil
end

local function has_list_in_list(text)
  return skeleton(text):gsub('"[^"]*"', '""'):find("[%[,]%s*%[%s*%]") ~= nil
end

local function kind(value)
  if value == cjson.null then
    return "null"
  end
  if type(value) == "table" then
    return (#value > 0 or next(value) == nil) and "a list" or "an object"
  end
  return "a " .. type(value)
end

local function decode(text)
  local value, fault = cjson.decode(text)
  if value == nil then
    refuse_body("not_json", "the body is not JSON: " .. fault)
  end
  return value
end

-- Reads a body. Returns a table, or another value that JSON can be.
function query.parse(body)
  if utf8.is_simple(body) then
    return decode(body)
  end
  local text = utf8.without_mark(body)
  if not utf8.is_valid(text) then
    refuse_body("not_utf8", "the body is not UTF-8")
  end
  local value = decode(utf8.without_half_pairs(text))
  if utf8.has_raw_controls(text) then
    refuse_body("not_json", "the body is not JSON: a control character within a string")
  end
  return value
end

local function refuse_other_kind(place, example, got)
  refuse(place, "wrong_type", 'an object such as {"' .. example .. '": [...]} is wanted; got ' .. got)
end

local function refuse_unknown(place, key, known)
  local text = 'unknown key "' .. question.cut(key, 40) .. '"; known are ' .. table.concat(known, ", ")
  refuse(place, "unknown_field", text, problems.pointer_to(key))
end

local function check_keys(value, known, place, text)
  if type(value) ~= "table" or #value > 0 or next(value) == nil and text:find("^%s*%[") then
    refuse_other_kind(place, known[1], kind(value))
  end
  for key in pairs(value) do
    local good = false
    for n = 1, #known do
      good = good or key == known[n]
    end
    if not good then
      refuse_unknown(place, key, known)
    end
  end
end

local function refuse_no_list(place, name, got, wanted)
  refuse(place, "wrong_type", name .. " is a list of " .. wanted.kind .. "s; got " .. got, "/" .. name)
end

local STRINGS = {kind = "string", rule = "; ids are strings"}
local NUMBERS = {kind = "number", rule = "; ages are numbers"}

-- Checks that a value is a list of `wanted`, and returns it; an absent one is empty.
local function read_list(value, name, place, text, wanted)
  if value == nil or value == cjson.null then
    return {}
  end
  if type(value) ~= "table" or next(value) ~= nil and #value == 0 then
    refuse_no_list(place, name, kind(value), wanted)
  end
  if next(value) == nil and is_object(text, name) then
    refuse_no_list(place, name, "an object", wanted)
  end
  for n = 1, #value do
    if type(value[n]) ~= wanted.kind then
      refuse(place, "wrong_type", name .. " holds " .. kind(value[n]) .. wanted.rule, "/" .. name .. "/" .. n - 1)
    end
  end
  return value
end

-- Returns a list's texts, sorted, unique and not empty: the cache compares bytes.
local function distinct(texts)
  order.sort(texts)
  local found, last = {}, ""
  for n = 1, #texts do
    if texts[n] ~= last then
      last = texts[n]
      found[#found + 1] = last
    end
  end
  return found
end

local function read_ids(value, name, place, text)
  return distinct(read_list(value, name, place, text, STRINGS))
end

-- Returns the input of these ids, of which none is empty.
local function input_of(name, ids)
  packed:reset()
  for n = 1, #ids do
    packed:put(tensor.uint32(#ids[n]), ids[n])
  end
  local raw = packed:get()
  if #ids == 0 then
    return {name = name, shape = {1, 1}, raw = NONE, texts = {""}, numbers = {0}}  -- padding, not an id
  end
  return {name = name, shape = {1, #ids}, raw = raw, texts = {raw}, numbers = {#ids}}
end

-- Adds the inputs of a history: item ids, and beside each the days since it was bought. Newest first, each pair once.
local function add_history(inputs, value, place, text)
  local ids = read_list(value.history, "history", place, text, STRINGS)
  local ages = read_list(value.history_ages, "history_ages", place, text, NUMBERS)
  if #ids ~= #ages then
    refuse(place, "out_of_range", "history_ages has " .. #ages .. " ages; history has " .. #ids .. " ids", "/history_ages")
  end
  local pairs_of = {}
  for n = 1, #ids do
    if ids[n] ~= "" then  -- a float's bytes, the highest first, sort as it does
      pairs_of[#pairs_of + 1] = tensor.float32(ages[n]):reverse() .. ids[n]
    end
  end
  if #pairs_of == 0 then
    return
  end
  local bought, days = distinct(pairs_of), {}
  for n = 1, #bought do
    days[n], bought[n] = bought[n]:sub(1, 4):reverse(), bought[n]:sub(5)
  end
  local raw = table.concat(days)
  inputs[#inputs + 1] = input_of("history", bought)
  inputs[#inputs + 1] = {name = "history_ages", shape = {1, #days}, raw = raw, texts = {raw}, numbers = {#days}}
end

-- Returns a text of a query, or nil if it has none.
local function read_text(value, name, place)
  if value ~= nil and value ~= cjson.null and type(value) ~= "string" then
    refuse(place, "wrong_type", name .. " is a string; got " .. kind(value), "/" .. name)
  end
  return type(value) == "string" and value ~= "" and value or nil
end

local function shown(value)
  if type(value) ~= "number" then
    return cjson.encode(value) or kind(value)
  end
  if value == math.huge then
    return "Infinity"
  end
  return value == -math.huge and "-Infinity" or tostring(value)
end

local function read_k(value, place)
  if value == nil then
    return DEFAULT_K
  end
  if type(value) ~= "number" or value ~= math.floor(value) or value < 1 or value > MAX_K then
    local code = type(value) == "number" and "out_of_range" or "wrong_type"
    refuse(place, code, "k is a whole number from 1 to " .. MAX_K .. "; got " .. question.cut(shown(value), 40), "/k")
  end
  return value
end

local function read(value, place, text, bind)
  check_keys(value, KNOWN, place, text)
  if bind then
    bind(value)
  end
  local inputs = {}
  for _, name in ipairs(LISTS) do
    local ids = read_ids(value[name], name, place, text)
    if #ids > 0 or name == "basket" then  -- always sent, like user_id: Triton batches requests with the same inputs
      inputs[#inputs + 1] = input_of(name, ids)
    end
  end
  table.insert(inputs, 2, input_of("user_id", {read_text(value.user_id, "user_id", place)}))
  local store = read_text(value.store_id, "store_id", place)
  if store then
    inputs[#inputs + 1] = input_of("store_id", {store})
  end
  if value.history ~= nil or value.history_ages ~= nil then
    add_history(inputs, value, place, text)
  end
  return {inputs = inputs, k = read_k(value.k, place), place = place}
end

-- Returns {inputs, k, place} of a query that is the body. `bind`, if given, may refuse or change it first.
function query.read(value, text, bind)
  return read(value, query.ROOT, text, bind)
end

-- Returns the entries of the list `name` of a body: 1 to `most`.
function query.check_entries(entries, name, most, text)
  local root = query.ROOT
  local got = entries == nil and "undefined" or kind(entries)
  if got == "a list" and #entries == 0 and is_object(text, name) then
    got = "an object"
  end
  if got ~= "a list" then
    refuse(root, "wrong_type", name .. " is a list of " .. name .. "; got " .. got, "/" .. name)
  end
  if #entries < 1 or #entries > most then
    local text_of_range = name .. " has " .. #entries .. " entries; 1 to " .. most .. " are allowed"
    refuse(root, "out_of_range", text_of_range, "/" .. name)
  end
  return entries
end

-- Returns the queries of a batch: for each one {inputs, k, place}, or the refusal of what is wrong with it.
function query.read_many(value, most, text)
  check_keys(value, {"queries"}, query.ROOT, text)
  local queries = query.check_entries(value.queries, "queries", most, text)
  local found, nested = {}, nil
  for n = 1, #queries do
    local place = query.place(n)
    local is_empty = type(queries[n]) == "table" and next(queries[n]) == nil
    if is_empty and nested == nil then
      nested = has_list_in_list(text)  -- once: it reads the whole body
    end
    local good, refusal = answers.run(function()
      if is_empty and nested then
        refuse_other_kind(place, "basket", "a list")
      end
      return read(queries[n], place, "")
    end)
    found[n] = good or {refusal = refusal}
  end
  return found
end

-- ---- the answer

local NAMES = {}  -- of a bit mask, as JSON
for mask = 0, 2 ^ #REASONS - 1 do
  local names = {}
  for n, name in ipairs(REASONS) do
    if math.floor(mask / 2 ^ (n - 1)) % 2 == 1 then
      names[#names + 1] = '"' .. name .. '"'
    end
  end
  NAMES[mask] = "[" .. table.concat(names, ",") .. "]"
end

-- Writes the first k items of an answer to one query into a buffer, as JSON. The scores have nine digits, which tell any
-- FP32.
function query.write_items(text, answer, k)
  local body, from, outputs = answer.body, answer.head_bytes, answer.outputs
  local ids, scores, reasons = outputs.item_ids, outputs.scores, outputs.reasons
  if not (ids and scores and reasons) then
    answers.refuse(502, "the recommender cannot be reached")
  end
  local count = math.min(scores.bytes / 4, reasons.bytes / 4, tensor.MOST)
  local score = tensor.floats(body, from + scores.at, count)
  local mask = tensor.integers(body, from + reasons.at, count)
  local at, found = from + ids.at, 0
  text:put("[")
  for n = 0, count - 1 do
    local first, last = tensor.bounds(body, at)
    if not first or found == k then
      break
    end
    if last >= first then  -- an empty id is padding
      found = found + 1
      text:put(found == 1 and '{"item_id":' or ',{"item_id":')
      answers.write_quoted(text, body:sub(first, last))
      text:putf(',"score":%.9g,"reasons":', score[n])
      text:put(NAMES[mask[n]] or "[]", "}")
    end
    at = last + 1
  end
  text:put("]")
end

local WARNINGS = {  -- code → the field that it is about, and the sentence after the release
  unknown_category = {"categories", "has no category", "it matches nothing"},
  unknown_excluded_category = {"exclude_categories", "has no category", "it excludes nothing"},
  unknown_item = {"items", "has no item", "it is left out"},
  unknown_store = {"store_id", "has no store", "the answer is the one without a store"},
  unsupported_input = {nil, "is older than the field", "it has no effect"},
}

local function warning_of(text, release, place, fields)
  local code, value = text:match("^([%w_]+):(.*)$")
  local known = WARNINGS[code]
  if not known then
    return cjson.encode({code = code or "other", value = value or text, detail = text})
  end
  return cjson.encode({
    code = code, value = value, pointer = place.pointer .. "/" .. (fields and fields[code] or known[1] or value),
    detail = "release " .. release .. " " .. known[2] .. ' "' .. value .. '"; ' .. known[3],
  })
end

-- Writes the warnings of an answer to one query. ensemble/candidate_sampler/digest.py defines them: a code, a colon and
-- what it is about. Codes of a newer sampler are passed on. `fields`: code → the field, where that is another one.
function query.write_warnings(text, answer, place, fields)
  local listed = {}
  for n, warning in ipairs(answer.warnings[1] or {}) do
    listed[n] = warning_of(warning, answer.release, place, fields)
  end
  text:put(',"warnings":[', table.concat(listed, ","), "]")
end

query.check_keys, query.read_at, query.read_ids, query.read_text = check_keys, read, read_ids, read_text
query.distinct, query.input_of = distinct, input_of
return query

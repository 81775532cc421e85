-- Lists that need no basket: GET /v1/items/{id}/similar, together and substitutes, and GET /v1/popular. Triton's ensemble
-- `lists` answers them; ensemble/item_lists/ defines its inputs and their digest.

local answers = require("answers")
local buffer = require("string.buffer")
local digest = require("digest")
local query = require("query")
local tensor = require("tensor")
local triton = require("triton")
local utf8 = require("utf8_text")

local INPUTS = {"kind", "item", "category", "store_id", "days", "exclude", "limit"}  -- in the order of the digest
local ABOUT_AN_ITEM = {similar = true, together = true, substitutes = true}
local KINDS = "recommend, similar, together, substitutes, popular"
local MOST, DEFAULT = 100, 10  -- items of a list
local MAX_ARGUMENTS = 100
local MAX_NUMBER = 2 ^ 31 - 1
local NONE = tensor.uint32(0)
local TOLD = {unknown_item = "item_id", unknown_category = "categories"}  -- the fields that warnings are about

local lists = {}
local text = buffer.new(8192)  -- no other request runs while one writes
local hashed = buffer.new(1024)

local function number_input(name, value)
  local raw = tensor.uint32(value)
  return {name = name, datatype = "INT32", shape = {1, 1}, raw = raw, texts = {raw}, numbers = {1}}
end

-- Returns the inputs of a wish, {kind, item, categories, store, days, exclude, limit}, and their digest.
local function inputs_of(wish)
  local by_name = {
    kind = query.input_of("kind", {wish.kind}), limit = number_input("limit", wish.limit),
    item = wish.item and query.input_of("item", {wish.item}), days = wish.days and number_input("days", wish.days),
    store_id = wish.store and query.input_of("store_id", {wish.store}),
  }
  for name, ids in pairs({category = wish.categories, exclude = wish.exclude}) do
    by_name[name] = #ids > 0 and query.input_of(name, ids)
  end
  local inputs = {}
  hashed:reset()
  for _, name in ipairs(INPUTS) do
    local input = by_name[name]
    if input then
      inputs[#inputs + 1] = input
      hashed:put(tensor.uint32(input.numbers[1]), input.texts[1])
    else
      hashed:put(NONE)
    end
  end
  return inputs, digest.sha256(hashed:ref())
end

-- Asks for a list. Returns its answer as JSON that ends with `ending`.
function lists.ask(wish, place, ending)
  local inputs, own_digest = inputs_of(wish)
  local answer = triton.ask_lists(inputs, own_digest, place)
  text:reset():put('{"release":', answer.release, ',"items":')
  query.write_items(text, answer, wish.limit)
  if answer.warnings then
    query.write_warnings(text, answer, place, TOLD)
  end
  return text:put(ending):get()
end

-- ---- the query string

local function refuse(name, code, words)
  answers.refuse(400, name .. " " .. words, code, "/" .. name)
end

local function check_text(name, value)
  if type(value) ~= "string" then
    refuse(name, "wrong_form", "has no value")
  end
  if not utf8.is_valid(value) then
    refuse(name, "not_utf8", "is not UTF-8")
  end
end

-- Returns the values of an argument, which may be repeated; empty ones are left out.
local function texts_of(arguments, name)
  local values = arguments[name] or {}
  values = type(values) == "table" and values or {values}
  local found = {}
  for _, value in ipairs(values) do
    check_text(name, value)
    found[#found + 1] = value ~= "" and value or nil
  end
  return query.distinct(found)
end

local function one(arguments, name)
  local value = arguments[name]
  if value == nil or value == "" then
    return nil
  end
  if type(value) == "table" then
    refuse(name, "wrong_form", "is given " .. #value .. " times; once is enough")
  end
  check_text(name, value)
  return value
end

local function number(arguments, name)
  local value = one(arguments, name)
  if value and not value:find("^%d%d?%d?%d?%d?%d?$") then
    refuse(name, "wrong_form", "is a whole number")
  end
  return tonumber(value)
end

local function check_limit(place, limit)
  if limit < 1 or limit > MOST then
    answers.refuse(400, place.words .. "limit is a whole number from 1 to " .. MOST .. "; got " .. limit, "out_of_range",
      place.pointer .. "/limit")
  end
  return limit
end

local function arguments_of(kind)
  local arguments, fault = ngx.req.get_uri_args(MAX_ARGUMENTS)
  if fault then
    answers.refuse(400, "the query string has over " .. MAX_ARGUMENTS .. " arguments", "out_of_range")
  end
  local known = {category = true, exclude = true, limit = true, store = true, days = kind == "popular" or nil}
  for name in pairs(arguments) do
    if not known[name] then
      local listed = "; known are category, exclude, limit, store" .. (kind == "popular" and ", days" or "")
      local shown = utf8.is_valid(name) and name:sub(1, 40):gsub("[\128-\255]+$", "") or "?"
      answers.refuse(400, 'unknown argument "' .. shown .. '"' .. listed, "unknown_field")
    end
  end
  return arguments
end

-- Sends an answer with its tag. Who keeps it must ask whether it still holds (variables.conf): stock changes at any time.
local function send_tagged(body)
  local tag = '"' .. ngx.md5(body) .. '"'
  ngx.header["ETag"] = tag
  local known = ngx.var.http_if_none_match
  ngx.req.clear_header("If-None-Match")  -- the answer's status is decided here
  if known and (known == "*" or known:find(tag, 1, true)) then
    ngx.status = 304
    return ngx.send_headers()
  end
  answers.send(200, body)
end

-- Returns kind and id of a path, /v1/items/{id}/{kind}; or nil. The id is the only part that may be percent-encoded.
function lists.parts(path)
  local id, kind = path:match("^/v1/items/([^/]+)/(%l+)$")
  if id and ABOUT_AN_ITEM[kind] and not id:gsub("%%%x%x", ""):find("%%") then
    return kind, (id:gsub("%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end))
  end
end

local function answer_path(kind, item)
  local arguments = arguments_of(kind)
  local wish = {
    kind = kind, item = item, store = one(arguments, "store"), days = number(arguments, "days"),
    categories = texts_of(arguments, "category"), exclude = texts_of(arguments, "exclude"),
    limit = check_limit(query.ROOT, number(arguments, "limit") or DEFAULT),
  }
  send_tagged(lists.ask(wish, query.ROOT, "}\n"))
end

-- GET /v1/items/{id}/{kind}
function lists.about(path)
  local kind, item = lists.parts(path)
  if not utf8.is_valid(item) then
    answers.refuse(400, "the item id in the path is not UTF-8", "not_utf8")
  end
  answer_path(kind, item)
end

-- GET /v1/popular
function lists.popular()
  answer_path("popular")
end

-- ---- a list in JSON

local FIELDS = {"kind", "label", "item_id", "categories", "exclude", "limit", "store_id", "days"}

local function whole_number(value, name, place, default)
  local given = value[name]
  if given == nil then
    return default
  end
  if type(given) ~= "number" or given ~= math.floor(given) or given < 0 or given > MAX_NUMBER then
    answers.refuse(400, place.words .. name .. " is a whole number", type(given) == "number" and "out_of_range" or "wrong_type",
      place.pointer .. "/" .. name)
  end
  return given
end

-- Returns the wish of an object with the fields of FIELDS.
function lists.read(value, place)
  query.check_keys(value, FIELDS, place, "")
  local kind, item = value.kind, query.read_text(value.item_id, "item_id", place)
  if kind ~= "popular" and not ABOUT_AN_ITEM[kind] then
    answers.refuse(400, place.words .. "kind is one of " .. KINDS, "out_of_range", place.pointer .. "/kind")
  end
  if kind ~= "popular" and not item then
    answers.refuse(400, place.words .. "item_id is missing: " .. kind .. " is about one item", "wrong_type",
      place.pointer .. "/item_id")
  end
  return {
    kind = kind, item = item, store = query.read_text(value.store_id, "store_id", place),
    days = whole_number(value, "days", place), categories = query.read_ids(value.categories, "categories", place, ""),
    exclude = query.read_ids(value.exclude, "exclude", place, ""),
    limit = check_limit(place, whole_number(value, "limit", place, DEFAULT)),
  }
end

return lists

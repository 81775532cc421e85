-- POST /v1/lists: several labelled lists for one page, in the order of their importance. An item of one list is not in
-- the lists after it. A list that cannot be made has its own problem, and the others answer.

local answers = require("answers")
local cjson = require("cjson.safe")
local lists = require("lists")
local pages = require("pages")
local query = require("query")
local rate = require("rate")
local recommend = require("recommend")

local MOST = 8
local LAST_ASKED_S = 2  -- after the request arrives, as in a batch

local shelves = {}

local function place_of(n)
  return {words = "lists[" .. n - 1 .. "]: ", pointer = "/lists/" .. n - 1}
end

local function without(value, names)
  local left = {}
  for name, each in pairs(value) do
    left[name] = not names[name] and each or nil
  end
  return left
end

-- Returns a copy of an object that excludes the items shown so far, too.
local function excluding(value, shown)
  local given = value.exclude
  if given == nil or given == cjson.null then
    given = {}
  end
  if type(given) ~= "table" or next(given) ~= nil and #given == 0 then
    return value  -- which is refused
  end
  local exclude = {}  -- not by unpack, which has a limit
  for _, ids in ipairs({given, shown}) do
    for n = 1, #ids do
      exclude[#exclude + 1] = ids[n]
    end
  end
  local changed = without(value, {})
  changed.exclude = exclude
  return changed
end

-- Returns the JSON of one list.
local function ask(value, place, shown)
  if type(value) ~= "table" then
    answers.refuse(400, place.words .. "an object with kind and label is wanted", "wrong_type", place.pointer)
  end
  local kind, wanted = value.kind, excluding(value, shown)
  if kind ~= "recommend" then
    return lists.ask(lists.read(wanted, place), place, "}")
  end
  local bind = ngx.ctx.key.session and pages.bind
  return recommend.ask(query.read_at(without(wanted, {kind = true, label = true}), place, "", bind), "}")
end

local function label_of(value)
  return type(value) == "table" and type(value.label) == "string" and value.label or cjson.null
end

local function add_items(shown, json)
  for _, item in ipairs(cjson.decode(json).items) do
    shown[#shown + 1] = item.item_id
  end
end

local function entry(value, json, refusal)
  local label = '{"label":' .. cjson.encode(label_of(value)) .. ","
  return json and label .. json:sub(2) or label .. '"problem":' .. answers.problem(refusal) .. "}"
end

local function read(body)
  local value = query.parse(body)
  query.check_keys(value, {"lists"}, query.ROOT, body)
  return query.check_entries(value.lists, "lists", MOST, body)
end

function shelves.answer(body)
  local wanted, found, shown, first = read(body), {}, {}, nil
  local until_s, answered = ngx.now() + LAST_ASKED_S, false
  rate.charge(#wanted)
  for n, value in ipairs(wanted) do
    local json, refusal = nil, {status = 504}
    if ngx.now() <= until_s then
      json, refusal = answers.run(ask, value, place_of(n), shown)
    end
    if json then
      answered = true
      add_items(shown, json)
    end
    first = first or refusal
    found[n] = entry(value, json, refusal)
  end
  if not answered and first.status >= 500 then
    error(first, 0)  -- nothing works: monitors and proxies are to see it
  end
  answers.send(200, '{"lists":[' .. table.concat(found, ",") .. '],"request_id":"' .. ngx.ctx.id .. '"}\n')
end

return shelves

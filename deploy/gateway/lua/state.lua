-- The gateway's state: keys, the canary's share and the key of the live tables, read from the files that cesta writes.
--
-- The shared dictionary `state` holds an entry for each key's hash, so all workers see a change at once. `cesta keys` and
-- the supervisor send POST /reload to the control socket after a change. A timer finds changes that were not announced.

local cjson = require("cjson.safe")
local memo = require("memo")

local shared = ngx.shared.state
local CHECK_S = 1
local LACKING_S = 1

local state = {}
local folder
local last_faults  -- what this process could not read, which is logged once

local MISSING = 2  -- the number of ENOENT
local NEVER = 2 ^ 40

-- Returns a file's text, `instead` if there is none, or nil and the reason why it cannot be read.
local function read_file(name, instead)
  local file, fault, number = io.open(folder .. "/" .. name, "rb")
  if not file then
    if number == MISSING then
      return instead
    end
    return nil, fault
  end
  local text
  text, fault = file:read("*a")
  file:close()
  return text, fault
end

-- Adds what a key of the role browser tells about its pages. Returns false if it tells nothing.
local function add_pages(entries, key)
  if type(key.origins) ~= "table" or not tonumber(key.session_rate) then
    return false
  end
  local words = {key.name, key.rate, key.session_rate}
  for _, origin in ipairs(key.origins) do
    words[#words + 1] = origin
    entries["origin:" .. origin] = "1"
  end
  entries["browser:" .. key.name] = table.concat(words, " ")
  return true
end

-- Adds the entry of a secret, unless it was forgotten. The last word is the Unix time of its end.
local function add_entry(entries, key, hash, expires_s)
  if not shared:get("forgotten:" .. hash) then
    entries["key:" .. hash] = key.name .. " " .. key.role .. " " .. key.rate .. " " .. expires_s
  end
end

-- Tells whether a field is a number or absent. A time in another form must not count as none.
local function may_be_number(value)
  return value == nil or type(value) == "number"
end

-- Returns the entries of the keys in a text of keys.json, or nil.
local function entries_of(text)
  local keys, entries = cjson.decode(text), {}
  if type(keys) ~= "table" or not text:find("^%s*%[") then  -- {} would be no keys at all
    return nil
  end
  for _, key in pairs(keys) do
    if type(key) ~= "table" or not (key.sha256 and key.name and key.role and tonumber(key.rate)) then
      return nil
    end
    if not (may_be_number(key.expires_s) and may_be_number(key.old_expires_s)) then
      return nil
    end
    local expires_s = key.expires_s or NEVER
    if key.role == "browser" and not add_pages(entries, key) then
      return nil
    end
    add_entry(entries, key, key.sha256, expires_s)
    if key.old_sha256 then
      add_entry(entries, key, key.old_sha256, math.min(expires_s, key.old_expires_s or 0))
    end
  end
  return entries
end

-- Replaces the keys. Returns false if there is no room for all of them; no key makes way for another.
local function apply_entries(entries)
  for _, name in ipairs(shared:get_keys(0)) do
    local kind = name:match("^%a+:")
    if (kind == "key:" or kind == "browser:" or kind == "origin:") and not entries[name] then
      shared:delete(name)
    end
  end
  for name, entry in pairs(entries) do
    if shared:get(name) ~= entry and not shared:safe_set(name, entry) then
      return false
    end
  end
  return true
end

local function apply_keys()
  local text, fault = read_file("keys.json", "[]")
  local applied
  while text and text ~= applied do
    local mark = ngx.md5(text)
    if mark == shared:get("applied") then
      return nil
    end
    local entries = entries_of(text)
    if not entries then
      return "keys.json was not written by cesta keys; restore a copy of it"
    end
    if not apply_entries(entries) then
      return "keys.json has more keys than fit into lua_shared_dict state in lua.conf; revoke some, or enlarge it"
    end
    shared:set("applied", mark)
    applied = text
    text, fault = read_file("keys.json", "[]")
    if text ~= applied then
      shared:delete("applied")  -- another worker may have applied the newer file, before this one was done
    end
  end
  return fault
end

local function apply_split()
  local text, fault = read_file("split.json", "{}")
  local split = text and cjson.decode(text)
  if type(split) ~= "table" then
    return fault or "split.json is not JSON; restart the supervisor, which writes it"
  end
  shared:set("percent", tonumber(split.percent) or 0)
end

-- Takes over the key of the live tables: no answer is cached under it yet. Without a table there is none.
local function apply_live()
  local text, fault = read_file("live.json", "{}")
  local live = text and cjson.decode(text)
  if type(live) ~= "table" then
    return fault or "live.json is not JSON; restart the supervisor, which writes it"
  end
  if live.live ~= shared:get("live") then
    shared:set("live", type(live.live) == "string" and live.live or nil)
  end
end

-- Applies the files. One that cannot be read changes nothing; returns the reasons, or nil.
function state.apply()
  local found = {}
  for _, apply in ipairs({apply_keys, apply_split, apply_live}) do
    found[#found + 1] = apply()
  end
  local faults = #found > 0 and table.concat(found, "; ") or nil
  if faults and faults ~= last_faults then
    ngx.log(ngx.ERR, faults)
  end
  last_faults = faults
  return faults
end

-- Reads the state before the workers start.
function state.init(state_folder)
  folder = state_folder
  state.apply()
end

-- Follows the files for as long as the worker runs.
function state.follow()
  if ngx.worker.id() == 0 then
    ngx.timer.every(CHECK_S, function(ending)
      if not ending then
        state.apply()
      end
    end)
  end
end

local read_entry = memo(2048, function(entry)
  local name, role, rate, expires_s = entry:match("^(%S+) (%S+) (%S+) (%S+)$")
  return {name = name, role = role, rate = tonumber(rate), expires_s = tonumber(expires_s)}
end)

-- Refuses a key whose entry in keys.json could not be deleted, until nginx starts again. Returns whether it is noted.
function state.forget(hash)
  local noted = shared:safe_set("forgotten:" .. hash, true)
  shared:delete("key:" .. hash)
  return noted
end

-- Returns name, role and rate of the key with this SHA-256, or nil if there is none or it has expired.
function state.key(hash)
  local entry = shared:get("key:" .. hash)
  local key = entry and read_entry(entry)
  return key and ngx.now() < key.expires_s and key or nil
end

local read_pages = memo(2048, function(entry)
  local name, rate, session_rate, origins = entry:match("^(%S+) (%S+) (%S+) (.*)$")
  local known = {}
  for origin in origins:gmatch("%S+") do
    known[origin] = true
  end
  return {name = name, rate = tonumber(rate), session_rate = tonumber(session_rate), origins = known}
end)

-- Returns name, rate, rate of a session and origins of the key of the role browser with this SHA-256, or nil if there is
-- none or it has expired.
function state.browser_key(hash)
  local key = state.key(hash)
  local entry = key and key.role == "browser" and shared:get("browser:" .. key.name)
  return entry and read_pages(entry) or nil
end

-- Tells whether a key serves pages of this origin.
function state.serves_origin(origin)
  return shared:get("origin:" .. origin) ~= nil
end

-- Returns the share of sessions that the canary release answers, in percent.
function state.percent()
  return shared:get("percent") or 0
end

-- Returns the part of the cache's key that changes with the live tables, or nil if there are none.
function state.live()
  return shared:get("live")
end

-- Tells whether the release behind a model is known to lack the input `live`. Another one may be loaded at any time.
function state.lacks_live(model)
  return shared:get("lacks live:" .. model) ~= nil
end

function state.note_lacking(model)
  shared:set("lacks live:" .. model, true, LACKING_S)
end

-- Returns the token that the supervisor asks for, or "".
function state.admin_token()
  return (read_file("admin_token", "") or ""):match("^%s*(%S*)")
end

return state

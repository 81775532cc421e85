-- The gateway's state: keys and the canary's share, read from the files that cesta writes.
--
-- The shared dictionary `state` holds an entry for each key's hash, so all workers see a change at once. `cesta keys` and
-- the supervisor send POST /reload to the control socket after a change. A timer finds changes that were not announced.

local cjson = require("cjson.safe")

local shared = ngx.shared.state
local CHECK_S = 1

local state = {}
local folder
local last_keys  -- the text of keys.json that this process has applied

local function read_file(name)
  local file = io.open(folder .. "/" .. name, "rb")
  if not file then
    return nil
  end
  local text = file:read("*a")
  file:close()
  return text
end

local function apply_keys()
  local text = read_file("keys.json") or "[]"
  if text == last_keys then
    return
  end
  local keys = cjson.decode(text)
  if type(keys) ~= "table" then
    ngx.log(ngx.ERR, "keys.json cannot be read; the keys stay as they were")
    return
  end
  local valid = {}
  for _, key in ipairs(keys) do
    valid["key:" .. key.sha256] = true
    shared:set("key:" .. key.sha256, key.name .. " " .. key.role .. " " .. key.rate)
  end
  for _, entry in ipairs(shared:get_keys(0)) do
    if entry:sub(1, 4) == "key:" and not valid[entry] then
      shared:delete(entry)
    end
  end
  last_keys = text
end

local function apply_split()
  local split = cjson.decode(read_file("split.json") or "{}")
  shared:set("percent", type(split) == "table" and tonumber(split.percent) or 0)
end

function state.apply()
  apply_keys()
  apply_split()
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

-- Returns name, role and rate of the key with this SHA-256, or nil.
function state.key(hash)
  local entry = shared:get("key:" .. hash)
  if not entry then
    return nil
  end
  local name, role, rate = entry:match("^(%S+) (%S+) (%S+)$")
  return {name = name, role = role, rate = tonumber(rate)}
end

-- Returns the share of sessions that the canary release answers, in percent.
function state.percent()
  return shared:get("percent") or 0
end

-- Returns the token that the supervisor asks for, or "".
function state.admin_token()
  return (read_file("admin_token") or ""):match("^%s*(%S*)")
end

return state

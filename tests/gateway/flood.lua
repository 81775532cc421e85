-- For wrk: baskets that no cache has seen, with the keys of the environment's KEYS (commas between). Prints what was
-- accepted and how long that took; docs/gateway.md has the command.

local keys = {}
for key in os.getenv("KEYS"):gmatch("[^,]+") do
  keys[#keys + 1] = key
end
local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

function init()
  math.randomseed(os.time() + tonumber(tostring({}):sub(8)) % 100000)
  counts, sent = {}, 0
end

function request()
  sent = sent + 1
  local body = string.format('{"basket": ["%d", "1029743"], "user_id": "%d"}', math.random(1, 1e9), math.random(1, 2500))
  local headers = { ["Content-Type"] = "application/json", Authorization = "Bearer " .. keys[sent % #keys + 1] }
  return wrk.format("POST", "/v1/recommend", headers, body)
end

function response(status)
  counts[status] = (counts[status] or 0) + 1
end

function done()
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("counts")) do
      print(status, count)
    end
  end
end

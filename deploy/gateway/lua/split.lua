-- The share of the canary release. Requests of the same key and session go to the same model, and a larger share only
-- moves some over.

local state = require("state")

local split = {}

local function bucket(text)  -- 0 to 9999
  return tonumber(ngx.md5(text):sub(1, 8), 16) % 10000
end

function split.model()
  local percent = state.percent()
  if percent <= 0 then
    return "recommender"
  end
  local ctx = ngx.ctx
  local session = ngx.var.http_x_session_id or ""
  session = session ~= "" and session or ctx.id
  return bucket(ctx.key.name .. ":" .. session) < percent * 100 and "recommender_canary" or "recommender"
end

return split

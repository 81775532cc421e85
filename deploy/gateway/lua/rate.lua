-- Charges a key for its questions: one at the door, and as many more as the body turns out to hold.

local answers = require("answers")
local limits = require("limits")

local rate = {}

-- Refuses the request if `limit`, a function of limits.lua, does not let the key go on.
function rate.check(limit, key, questions)
  local may, wait_s = limit(key, questions)
  if not may then
    answers.refuse_for_now(429, "rate_exceeded", math.max(1, math.ceil(wait_s)))
  end
end

-- Charges the caller for the questions of its body; the door has charged one.
function rate.charge(questions)
  if questions > 1 then
    rate.check(limits.single, ngx.ctx.key, questions - 1)
  end
end

return rate

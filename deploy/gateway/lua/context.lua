-- Where a shop shows an answer, and the variant of its experiment: counted by X-Placement and X-Variant.
--
-- A shop invents the values, so their number is bounded. A pair beyond the bounds counts as "other".

local names = ngx.shared.counts
local PER_KEY, ALL = 50, 1000  -- pairs of placement and variant; workers may let in a few more at the same moment

local context = {}
local known = {}  -- the labels of each pair that this worker has counted

local function labels_of(key, placement, variant)
  return 'key="' .. key .. '",placement="' .. placement .. '",variant="' .. variant .. '"'
end

local function admit(key, name)
  if names:get(name) then
    return true
  end
  local of_key = "contexts of " .. key
  if (names:get(of_key) or 0) >= PER_KEY or (names:get("contexts") or 0) >= ALL or not names:safe_add(name, true) then
    return false
  end
  names:incr(of_key, 1, 0)
  names:incr("contexts", 1, 0)
  return true
end

-- Returns the labels of a request's placement and variant; nil if it has neither.
function context.labels(key)
  local var = ngx.var
  if not (var.http_x_placement or var.http_x_variant) then
    return nil
  end
  local placement, variant = var.placement, var.variant
  if placement == "" and variant == "" then
    return nil
  end
  local name = "context:" .. key .. " " .. placement .. " " .. variant
  if not known[name] then
    if not admit(key, name) then
      return labels_of(key, "other", "other")
    end
    known[name] = labels_of(key, placement, variant)
  end
  return known[name]
end

return context

-- Remembers what a function returns for a text. It forgets everything when it knows too many texts.

return function(size, compute)
  local found, count = {}, 0
  return function(text)
    local value = found[text]
    if value == nil then
      value = compute(text)
      if value ~= nil then
        if count >= size then
          found, count = {}, 0
        end
        found[text], count = value, count + 1
      end
    end
    return value
  end
end

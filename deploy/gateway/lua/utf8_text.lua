-- UTF-8 as JSON wants it. Most bodies are simple.

local utf8_text = {}

-- Tells whether a text is ASCII without control characters and backslashes: the other functions have nothing to do.
function utf8_text.is_simple(text)
  for n = 1, #text do
    local byte = text:byte(n)
    if byte < 32 or byte == 92 or byte > 126 then
      return false
    end
  end
  return true
end

function utf8_text.without_mark(text)
  return text:sub(1, 3) == "\239\187\191" and text:sub(4) or text
end

-- Tells whether a text is UTF-8: no overlong forms, no surrogates, nothing beyond U+10FFFF (RFC 3629, section 4).
function utf8_text.is_valid(text)
  local at = text:find("[\128-\255]")
  while at do
    local first = text:byte(at)
    local second = text:byte(at + 1) or 0
    local size, low, high = 0, 128, 191
    if first >= 194 and first <= 223 then
      size = 2
    elseif first >= 224 and first <= 239 then
      size = 3
      low = first == 224 and 160 or 128
      high = first == 237 and 159 or 191
    elseif first >= 240 and first <= 244 then
      size = 4
      low = first == 240 and 144 or 128
      high = first == 244 and 143 or 191
    end
    if size == 0 or second < low or second > high then
      return false
    end
    for place = at + 2, at + size - 1 do
      local byte = text:byte(place) or 0
      if byte < 128 or byte > 191 then
        return false
      end
    end
    at = text:find("[\128-\255]", at + size)
  end
  return true
end

-- Replaces halves of surrogate pairs, written as \ud800, by the replacement character: no UTF-8 can hold them.
function utf8_text.without_half_pairs(text)
  if not text:find("\\u[dD][89a-fA-F]") then
    return text
  end
  local parts, at = {}, 1
  while true do
    local first, last, kind = text:find("\\(.)", at)
    if not first then
      break
    end
    parts[#parts + 1] = text:sub(at, first - 1)
    local escape = text:sub(first, first + 5)
    if kind ~= "u" or not escape:find("^\\u[dD][89a-fA-F]%x%x$") then
      parts[#parts + 1] = text:sub(first, last)
      at = last + 1
    elseif escape:find("^\\u[dD][89abAB]") and text:find("^\\u[dD][c-fC-F]%x%x", first + 6) then
      parts[#parts + 1] = text:sub(first, first + 11)
      at = first + 12
    else
      parts[#parts + 1] = "\\ufffd"
      at = first + 6
    end
  end
  return table.concat(parts) .. text:sub(at)
end

-- Tells whether a JSON text has a control character within a string, which JSON does not allow.
function utf8_text.has_raw_controls(text)
  if not text:find("%c") then
    return false
  end
  for inside in text:gsub("\\.", ""):gmatch('"([^"]*)"') do
    if inside:find("[%z\1-\31]") then
      return true
    end
  end
  return false
end

return utf8_text

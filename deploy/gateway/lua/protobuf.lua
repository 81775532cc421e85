-- Protocol buffers, as far as ModelInfer needs them: fields with a length (wire type 2), and packed whole numbers.

local answers = require("answers")

local char = string.char

local protobuf = {}

local function refuse(text)
  answers.refuse(400, text, "unreadable_message")
end

local function read_varint(bytes, at, stop)  -- returns a value below 2^28 and its end
  local value, scale = 0, 1
  for place = at, math.min(at + 3, stop) do
    local byte = bytes:byte(place)
    value = value + byte % 128 * scale
    if byte < 128 then
      return value, place + 1
    end
    scale = scale * 128
  end
  refuse("a number of the message is too long")
end

-- Reads the fields of a message in bytes[first, last]: `names` by number. A field of `repeated` becomes a list of
-- {first, last}, another one {first, last}. Unknown fields are refused, because Triton could read them in a way that was
-- not checked.
function protobuf.read(bytes, first, last, names, repeated)
  local fields, at = {}, first
  while at <= last do
    local tag = bytes:byte(at)
    local name = names[math.floor(tag / 8)]
    if tag > 127 or tag % 8 ~= 2 or not name or at == last then
      refuse("the message is not a plain ModelInferRequest")
    end
    local size, from = read_varint(bytes, at + 1, last)
    local stop = from + size - 1
    if stop > last or fields[name] and not repeated[name] then
      refuse("the message is not a plain ModelInferRequest")
    end
    if repeated[name] then
      fields[name] = fields[name] or {}
      table.insert(fields[name], {from, stop})
    else
      fields[name] = {from, stop}
    end
    at = stop + 1
  end
  return fields
end

-- Reads packed numbers.
function protobuf.read_numbers(bytes, field)
  local numbers = {}
  local at = field and field[1] or 1
  while field and at <= field[2] do
    numbers[#numbers + 1], at = read_varint(bytes, at, field[2])
  end
  return numbers
end

function protobuf.text(bytes, field)
  return field and bytes:sub(field[1], field[2]) or ""
end

local function varint(value)
  local bytes = ""
  while value > 127 do
    bytes = bytes .. char(value % 128 + 128)
    value = math.floor(value / 128)
  end
  return bytes .. char(value)
end

-- Writes a field with a length.
function protobuf.field(number, content)
  return char(number * 8 + 2) .. varint(#content) .. content
end

function protobuf.numbers(values)
  local parts = {}
  for n = 1, #values do
    parts[n] = varint(values[n])
  end
  return table.concat(parts)
end

return protobuf

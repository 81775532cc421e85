-- Triton's form of strings in a tensor: each one a uint32 length, little-endian, and its bytes. And its FP32 and INT32.

local ffi = require("ffi")
local bit = require("bit")

local char = string.char
local band, rshift = bit.band, bit.rshift

local tensor = {}

local LENGTHS = {}
for n = 0, 1023 do
  LENGTHS[n] = char(n % 256, math.floor(n / 256), 0, 0)
end

-- Returns a number as four bytes.
function tensor.uint32(n)
  return LENGTHS[n] or char(band(n, 255), band(rshift(n, 8), 255), band(rshift(n, 16), 255), band(rshift(n, 24), 255))
end

-- Returns the places of the first and the last byte of the string that begins at `at`, or nil if the tensor ends before.
-- The next one begins after the last byte.
function tensor.bounds(raw, at)
  local a, b, c, d = raw:byte(at, at + 3)
  local last = d and at + 3 + a + 256 * b + 65536 * c + 16777216 * d
  if last and last <= #raw then
    return at + 4, last
  end
end

local one_float = ffi.new("float[1]")

-- Returns a number as the four bytes of an FP32.
function tensor.float32(value)
  one_float[0] = value
  return ffi.string(one_float, 4)
end

tensor.MOST = 128  -- values that are read at a time
local floats = ffi.new("float[?]", tensor.MOST)
local integers = ffi.new("int32_t[?]", tensor.MOST)

-- Returns up to MOST FP32 or INT32 values of a tensor, from the byte `at` on; the array is overwritten by the next call.
local function numbers(array, raw, at, count)
  ffi.copy(array, ffi.cast("const char *", raw) + at - 1, 4 * count)
  return array
end

function tensor.floats(raw, at, count)
  return numbers(floats, raw, at, count)
end

function tensor.integers(raw, at, count)
  return numbers(integers, raw, at, count)
end

return tensor

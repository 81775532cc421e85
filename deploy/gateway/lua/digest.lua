-- SHA-256 in hexadecimal, and HMAC with it, by the libcrypto that nginx is linked with.

local ffi = require("ffi")
local bit = require("bit")

ffi.cdef([[
unsigned char *SHA256(const unsigned char *text, size_t length, unsigned char *hash);
const void *EVP_sha256(void);
unsigned char *HMAC(const void *kind, const void *key, int key_length, const unsigned char *text, size_t length,
                    unsigned char *hash, unsigned int *hash_length);
]])

local libcrypto = ffi.C
if not pcall(function() return ffi.C.SHA256 end) then
  libcrypto = ffi.load("crypto")
end
local hash = ffi.new("unsigned char[32]")
local hex = ffi.new("char[64]")
local DIGITS = ffi.new("char[16]", "0123456789abcdef")

local digest = {}

-- `text` is a string, or a pointer to `size` bytes.
function digest.sha256(text, size)
  libcrypto.SHA256(text, size or #text, hash)
  for n = 0, 31 do
    local byte = hash[n]
    hex[2 * n] = DIGITS[bit.rshift(byte, 4)]
    hex[2 * n + 1] = DIGITS[bit.band(byte, 15)]
  end
  return ffi.string(hex, 64)
end

-- Returns 32 bytes (RFC 2104).
function digest.hmac_sha256(key, text)
  libcrypto.HMAC(libcrypto.EVP_sha256(), key, #key, text, #text, hash, nil)
  return ffi.string(hash, 32)
end

return digest

-- Identifies the caller by the SHA-256 of its key. Keys have 256 random bits, so one SHA-256 hides them well, and the
-- time of a lookup by hash tells an attacker nothing.

local digest = require("digest")
local memo = require("memo")
local pages = require("pages")
local state = require("state")

local identity = {}

-- Returns the hash of a bearer header, or nil. Those of wrong keys are not remembered, so that a flood of them does not
-- push the others out. Whether a hash is a key is decided at each request.
local hash_of = memo(2048, function(header)
  local key = header:match("^[Bb][Ee][Aa][Rr][Ee][Rr] +([%w_-]+)$")
  if not key or #key < 20 or #key > 100 then
    return nil
  end
  local hash = digest.sha256(key)
  return state.key(hash) and hash
end)

-- Returns the caller's key, {name, role, rate}, or nil. A page's token counts as a key of the role page. The request knows
-- the hash from then on.
function identity.caller()
  local header = ngx.var.http_authorization
  if not header then
    return nil
  end
  local hash = hash_of(header)
  if hash then
    ngx.ctx.key_hash = hash
    return state.key(hash)
  end
  return pages.caller(header)
end

return identity

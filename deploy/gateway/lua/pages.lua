-- Pages that ask the gateway themselves. A page is not given a key, which would read everybody's habits. The shop's
-- server asks for a token with a key of the role browser, and the page sends that token.
--
-- A token is bound to one customer or to none, to one session, and to a time. It has the role page, which reaches
-- /v1/recommend and the lists that routes.lua names only. It is "cestat.", the claims as base64url JSON, "." and their HMAC-SHA256 as base64url, with the
-- admin token as the key. Nothing is stored: a token names the SHA-256 of the secret that asked for it, and ends with that
-- secret. A new key of the same name does not revive it.

local answers = require("answers")
local base64 = require("ngx.base64")
local cjson = require("cjson.safe")
local digest = require("digest")
local memo = require("memo")
local problems = require("problems")
local query = require("query")
local question = require("question")
local state = require("state")

local LEAST_S, MOST_S, DEFAULT_S = 60, 3600, 900  -- a token's life
local SECRET_S = 1       -- how long a worker remembers the secret
local PREFLIGHT_S = 7200  -- how long a browser remembers what it may send
local DOMAIN = "cesta page token 1\n"  -- the secret also serves another purpose, which has no such beginning
local ASKED = {user_id = true, session_id = true, lifetime_s = true}

local pages = {}

-- ---- tokens

local secret, secret_read_s = "", 0

-- Returns the secret, or "" if no supervisor has made one. A flood of wrong tokens must not read a file each time.
local function read_secret()
  local now = ngx.now()
  if now - secret_read_s > SECRET_S then
    secret, secret_read_s = state.admin_token(), now
  end
  return secret
end

local function sign(payload)
  return base64.encode_base64url(digest.hmac_sha256(read_secret(), DOMAIN .. payload))
end

-- Tells whether a signed payload has the claims of this version.
local function are_claims(claims)
  return type(claims) == "table" and type(claims.sha256) == "string" and type(claims.expires_s) == "number" and
    type(claims.session) == "string" and (claims.user_id == nil or type(claims.user_id) == "string")
end

-- Returns the claims of a bearer header whose token has this gateway's signature, with the secret that signed it; or nil.
-- Strings of Lua are compared by address, so the time of a comparison tells nothing.
local claims_of = memo(2048, function(header)
  local payload, signature = header:match("^[Bb][Ee][Aa][Rr][Ee][Rr] +cestat%.([%w_-]+)%.([%w_-]+)$")
  if not payload or read_secret() == "" or sign(payload) ~= signature then
    return nil
  end
  local claims = cjson.decode(base64.decode_base64url(payload) or "")
  return are_claims(claims) and {claims = claims, secret = secret} or nil
end)

-- Returns the caller of a page's token, with name and rate of the key that made it, or nil.
function pages.caller(header)
  if not header:find("cestat.", 1, true) then
    return nil
  end
  local found = claims_of(header)
  if not found or found.secret ~= read_secret() then  -- remembered from before a new secret
    return nil
  end
  local claims = found.claims
  local key = ngx.now() < claims.expires_s and state.browser_key(claims.sha256)
  return key and {
    name = key.name, rate = key.rate, role = "page", session = claims.session, session_rate = key.session_rate,
    user_id = claims.user_id, origins = key.origins,
  }
end

local function check_text(body, name, pattern, form)
  local value = body[name]
  if value ~= nil and (type(value) ~= "string" or not value:find(pattern) or #value > 128) then
    answers.refuse(400, name .. " is " .. form, type(value) == "string" and "wrong_form" or "wrong_type", "/" .. name)
  end
end

local function read_wish(text)
  local body = query.parse(text)
  if type(body) ~= "table" or text:find("^%s*%[") then
    answers.refuse(400, 'an object such as {"user_id": "2070"} is wanted', "wrong_type", "")
  end
  for name, value in pairs(body) do
    if not ASKED[name] then
      local known = '"; known are user_id, session_id, lifetime_s'
      answers.refuse(400, 'unknown key "' .. question.cut(name, 40) .. known, "unknown_field", problems.pointer_to(name))
    end
    if value == cjson.null then
      body[name] = nil
    end
  end
  check_text(body, "user_id", "^.+$", "a string of 1 to 128 bytes")
  check_text(body, "session_id", "^[!-~]+$", "1 to 128 printable ASCII characters without blanks")
  local lifetime_s = body.lifetime_s or DEFAULT_S
  if type(lifetime_s) ~= "number" or not (lifetime_s >= LEAST_S and lifetime_s <= MOST_S) then
    local code = type(lifetime_s) == "number" and "out_of_range" or "wrong_type"
    answers.refuse(400, "lifetime_s is a number of " .. LEAST_S .. " to " .. MOST_S, code, "/lifetime_s")
  end
  return body, math.floor(lifetime_s)
end

-- POST /v1/tokens: returns a token for one page.
function pages.issue(text)
  local body, lifetime_s = read_wish(text)
  if read_secret() == "" then
    answers.refuse(503, "no supervisor has written admin_token, which tokens need; start one with --gateway", "not_ready")
  end
  local session = body.session_id or ngx.var.request_id
  local payload = base64.encode_base64url(cjson.encode({
    sha256 = ngx.ctx.key_hash, expires_s = math.floor(ngx.now()) + lifetime_s, session = session, user_id = body.user_id,
  }))
  answers.send(200, cjson.encode({
    token = "cestat." .. payload .. "." .. sign(payload), token_type = "Bearer", expires_in_s = lifetime_s,
    session_id = session, request_id = ngx.ctx.id,
  }) .. "\n")
end

-- ---- a page's request

local function let_read(origin)
  local header = ngx.header
  header["Access-Control-Allow-Origin"] = origin
  header["Access-Control-Expose-Headers"] = "X-Request-Id, Retry-After, RateLimit, RateLimit-Policy"
  header["Vary"] = "Origin"
end

-- Lets a page read that its token has ended: without that, its script cannot tell it from a fault of the network.
function pages.let_read_refusal()
  local origin = ngx.var.http_origin
  if origin and state.serves_origin(origin) then
    let_read(origin)
  end
end

-- Lets a page read the answer if its origin is one of the key's, and takes the session from the token. Pages without an
-- origin are refused: browsers always send it with a POST.
function pages.admit(caller)
  local origin = ngx.var.http_origin
  if not origin or not caller.origins[origin] then
    answers.refuse(403, "this token serves pages of other origins", "wrong_origin")
  end
  let_read(origin)
  if ngx.var.http_traceparent then
    ngx.ctx.trace_header = nil  -- a visitor does not decide what is traced
  end
  ngx.req.set_header("X-Session-Id", caller.session)
end

-- Has a query, which is an object, ask for the token's customer. It may name him, but nobody else.
function pages.bind(asked_query)
  local asked, caller = asked_query.user_id, ngx.ctx.key
  if asked ~= nil and asked ~= cjson.null and asked ~= caller.user_id then
    answers.refuse(403, "this token is for another customer", "wrong_customer", "/user_id")
  end
  asked_query.user_id = caller.user_id
end

-- Answers a browser that asks whether its page may send a request. Returns false if no key serves the page's origin.
function pages.preflight()
  local origin = ngx.var.http_origin
  if not origin or not state.serves_origin(origin) then
    return false
  end
  local header = ngx.header
  header["Access-Control-Allow-Origin"] = origin
  header["Access-Control-Allow-Methods"] = "GET, POST"
  header["Access-Control-Allow-Headers"] = "Authorization, Content-Type, X-Request-Id, X-Placement, X-Variant"
  header["Access-Control-Max-Age"] = PREFLIGHT_S
  header["Vary"] = "Origin"
  ngx.status = 204
  return true
end

return pages

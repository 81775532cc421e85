-- The paths of the gateway. A path has one spelling; any other is 404.
--
-- name      label in the log and the metrics
-- methods   allowed methods
-- headers   request headers that are used; all others are dropped
-- open      no key is needed
-- roles     the roles of keys that may ask; by default those of shops and admins
-- pages     browsers may ask whether their pages may
-- rate      "tensors": by what the request holds; by default it counts as a single query, and its body may cost more
-- json      the body must be JSON; `grpc`: a gRPC message; `ndjson`: JSON, or a line of JSON for each event
-- vouched   the supervisor is told that the gateway has checked the key
-- most      in words, how large a body may be if that is not 64 KiB; nginx.conf.template has the number
-- answer    answers with the body if `body` is set, with the read message if `read` is set, otherwise with the path
-- location  nginx answers, in this location

local grpc = require("grpc")
local health = require("health")
local lists = require("lists")
local pages = require("pages")
local recommend = require("recommend")
local rpc_health = require("rpc_health")
local shelves = require("shelves")
local tensors = require("tensors")

local routes = {}

local function set(...)
  local entries = {}
  for _, name in ipairs({...}) do
    entries[name] = true
  end
  return entries
end

local SHOPS = set("shop", "admin")
local SHOPS_AND_PAGES = set("shop", "admin", "page")
local ADMINS = set("admin")
local EVENTS = set("events", "admin")
local EXPLAINERS = set("admin", "explain")
local STOCKS = set("stock", "shop", "admin")
local BROWSERS = set("browser")

local POST = {methods = set("POST"), allow = "POST"}
local GET = {methods = set("GET", "HEAD"), allow = "GET, HEAD"}
local GET_PUT = {methods = set("GET", "PUT"), allow = "GET, PUT"}
local GET_POST = {methods = set("GET", "POST"), allow = "GET, POST"}

local ALWAYS = {
  "host", "connection", "authorization", "x-request-id", "x-session-id", "x-placement", "x-variant", "traceparent",
  "user-agent", "accept", "content-type", "content-length", "content-encoding", "transfer-encoding", "expect",
  "x-forwarded-for",
}

local function route(name, allowed, options)
  local entry = {
    name = name, methods = allowed.methods, allow = allowed.allow, headers = set(unpack(ALWAYS)), roles = SHOPS,
  }
  for key, value in pairs(options) do
    entry[key] = value
  end
  for _, header in ipairs(options.uses or {}) do
    entry.headers[header] = true
  end
  return entry
end

local HTTP = {
  ["/v1/recommend"] = route("recommend", POST, {
    json = true, body = true, answer = recommend.one, roles = SHOPS_AND_PAGES, pages = true, uses = {"origin"},
  }),
  ["/v1/recommend/batch"] = route("batch", POST, {json = true, body = true, answer = recommend.many}),
  ["/v1/rank"] = route("rank", POST, {json = true, body = true, answer = recommend.rank}),
  ["/v1/lists"] = route("lists", POST, {json = true, body = true, answer = shelves.answer}),
  ["/v1/popular"] = route("popular", GET, {
    answer = lists.popular, roles = SHOPS_AND_PAGES, pages = true, uses = {"origin", "if-none-match"},
  }),
  ["/v2/models/recommender/infer"] = route("tensors", POST, {  -- Triton's only public path: cesta_client over HTTP
    rate = "tensors", read = tensors.read, answer = tensors.answer, uses = {"inference-header-content-length"},
  }),
  ["/v1/explain"] = route("explain", POST, {json = true, roles = EXPLAINERS, vouched = true, location = "@explain"}),
  ["/v1/tokens"] = route("tokens", POST, {json = true, body = true, answer = pages.issue, roles = BROWSERS}),
  ["/v1/items"] = route("items", GET, {location = "@items", uses = {"if-none-match", "accept-encoding"}}),
  ["/v1/categories"] = route("categories", GET, {location = "@categories", uses = {"if-none-match", "accept-encoding"}}),
  ["/v1/availability"] = route("availability", GET_PUT, {
    roles = STOCKS, location = "@stock", vouched = true, most = "1 MiB",
  }),
  ["/v1/status"] = route("status", GET, {location = "@supervisor"}),
  ["/v1/events"] = route("events", GET_POST, {
    ndjson = true, roles = EVENTS, location = "@events", vouched = true, most = "1 MiB",
  }),
  ["/v1/drift"] = route("drift", GET, {location = "@supervisor"}),
  ["/healthz"] = route("health", GET, {open = true, answer = health.answer}),
  ["/readyz"] = route("health", GET, {open = true, answer = health.answer}),
}
local ABOUT_ITEMS = {}  -- kind → /v1/items/{id}/kind
for kind, may_pages in pairs({similar = true, together = true, substitutes = false}) do
  ABOUT_ITEMS[kind] = route(kind, GET, {
    answer = lists.about, roles = may_pages and SHOPS_AND_PAGES or SHOPS, pages = may_pages or nil,
    uses = {"origin", "if-none-match"},
  })
end
local ADMIN = route("admin", GET_POST, {roles = ADMINS, vouched = true, location = "@admin", uses = {"idempotency-key"}})
local UNKNOWN = route("other", GET_POST, {unknown = true, stranger = 404})

local SERVICE = "/inference.GRPCInferenceService/"
local GRPC = {
  [SERVICE .. "ModelInfer"] = route("grpc", POST, {
    grpc = true, rate = "tensors", read = grpc.read, answer = grpc.answer, uses = {"te"},
  }),
  [SERVICE .. "ServerLive"] = route("health", POST, {grpc = true, body = true, answer = rpc_health.live}),
  [SERVICE .. "ServerReady"] = route("health", POST, {grpc = true, body = true, answer = rpc_health.ready}),
  ["/grpc.health.v1.Health/Check"] = route("health", POST, {grpc = true, body = true, answer = rpc_health.check}),
}
local UNKNOWN_GRPC = route("other", POST, {unknown = true, stranger = 401})

routes.unknown, routes.admin = UNKNOWN, ADMIN

function routes.http(path)
  -- No dots or percent signs: the supervisor sees exactly this path.
  return HTTP[path] or path:find("^/admin/[a-z0-9/_-]+$") and not path:find("//", 1, true) and ADMIN
    or ABOUT_ITEMS[lists.parts(path)] or UNKNOWN
end

function routes.grpc(path)
  return GRPC[path] or UNKNOWN_GRPC
end

return routes

-- The gateway's two doors, HTTP and gRPC: who may come in, by which path, and with which headers. routes.lua lists the
-- paths.

local answers = require("answers")
local context = require("context")
local grpc = require("grpc")
local health = require("health")
local identity = require("identity")
local limits = require("limits")
local metrics = require("metrics")
local pages = require("pages")
local rate = require("rate")
local routes = require("routes")
local state = require("state")
local triton = require("triton")
local workers = require("workers")

local FILTERED = {"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "range"}
local MAX_HEADERS = 100  -- of different names; dropping each one takes the longer the more there are
local GC_PAUSE = 400  -- collect when the memory in use has grown fourfold; a worker's is a few MiB

local door = {}

-- ---- the life of nginx and its workers

-- `settings`: the state folder, and the addresses of Triton and the supervisor.
function door.init(settings)
  state.init(settings.state)
  triton.init(settings.triton)
  health.init(settings.supervisor)
  workers.init()
end

function door.start_worker()
  math.randomseed(ngx.worker.pid() + ngx.now() * 1000)
  collectgarbage("setpause", GC_PAUSE)
  workers.start()
  state.follow()
  health.follow()
end

function door.stop_worker()
  workers.stop()
end

-- ---- a request

-- Drops each header that the route does not use, before a filter of nginx reads it: conditions and ranges among them.
-- Of too many, only those go that a filter could read; the request is refused. Returns how many there were.
local function drop_headers(used)
  local count = 0
  for name in pairs(ngx.req.get_headers(MAX_HEADERS + 1)) do
    count = count + 1
    if not used[name] then
      ngx.req.clear_header(name)
    end
  end
  if count > MAX_HEADERS then
    for _, name in ipairs(FILTERED) do
      ngx.req.clear_header(name)
    end
  end
  return count
end

local function path_of(uri)
  return uri:match("^[^?]*")
end

-- Refuses a caller without a key. An address that sends many such requests gets 429, and few of those are logged.
local function refuse_stranger(status, text)
  local may, logged = limits.address(ngx.var.binary_remote_addr)
  if not logged then
    ngx.var.logged = "0"
    metrics.add("unlogged", 1)
  end
  if not may then
    answers.refuse_for_now(429, "address_rate_exceeded", nil,
      "too many requests without a valid key from this address; try again later")
  end
  answers.refuse(status, text)
end

-- Counts the request until it is answered or its caller leaves. `door.finish` is called for each request.
local function enter(key)
  local entered = limits.enter(key)
  if not entered then
    answers.refuse_for_now(429, "too_many_in_flight")
  end
  ngx.var.entered = entered
  ngx.on_abort(function()
    ngx.var.left = "1"
    door.leave()
  end)
end

function door.leave()
  local entered = ngx.var.entered
  if entered ~= "" then
    ngx.var.entered = ""
    limits.leave(entered)
  end
end

-- In nginx's log phase: gives back whatever the request has taken, and counts it.
function door.finish()
  local var, ctx = ngx.var, ngx.ctx
  for _ = 1, ctx.places or 0 do
    limits.give_place_back(ctx.key.name)
  end
  door.leave()
  local key = var.key_name
  metrics.count({
    route = var.route, key = key, release = var.release, model = var.asked_model,
    context = key ~= "" and context.labels(key),
    status = tonumber(var.said_status), grpc = var.left == "" and tonumber(var.grpc_status) or nil,
    seconds = ngx.now() - ngx.req.start_time(), upstream_s = tonumber(var.behind_s),
  })
end

local function read_body()
  ngx.req.read_body()
  local body = ngx.req.get_body_data()
  if body then
    return body
  end
  local name = ngx.req.get_body_file()
  if not name then
    return ""
  end
  local file = assert(io.open(name, "rb"))
  body = file:read("*a")
  file:close()
  return body
end

-- Tells whether the body is sent as JSON, or with `or_lines` as lines of JSON.
local function is_json(or_lines)
  local kind, coding = ngx.var.http_content_type or "", ngx.var.http_content_encoding
  if coding and coding ~= "identity" then
    return false
  end
  if kind ~= "application/json" then
    kind = (kind:lower() .. ";"):match("^([%w/-]+)%s*;")
  end
  return kind == "application/json" or or_lines and kind == "application/x-ndjson"
end

local function is_grpc()
  local kind = ngx.var.http_content_type
  return kind == "application/grpc" or kind == "application/grpc+proto"
end

-- Reads the body of a caller whose key is valid now and also when the body has arrived.
local function body_of_caller()
  local began = ngx.now()
  local body = read_body()
  if ngx.now() > began and not identity.caller() then
    answers.refuse(401)
  end
  return body
end

local function use_id(id)
  if not ngx.var.http_x_request_id and id:find("^[%w._-]+$") and #id <= 64 then
    ngx.ctx.id = id
    ngx.var.id = id
  end
end

local function answer_tensors(read, answer, body)
  local request = read(body)
  use_id(request.id)
  rate.check(limits.single, ngx.ctx.key, request.count)
  answer(request)
end

-- A change whose Idempotency-Key was ignored could run twice. The supervisor's server reads no control characters.
local function check_idempotency_key()
  local key = ngx.req.get_headers(MAX_HEADERS)["idempotency-key"]
  if key and (type(key) ~= "string" or not key:find("^[ -~]+$") or #key > 255) then
    answers.refuse(400, "Idempotency-Key is one header of 1 to 255 printable ASCII characters", "wrong_form")
  end
end

local function check_caller(route)
  local key = identity.caller()
  if not key then
    if route.pages then
      pages.let_read_refusal()
    end
    refuse_stranger(route.unknown and route.stranger or 401)
  end
  ngx.ctx.key = key
  ngx.var.key_name = key.name
  if key.session then
    pages.admit(key)
  end
  enter(key)
  if key.session then
    rate.check(limits.session, key)
  end
  if route.rate ~= "tensors" then
    rate.check(limits.single, key)
  end
  if route.unknown then
    answers.refuse(404)
  end
  if not route.roles[key.role] then
    answers.refuse(403)
  end
  if route == routes.admin then
    check_idempotency_key()
  end
  if route.vouched then
    ngx.var.admin_name, ngx.var.admin_token = key.name, state.admin_token()
  end
end

-- Answers the question of a browser, which has no key. It is not limited, since many visitors may share an address; of a
-- flood few are logged.
local function is_preflight()
  if not pages.preflight() then
    return false
  end
  local _, logged = limits.address(ngx.var.binary_remote_addr)
  if not logged then
    ngx.var.logged = "0"
    metrics.add("unlogged", 1)
  end
  return true
end

local function serve(route, path, headers)
  if headers > MAX_HEADERS then
    answers.refuse(431)
  end
  local method = ngx.req.get_method()
  if method == "OPTIONS" and route.pages and is_preflight() then
    return
  end
  if not route.open then
    check_caller(route)
  end
  if not route.methods[method] then
    ngx.header["Allow"] = route.allow
    answers.refuse(405)
  end
  if route.json and not is_json() then
    answers.refuse(415)
  end
  if route.ndjson and method == "POST" and not is_json(true) then
    answers.refuse(415, "the body must be sent as application/json or application/x-ndjson, uncompressed")
  end
  if route.grpc and not is_grpc() then
    answers.refuse(415)
  end
  if route.location then
    body_of_caller()  -- before the supervisor sees anything of the request
    return route.location
  end
  if route.read then
    answer_tensors(route.read, route.answer, body_of_caller())
  elseif route.body then
    route.answer(body_of_caller())
  else
    route.answer(path)
  end
end

-- Tells nginx's log what the scripts know.
local function record()
  local ctx, var = ngx.ctx, ngx.var
  if ctx.model then
    var.asked_model = ctx.model
    var.release = ctx.release or ""
    var.triton_s = string.format("%.3f", ctx.triton_s or 0)
  end
end

local function run(find_route, send_error)
  local var, ctx = ngx.var, ngx.ctx
  local path = path_of(var.request_uri)
  local route = find_route(path)
  var.route = route.name
  ctx.id = var.id
  local trace = var.trace
  ctx.trace_header = trace ~= "" and "traceparent: " .. trace .. "\r\n"
  local headers = drop_headers(route.headers)
  local location, refusal = answers.run(serve, route, path, headers)
  record()
  if refusal then
    return send_error(refusal)
  end
  if location then
    return ngx.exec(location)
  end
end

function door.http()
  run(routes.http, answers.send_error)
end

function door.grpc()
  run(routes.grpc, grpc.send_error)
end

-- Refuses what nginx itself refuses. A request with a valid key counts as a single query, unless it did so before.
local function refuse_unread(status, text)
  if ngx.var.key_name == "" then
    local key = identity.caller()
    if not key then
      refuse_stranger(status, text)
    end
    rate.check(limits.single, key)
  end
  answers.refuse(status, text)
end

-- nginx calls some faults of a caller 5xx. They count as nobody's failure but his.
local CALLERS_FAULT = {
  [501] = {400, "this transfer encoding is not known; send a Content-Length"},
  [505] = {400, "this version of HTTP is not known; use 1.1 or 2"},
}

-- Answers what nginx itself refuses, such as a request that it cannot read.
function door.refused(send_error)
  local route = routes.http(path_of(ngx.var.request_uri or ""))
  if route.pages then
    pages.let_read_refusal()
  end
  drop_headers(routes.unknown.headers)
  local status = ngx.status
  if status == 405 then  -- TRACE and CONNECT
    ngx.header["Allow"] = route.allow
  end
  local fault = CALLERS_FAULT[status] or {status, status == 413 and route.most and "the body is over " .. route.most}
  local _, refusal = answers.run(refuse_unread, unpack(fault))
  send_error(refusal)
end

-- ---- the control socket

-- The state folder has changed.
function door.reload()
  local faults = state.apply()
  if not faults then
    return ngx.exit(204)
  end
  ngx.status = 500
  ngx.header["Content-Type"] = "text/plain"
  ngx.print(faults)
end

function door.forget()
  local hash, token = ngx.var.arg_sha256 or "", state.admin_token()
  if token == "" or ngx.var.http_x_cesta_admin ~= token then
    return ngx.exit(403)  -- every user of the machine can reach the socket
  end
  if ngx.req.get_method() ~= "POST" or not hash:find("^%x+$") or #hash ~= 64 then
    return ngx.exit(400)
  end
  return ngx.exit(state.forget(hash) and 204 or 500)
end

function door.metrics()
  ngx.header["Content-Type"] = "text/plain; version=0.0.4"
  ngx.print(metrics.text())
end

return door

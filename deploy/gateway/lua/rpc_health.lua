-- Health over gRPC, from the same results as over HTTP: no call of a caller reaches Triton's gRPC.

local grpc = require("grpc")
local health = require("health")

local rpc_health = {}

local YES = "\0\0\0\0\2\8\1"           -- a message with field 1 true, or status 1 (SERVING)
local NO = "\0\0\0\0\0"                -- a message with the defaults
local NOT_SERVING = "\0\0\0\0\2\8\2"

local function is_ready()
  return (health.of("/readyz")) == 200
end

function rpc_health.live()
  grpc.send((health.of("/healthz")) == 200 and YES or NO)
end

function rpc_health.ready()
  grpc.send(is_ready() and YES or NO)
end

function rpc_health.check()
  grpc.send(is_ready() and YES or NOT_SERVING)
end

return rpc_health

-- Counts over all workers that cannot leak: each worker keeps its own, and a worker that dies takes its counts with it.
--
-- A worker shows every second that it lives. The others add up the counts of the living ones. nginx replaces a dead
-- worker at once, and the new one removes what it left.

local ffi = require("ffi")
local process = require("ngx.process")

ffi.cdef("int kill(int process, int signal); int prctl(int option, ...); int getppid(void);")

local counts = ngx.shared.counts
local living = ngx.shared.workers

local HEARTBEAT_S = 1
local SILENCE_S = 3        -- a worker that is silent for so long is dead
local NO_SUCH_PROCESS = 3  -- ESRCH
local SIGQUIT = 3          -- the worker stops listening and finishes its requests
local PR_SET_PDEATHSIG = 1

local workers = {}
local me
local peers = {}  -- the living workers, this one included
local seen        -- how many births and deaths `peers` includes
local own = {}    -- this worker's counts by name

local function read_peers()
  seen = living:get("changes")
  local alive = {}
  for _, entry in ipairs(living:get_keys(0)) do
    local id = entry:match("^alive:(.+)$")
    if id then
      alive[#alive + 1] = id
    end
  end
  peers = alive
end

-- Tells whether a worker lives. Another process may have got its number, so it must have shown itself, too.
local function is_alive(id)
  local number = tonumber(id:match("^%d+"))
  local gone = ffi.C.kill(number, 0) ~= 0 and ffi.errno() == NO_SUCH_PROCESS
  return not gone and living:get("alive:" .. id)
end

-- Removes what dead workers left, and counts them.
local function bury()
  for _, entry in ipairs(living:get_keys(0)) do
    local id = entry:match("^born:(.+)$")
    if id and not is_alive(id) and living:add("dead:" .. id, true, 60) then
      living:delete(entry)
      living:delete("alive:" .. id)
      living:incr("deaths", 1, 0)
      living:incr("changes", 1, 0)
      for _, name in ipairs(counts:get_keys(0)) do
        if name:sub(1, #id + 1) == id .. ":" then
          counts:delete(name)
        end
      end
    end
  end
end

local function appear()
  living:set("born:" .. me, true)
  living:set("alive:" .. me, true, SILENCE_S)
  living:incr("changes", 1, 0)  -- the others count this worker from now on
end

local function beat(ending)
  if ending then
    return
  end
  if not living:get("born:" .. me) then  -- it stood still for so long that another one has buried it
    living:delete("dead:" .. me)
    appear()
    for name, count in pairs(own) do
      counts:set(me .. ":" .. name, count)
    end
  end
  living:set("alive:" .. me, true, SILENCE_S)
  bury()
  read_peers()
end

-- Has the kernel end this worker with its master. Alone it would hold the ports, and nothing could replace it.
local function end_with_master()
  ffi.C.prctl(PR_SET_PDEATHSIG, ffi.cast("unsigned long", SIGQUIT))
  if ffi.C.getppid() ~= process.get_master_pid() then  -- the master died before the line above
    ffi.C.kill(ngx.worker.pid(), SIGQUIT)
  end
end

function workers.start()
  end_with_master()
  me = ngx.worker.pid() .. "-" .. ngx.now()
  living:add("started", ngx.time())
  appear()
  beat(false)
  ngx.timer.every(HEARTBEAT_S, beat)
end

function workers.stop()
  living:delete("born:" .. me)
  living:delete("alive:" .. me)
end

-- Returns how many workers live.
function workers.living()
  read_peers()
  return #peers
end

-- Returns when nginx started, in Unix time. A reload does not change it.
function workers.started()
  return living:get("started")
end

-- Returns how many workers have died since nginx started.
function workers.deaths()
  return living:get("deaths") or 0
end

-- Adds to this worker's count and returns it.
function workers.add(name, change)
  local count = (own[name] or 0) + change
  local entry = me .. ":" .. name
  if count == 0 then
    own[name] = nil
    counts:delete(entry)
  else
    own[name] = count
    counts:set(entry, count)
  end
  return count
end

-- Returns the sum over all living workers.
function workers.total(name)
  if living:get("changes") ~= seen then
    read_peers()
  end
  local sum = own[name] or 0
  for n = 1, #peers do
    if peers[n] ~= me then
      sum = sum + (counts:get(peers[n] .. ":" .. name) or 0)
    end
  end
  return sum
end

return workers

-- Counts over all workers that cannot leak: each worker has a row of counts in memory that all share. The worker that
-- nginx starts in place of a dead one gets the same row, and empties it.
--
-- A worker writes only its own row, so no lock is needed. It shows every second that it lives. The counts of one that
-- is silent are not added up.

local ffi = require("ffi")
local process = require("ngx.process")

ffi.cdef([[
int kill(int process, int signal);
int prctl(int option, ...);
int getppid(void);
typedef struct { double last_seen_s; int32_t process; int32_t counts[262144]; } worker_row;
void *mmap(void *address, size_t bytes, int protection, int flags, int file, long offset);
]])

local names = ngx.shared.counts  -- the column of each name, "deaths" and "started"

local COLUMNS = 262144      -- at most three for each key that has asked; memory is taken only for those in use
local READ_WRITE = 3        -- PROT_READ | PROT_WRITE
local SHARED_UNNAMED = 33   -- MAP_SHARED | MAP_ANONYMOUS
local HEARTBEAT_S = 1
local SILENCE_S = 3
local PR_SET_PDEATHSIG = 1
local SIGQUIT = 3           -- the worker stops listening and finishes its requests

local workers = {}
local rows, count  -- of all workers
local own, own_slot
local columns = {}  -- kind → name → column

-- Before the workers start: they inherit the memory. A reload makes new memory for the new workers, so their counts
-- leave out the requests that the old workers still answer.
function workers.init()
  count = ngx.worker.count()
  local memory = ffi.C.mmap(nil, count * ffi.sizeof("worker_row"), READ_WRITE, SHARED_UNNAMED, -1, 0)
  if ffi.cast("intptr_t", memory) == -1 then
    error("no memory for the workers' counts: mmap fails with error " .. ffi.errno())
  end
  rows = ffi.cast("worker_row *", memory)
end

local function beat(ending)
  if not ending then
    own.last_seen_s = ngx.now()
  end
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
  names:add("started", ngx.time())
  own_slot = ngx.worker.id()
  own = rows[own_slot]
  if own.process ~= 0 then
    names:incr("deaths", 1, 0)
    ffi.fill(own.counts, ffi.sizeof(own.counts))
  end
  own.process = ngx.worker.pid()
  beat(false)
  ngx.timer.every(HEARTBEAT_S, beat)
end

function workers.stop()
  own.process, own.last_seen_s = 0, 0
end

-- Returns how many workers have shown lately that they live.
function workers.living()
  local living, since_s = 0, ngx.now() - SILENCE_S
  for slot = 0, count - 1 do
    if rows[slot].last_seen_s > since_s then
      living = living + 1
    end
  end
  return living
end

-- Returns when nginx started, in Unix time. A reload does not change it.
function workers.started()
  return names:get("started")
end

-- Returns how many workers have died since nginx started.
function workers.deaths()
  return names:get("deaths") or 0
end

-- Returns the column of a name, the same in all workers. Names that come when none is left share the first column.
local function column_of(kind, name)
  local known = columns[kind]
  if not known then
    known = {}
    columns[kind] = known
  end
  local column = known[name]
  if not column then
    local entry = "column:" .. kind .. ":" .. name
    column = names:get(entry)
    if not column then
      column = names:incr("columns", 1, 0) or COLUMNS
      if column >= COLUMNS or not names:safe_add(entry, column) then
        column = names:get(entry) or 0
      end
    end
    known[name] = column
  end
  return column
end

-- Adds to this worker's count of a kind and name, and returns it.
function workers.add(kind, name, change)
  local column = column_of(kind, name)
  local sum = own.counts[column] + change
  own.counts[column] = sum
  return sum
end

-- Returns the sum over all living workers.
function workers.total(kind, name)
  local column = column_of(kind, name)
  local sum, since_s = own.counts[column], ngx.now() - SILENCE_S
  for slot = 0, count - 1 do
    if slot ~= own_slot and rows[slot].last_seen_s > since_s then
      sum = sum + rows[slot].counts[column]
    end
  end
  return sum
end

return workers

-- POST /v1/recommend and /v1/recommend/batch: a shop's JSON becomes questions to Triton.

local answers = require("answers")
local buffer = require("string.buffer")
local pages = require("pages")
local query = require("query")
local rate = require("rate")
local triton = require("triton")

local MAX_QUERIES = 32
local AT_ONCE = 8       -- queries of one batch, so that a few batches do not fill the server
local LAST_ASKED_S = 2  -- after a batch arrives; a query sent then may take 2 s more, so no batch takes over 4 s

local recommend = {}
local text = buffer.new(8192)  -- no other request runs while one writes

-- Asks one query. Returns its answer as JSON that ends with `ending`.
local function ask(asked, ending)
  local answer = triton.ask(asked.inputs, 1, asked.place, "")
  text:reset():put('{"release":', answer.release, ',"items":')
  query.write_items(text, answer, asked.k)
  if answer.warnings then
    query.write_warnings(text, answer, asked.place)
  end
  return text:put(ending):get()
end

recommend.ask = ask

function recommend.one(body)
  local asked = query.read(query.parse(body), body, ngx.ctx.key.session and pages.bind)
  answers.send(200, ask(asked, ',"request_id":"' .. ngx.ctx.id .. '"}\n'))
end

-- POST /v1/rank: the caller's own items in the order of their scores.
function recommend.rank(body)
  local value = query.parse(body)
  local asked = query.read(value, body, ngx.ctx.key.session and pages.bind)
  if type(value.items) ~= "table" or #value.items == 0 then
    answers.refuse(400, "items is missing: the ids to be ranked", "wrong_type", "/items")
  end
  asked.k = value.k == nil and query.MAX_K or asked.k
  answers.send(200, ask(asked, ',"request_id":"' .. ngx.ctx.id .. '"}\n'))
end

-- Asks some queries at the same time and adds their answers to `found`, and to `refused` what was refused.
local function ask_part(queries, first, last, found, refused)
  local threads = {}
  ngx.ctx.asked_since = ngx.ctx.began_s
  for n = first, last do
    threads[n] = not queries[n].refusal and ngx.thread.spawn(answers.run, ask, queries[n], "}")
  end
  for n = first, last do
    refused[n] = queries[n].refusal
    if threads[n] then
      local _, answer, refusal = ngx.thread.wait(threads[n])
      found[n], refused[n] = answer, refusal
    end
  end
end

-- A query that is refused has its own problem. If none was answered for a reason that is not the callers', the whole
-- request fails: monitors and proxies are to see it.
function recommend.many(body)
  local queries = query.read_many(query.parse(body), MAX_QUERIES, body)
  rate.charge(#queries)
  local until_s = ngx.now() + LAST_ASKED_S
  ngx.ctx.began_s = ngx.now()
  local found, refused, answered = {}, {}, false
  for first = 1, #queries, AT_ONCE do
    local last = math.min(first + AT_ONCE - 1, #queries)
    if ngx.now() <= until_s then
      ask_part(queries, first, last, found, refused)
    end
    for n = first, last do
      local refusal = refused[n] or {status = 504, text = "the recommender took too long; send fewer queries at once"}
      answered = answered or found[n] ~= nil
      refused[n], found[n] = refusal, found[n] or '{"problem":' .. answers.problem(refusal) .. "}"
    end
  end
  if not answered and refused[1].status >= 500 then
    error(refused[1], 0)
  end
  answers.send(200, '{"answers":[' .. table.concat(found, ",") .. '],"request_id":"' .. ngx.ctx.id .. '"}\n')
end

return recommend

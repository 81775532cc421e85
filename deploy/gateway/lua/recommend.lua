-- POST /v1/recommend and /v1/recommend/batch: a shop's JSON becomes questions to Triton.

local answers = require("answers")
local buffer = require("string.buffer")
local pages = require("pages")
local query = require("query")
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

function recommend.one(body)
  local asked = query.read(query.parse(body), body, ngx.ctx.key.session and pages.bind)
  answers.send(200, ask(asked, ',"request_id":"' .. ngx.ctx.id .. '"}\n'))
end

-- Asks some queries at the same time and adds their answers to `found`.
local function ask_part(queries, first, last, found)
  local threads = {}
  ngx.ctx.asked_since = ngx.ctx.began_s
  for n = first, last do
    threads[n] = ngx.thread.spawn(answers.run, ask, queries[n], "}")
  end
  local refused
  for n = first, last do
    local _, answer, refusal = ngx.thread.wait(threads[n])
    found[n] = answer
    refused = refused or refusal
  end
  if refused then
    error(refused, 0)
  end
end

function recommend.many(body)
  local queries = query.read_many(query.parse(body), MAX_QUERIES, body)
  local until_s = ngx.now() + LAST_ASKED_S
  ngx.ctx.began_s = ngx.now()
  local found = {}
  for first = 1, #queries, AT_ONCE do
    if ngx.now() > until_s then
      answers.refuse(504, "the recommender took too long; send fewer queries at once")
    end
    ask_part(queries, first, math.min(first + AT_ONCE - 1, #queries), found)
  end
  answers.send(200, '{"answers":[' .. table.concat(found, ",") .. '],"request_id":"' .. ngx.ctx.id .. '"}\n')
end

return recommend

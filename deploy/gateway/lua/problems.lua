-- The errors of the gateway: problem details of RFC 9457. Its `code` tells programs one error from another.
--
-- A refusal is {status, text, code, pointer, retry_s}, of which only the status is required. `pointer` is a JSON pointer
-- (RFC 6901) into the body; in a request with tensors it names the input. docs/errors.md lists the codes.

local utf8 = require("utf8_text")

local problems = {}

local CODES = {  -- code → title
  -- 400
  unreadable_request = "The request cannot be read as HTTP",
  not_json = "The body is not JSON",
  not_utf8 = "The text is not UTF-8",
  wrong_type = "A value has the wrong type",
  unknown_field = "A field is unknown",
  wrong_form = "A text has the wrong form",
  out_of_range = "A number is outside its range",
  too_many_ids = "A list has too many ids",
  id_too_long = "An id is too long",
  unknown_category = "The release does not know a category",  -- releases made before unknown categories became warnings
  unsupported_input = "The active release does not have an input",
  unreadable_tensors = "The tensors cannot be read",
  unreadable_message = "The gRPC message cannot be read",
  -- others, in the order of their status
  no_valid_key = "A valid key is needed",
  not_allowed = "This key may not do that",
  wrong_origin = "The token serves pages of other origins",
  wrong_customer = "The token is for another customer",
  no_such_path = "There is no such path",
  not_in_this_release = "The active release cannot answer this question",
  wrong_method = "The path does not know the method",
  too_slow = "The request took too long to arrive",
  length_required = "A Content-Length is needed",
  body_too_large = "The body is too large",
  address_too_long = "The address is too long",
  wrong_content_type = "The body has another type than the path reads",
  wrong_host = "The request was sent to another host",
  rate_exceeded = "The key exceeds its rate",
  too_many_in_flight = "The key has too many requests in flight",
  address_rate_exceeded = "The address sends too many requests without a valid key",
  headers_too_large = "The headers are too large",
  gateway_failed = "The gateway failed",
  unreachable = "A server behind the gateway cannot be reached",
  overloaded = "The recommender is full",
  not_ready = "The recommender is not ready",
  timed_out = "A server behind the gateway took too long",
  refused = "The request cannot be served",
}

local BY_STATUS = {  -- the code and the sentence of a refusal that names none
  [400] = {"unreadable_request", "the request cannot be read as HTTP"},
  [401] = {"no_valid_key", "a valid key is needed: Authorization: Bearer <key>"},
  [403] = {"not_allowed", "this key may not do that"},
  [404] = {"no_such_path", "no such path"},
  [405] = {"wrong_method", "this path does not know the method"},
  [408] = {"too_slow", "the request took too long to arrive"},
  [411] = {"length_required", "a Content-Length is needed"},
  [413] = {"body_too_large", "the body is over 64 KiB"},
  [414] = {"address_too_long", "the address is too long"},
  [415] = {"wrong_content_type", "the body must be sent as Content-Type: application/json, uncompressed"},
  [421] = {"wrong_host", "the request cannot be served"},
  [429] = {"rate_exceeded", "too many requests for this key; try again later"},
  [431] = {"headers_too_large", "the headers are too large"},
  [500] = {"gateway_failed", "the gateway failed"},
  [502] = {"unreachable", "what answers this cannot be reached"},
  [503] = {"not_ready", "the recommender is full or not ready; try again later"},
  [504] = {"timed_out", "the recommender took too long"},
}
local OTHER = {"refused", "the request cannot be served"}
local RETRY_S = {[429] = 1, [503] = 1}  -- if a refusal tells no time: nobody knows when another request will end

-- Returns the sentence of a refusal. It may quote what a caller sent, which need not be UTF-8.
local function sentence_of(refusal, default)
  local text = refusal.text or default
  return utf8.is_valid(text) and text or (text:gsub("[\128-\255]", "?"))
end

-- Completes a refusal: {status, code, title, detail, pointer, retry_s}.
function problems.of(refusal)
  local default = BY_STATUS[refusal.status] or OTHER
  local code = refusal.code or default[1]
  return {
    status = refusal.status, code = code, title = CODES[code], detail = sentence_of(refusal, default[2]),
    pointer = refusal.pointer, retry_s = refusal.retry_s or RETRY_S[refusal.status],
  }
end

-- Returns the JSON pointer to a field of an object, or to the object itself if the name is long.
function problems.pointer_to(name)
  return #name <= 40 and "/" .. name:gsub("~", "~0"):gsub("/", "~1") or ""
end

return problems

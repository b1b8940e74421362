-- For wrk: posts the bodies in BODIES (files, separated by commas) in turn, with the headers in HEADERS (a line each),
-- and prints one line of JSON at the end. Times are in microseconds.
local requests, last = {}, 0

function init()
  local headers = {Host = wrk.headers["Host"]}
  for name, value in string.gmatch(os.getenv("HEADERS"), "([^:\n]+): ([^\n]*)") do
    headers[name] = value
  end
  for name in string.gmatch(os.getenv("BODIES"), "[^,]+") do
    local file = assert(io.open(name, "rb"))
    requests[#requests + 1] = wrk.format("POST", nil, headers, file:read("*a"))
    file:close()
  end
end

function request()
  last = last % #requests + 1
  return requests[last]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"seconds":%.6f,"errors":%d,"p50":%.1f,"p99":%.1f}\n',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end

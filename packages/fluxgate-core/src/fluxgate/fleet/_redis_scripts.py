"""The Lua of the Redis store: two scripts that change a circuit, and two that read many.

The keys of a circuit are in one hash slot: a hash (the head), two sorted sets (the processes with
calls and those with bad calls, by their last bucket), a sorted set (leases, by deadline) and a hash
(reports). A bucket is written as in `_window`, but for its number, which is kept modulo 4096: the
last of them notifies the others.

What has the wrong type or no sense is deleted, and the circuit is as good as absent.
"""

from __future__ import annotations

from typing import Final

from fluxgate.fleet.store import (
    BURST_GAP,
    MAX_COUNT,
    MAX_EPOCH,
    MAX_GRANTS,
    OTHER_SHAPE,
    REPORT_KEPT,
)

FIELDS: Final = ("e", "s", "u", "r", "y", "a", "q", "h", "t", "f", "b", "n", "w", "p")
"""Of the head: epoch, state, until, reopens, reason, author, reporter, label, time of the last
delta, beginning of the burst, time of the last bad call, token, window, probes."""
KINDS: Final = ("hash", "zset", "zset", "zset", "hash")
"""Of a circuit's keys: head, seen, bad, leases, reports."""

_BEGIN: Final = f"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function sound(v, most)
  local n = tonumber(v)
  if n and n == math.floor(n) and n >= 0 and n <= (most or {MAX_EPOCH}) then return n end
end
local function hex(v) return sound(tonumber(v or '', 16), {MAX_COUNT}) end
for i, wanted in ipairs({{{", ".join(f"'{kind}'" for kind in KINDS)}}}) do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= wanted and kind ~= 'none' then redis.call('DEL', KEYS[i]) end
end
local h, fields = {{}}, redis.call('HMGET', KEYS[1], {", ".join(f"'{name}'" for name in FIELDS)})
for i, name in ipairs({{{", ".join(f"'{name}'" for name in FIELDS)}}}) do h[name] = fields[i] end
local epoch = sound(h.e)
local known = epoch and h.s and #h.s == 1 and string.find('COHMDF', h.s, 1, true)
if not known then
  if h.e or h.s or h.w then redis.call('DEL', unpack(KEYS)) end
  h, epoch = {{s = 'C', e = 0}}, 0
end
for _, name in ipairs({{'r', 't', 'f', 'b', 'n'}}) do h[name] = sound(h[name]) or 0 end
for _, name in ipairs({{'y', 'a', 'q', 'h', 'w', 'p'}}) do h[name] = h[name] or '' end
h.u = sound(h.u)
if h.t > now + {OTHER_SHAPE} then
  h.t, h.f, h.b, h.w = 0, 0, 0, ''
elseif h.t > now then
  now = h.t  -- the clock was set back
end

local function keep(ttl)
  if ttl <= 0 then return end
  if h.u and h.u > now then ttl = ttl + h.u - now end
  for i = 1, #KEYS do redis.call('PEXPIRE', KEYS[i], ttl) end
end
local function add(text, more)
  local sum, place = {{}}, 0
  for x in string.gmatch(more, '%x+') do sum[#sum + 1] = hex(x) or 0 end
  for x in string.gmatch(text, '%x+') do
    place = place + 1
    sum[place] = math.min((sum[place] or 0) + (hex(x) or 0), {MAX_COUNT})
  end
  for i, n in ipairs(sum) do sum[i] = string.format('%x', n) end
  return table.concat(sum, '.')
end
local function answer(first, granted, applied, won)
  local left = -1
  if h.u then left = math.max(h.u - now, 0) end
  return {{
    known and 1 or 0, epoch, h.s, left, h.r, h.y, h.a, h.q, now, h.h, h.t, h.w,
    redis.call('ZCARD', KEYS[3]), redis.call('ZCARD', KEYS[2]), math.max(now - h.f, 0), h.p,
    redis.call('ZCOUNT', KEYS[4], now + 1, '+inf'), first, granted, applied, won
  }}
end
"""

EXCHANGE: Final = (
    _BEGIN
    + f"""
local theirs, process, label = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local width, kept, most = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local delta, calls, witness = ARGV[7], tonumber(ARGV[8]), ARGV[9] == '1'
local wants, slots, lease = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local probes, report, ttl = ARGV[13], ARGV[14], tonumber(ARGV[15])

if not known then
  if theirs ~= 0 or (calls == 0 and wants == 0) then return answer(0, 0, 0, 0) end
  redis.call('HSET', KEYS[1], 'e', 0, 's', 'C')
  known = true
end
if theirs ~= epoch then
  keep(ttl)
  return answer(0, 0, 0, 0)
end

local applied, first, granted = 0, 0, 0
if h.s == 'C' or h.s == 'M' then
  local tick, last = math.floor(now / 1000 / width), math.floor(h.t / 1000 / width)
  if h.h ~= label and (h.w == '' or now - h.t >= {OTHER_SHAPE}) then
    redis.call('DEL', KEYS[2], KEYS[3])
    h.h, h.w = label, ''
  end
  if h.h == label then
    if tick - last >= kept then h.w = '' end
    if calls > 0 then
      local newest = string.match(h.w, '([^|]*)$')
      local number, counts = string.match(newest, '^(%x+)%.(.*)$')
      if number and tick == last then
        h.w = string.sub(h.w, 1, #h.w - #newest) .. number .. '.' .. add(counts, delta)
      else
        if h.w ~= '' then h.w = h.w .. '|' end
        h.w = h.w .. string.format('%x.', tick % 4096) .. delta
      end
      redis.call('ZADD', KEYS[2], tick, process)
      if witness then
        redis.call('ZADD', KEYS[3], tick, process)
        if now - h.b > {BURST_GAP} then h.f = now end
        h.b = now
      end
      h.t, h.q, applied = now, process, 1
    end
    -- What has left the window: what is too old, and what the newer ones make up for.
    local held = 0
    if most > 0 then
      for n in string.gmatch(h.w, '%x+%.(%x+)[%x%.]*') do held = held + (hex(n) or 0) end
    end
    local oldest = tick
    while h.w ~= '' do
      local number, n = string.match(h.w, '^(%x+)%.(%x+)')
      local age = (tick - (hex(number) or 0)) % 4096
      local count = hex(n) or 0
      oldest = tick - age
      if number and age < kept and (most == 0 or age <= 2 or held - count < most) then break end
      held = held - count
      h.w = string.match(h.w, '^[^|]*|(.*)$') or ''
    end
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. oldest)
    redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', '(' .. oldest)
    if #h.w > 4096 then h.w = '' end
    redis.call('HSET', KEYS[1], 'h', h.h, 'w', h.w, 't', h.t, 'q', h.q, 'f', h.f, 'b', h.b)
  end
elseif h.s == 'H' then
  redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
  for token, counts in string.gmatch(probes, '(%d+):([%x%.]+)') do
    if redis.call('ZREM', KEYS[4], token) == 1 then h.p = add(counts, h.p) end
  end
  granted = math.max(math.min(wants, slots - redis.call('ZCARD', KEYS[4]), {MAX_GRANTS}), 0)
  if granted > 0 then
    first = math.max(h.n + 1, now * 1000)
    for i = 0, granted - 1 do
      redis.call('ZADD', KEYS[4], now + lease, string.format('%.0f', first + i))
    end
    h.n = first + granted - 1
  end
  redis.call('HSET', KEYS[1], 'p', h.p, 'n', string.format('%.0f', h.n))
end
if report == '-' then
  redis.call('HDEL', KEYS[5], process)
elseif report ~= '' then
  redis.call('HSET', KEYS[5], process, string.format('%.0f ', now) .. string.sub(report, 2))
  if now % 16 == 0 then  -- now and then: whoever has gone without a farewell
    local all = redis.call('HGETALL', KEYS[5])
    for i = 1, #all, 2 do
      local at = tonumber(string.match(all[i + 1], '^(%d+) ') or '')
"""
    + f"      if not at or at + {REPORT_KEPT} <= now then redis.call('HDEL', KEYS[5], all[i]) end\n"
    + """    end
  end
end
keep(ttl)
return answer(string.format('%.0f', first), granted, applied, 0)
"""
)
"""KEYS: head, seen, bad, leases, reports."""

READ: Final = f"""
local function look(KEYS)
{_BEGIN}
  local row = answer(0, 0, 0, 0)
  for i, v in ipairs(row) do  -- cjson would round numbers to 14 digits
    if type(v) == 'number' then row[i] = string.format('%.0f', v) end
  end
  return row
end
local all, rows = KEYS, {{}}
for i = 1, #all, {len(KINDS)} do
  rows[#rows + 1] = look({{unpack(all, i, i + {len(KINDS) - 1})}})
end
return cjson.encode(rows)
"""
"""The answers of many circuits, as JSON. KEYS: as those of `EXCHANGE`, of one after the other."""

REPORTS: Final = """
local time, rows = redis.call('TIME'), {}
for i, key in ipairs(KEYS) do
  local row = {string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))}
  if redis.call('TYPE', key).ok == 'hash' then
    for _, each in ipairs(redis.call('HGETALL', key)) do row[#row + 1] = each end
  end
  rows[i] = row
end
return cjson.encode(rows)
"""
"""The time and the reports of many circuits, as JSON. KEYS: the reports of each."""

MOVE: Final = (
    _BEGIN
    + """
local process, expected, theirs = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local state, left, reopens = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local reason, reassert, ttl = ARGV[7], ARGV[8] == '1', tonumber(ARGV[9])
if (expected >= 0 and expected ~= epoch) or (reassert and epoch >= theirs) then
  return answer(0, 0, 0, 0)
end
if reassert then
  epoch = theirs
  if state == 'H' then epoch = epoch + 1 end
else
  epoch = math.max(epoch + 1, theirs + 1, now)
end
known = true
h = {s = state, r = reopens, y = reason, a = process, q = h.q, n = h.n,
     h = '', w = '', p = '', t = 0, f = 0, b = 0}
if left >= 0 then h.u = now + left end
local number = string.format('%.0f', epoch)
-- First what fails when memory is short: then nothing has changed.
redis.call('HSET', KEYS[1], 'e', number, 's', state, 'r', reopens, 'y', reason, 'a', process,
  'u', h.u and string.format('%.0f', h.u) or '', 'q', h.q, 'n', string.format('%.0f', h.n))
redis.call('HDEL', KEYS[1], 'h', 't', 'f', 'b', 'w', 'p')
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5])
keep(ttl)
redis.call('PUBLISH', ARGV[10], '1 ' .. ARGV[11] .. ' ' .. number .. ' ' .. process)
return answer(0, 0, 0, 1)
"""
)
"""KEYS: as those of `EXCHANGE`."""

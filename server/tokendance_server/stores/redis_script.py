"""The script that counts in Redis: the operations of one organization, in order, each whole or not at all.

Every key starts with the organization's hash tag, so that all lie on one node of a cluster. A window's number is part
of its key; that keys expire only tidies up.
"""

SCRIPT = """
local prefix = KEYS[1]
local told = cmsgpack.unpack(ARGV[1])
local now, node, run, live, lease_s = told[1], told[2], told[3], told[4], told[5]
local rows, ops = told[6], told[7]
local MOST, SLIDES, BUCKETS, BUCKET_S = 9007199254740991, 1, 13, 5
if now == 0 then
  local t = redis.call('TIME')
  now = tonumber(t[1]) + tonumber(t[2]) / 1000000
end

-- The data may be gone, or another server's: then nothing hard is granted until all that run have told what they hold.
local epoch = redis.call('HMGET', prefix .. ':e', 'run', 'open', 'born')
if epoch[1] ~= run then
  epoch = {run, '0', tostring(now)}
  redis.call('HSET', prefix .. ':e', 'run', run, 'open', '0', 'born', epoch[3])
  redis.call('DEL', prefix .. ':n', prefix .. ':k')
  redis.call('PUBLISH', 'tokendance:assert', prefix)
end
local function opened()
  if epoch[2] == '1' then return true end
  local all = now >= tonumber(epoch[3]) + lease_s
  if not all then
    all = true
    for _, one in ipairs(live) do
      if redis.call('SISMEMBER', prefix .. ':n', one) == 0 then all = false end
    end
  end
  if all then
    epoch[2] = '1'
    redis.call('HSET', prefix .. ':e', 'open', '1')
  end
  return all
end

local function month(time)
  local z = math.floor(time / 86400) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local m = mp < 10 and mp + 3 or mp - 9
  local y = yoe + era * 400
  if m <= 2 then y = y + 1 end
  return y * 12 + m - 1
end
local running = {[0] = 0, math.floor(now / BUCKET_S), math.floor(now / 3600), math.floor(now / 86400), month(now), 0}
local lasts = {180, 3 * 3600, 3 * 86400, 93 * 86400}

local cells, dirty = {}, {}
local function cell(row, window)
  local key = prefix .. ':w:' .. row[2] .. ':' .. string.format('%.0f', window)
  local of = cells[key]
  if not of then of = {}; cells[key] = of end
  local found = of[row[1]]
  if not found then
    local kept = redis.call('HMGET', key, row[1] .. ':s', row[1] .. ':h')
    found = {tonumber(kept[1]) or 0, tonumber(kept[2]) or 0}
    of[row[1]] = found
  end
  return found, key
end
local function add(row, window, place, amount)
  if amount == 0 then return end
  local found, key = cell(row, window)
  found[place] = math.max(math.min(found[place] + amount, MOST), 0)
  if not dirty[key] then dirty[key] = {row[2], {}} end
  dirty[key][2][row[1]] = found
end
local function standing(row)
  if row[2] ~= SLIDES then
    local found = cell(row, running[row[2]])
    return found[1], found[2]
  end
  local spent, held = 0, 0
  for bucket = running[SLIDES] - BUCKETS + 1, running[SLIDES] do
    local found = cell(row, bucket)
    spent = spent + found[1]; held = held + found[2]
  end
  return math.min(spent, MOST), math.min(held, MOST)
end
local function wait(row, asked)
  local spent, held = standing(row)
  local over = spent + held + asked - row[3]
  if row[2] ~= SLIDES or asked > row[3] or over <= 0 then return -1 end
  for bucket = running[SLIDES] - BUCKETS + 1, running[SLIDES] do
    local found = cell(row, bucket)
    over = over - found[1] - found[2]
    if over <= 0 then return (bucket + BUCKETS) * BUCKET_S - now end
  end
  return -1
end

local function hold(id, holds, lasting, sign)
  for _, one in ipairs(holds) do add({one[1], one[2]}, one[3], 2, sign * one[4]) end
  if sign > 0 then
    redis.call('ZADD', prefix .. ':z', string.format('%.3f', now + lasting), id)
    redis.call('HSET', prefix .. ':l', id, cmsgpack.pack(holds))
  else
    redis.call('ZREM', prefix .. ':z', id)
    redis.call('HDEL', prefix .. ':l', id)
  end
end
local function kept(id)
  local found = redis.call('HGET', prefix .. ':l', id)
  return found and cmsgpack.unpack(found)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', prefix .. ':z', '-inf', string.format('%.3f', now))) do
  hold(id, kept(id) or {}, 0, -1)
end

local function divided(a, b) return (a - math.fmod(a, b)) / b end
local function need(op, metric, output)
  if metric == 1 or metric == 6 then return 1 end
  if metric == 2 then return op[4] end
  if metric == 3 then return output end
  if metric == 4 then return op[4] + output end
  if op[7] < 0 then return 0 end
  return op[7] + divided(output * op[8] + 999999, 1000000)
end
local function fits(op, metric, left)
  if metric == 3 then return left end
  if metric == 4 then return left - op[4] end
  if metric == 5 and op[7] >= 0 and op[8] > 0 then
    if left < op[7] then return -1 end
    return divided((left - op[7]) * 1000000, op[8])
  end
end

local acts = {}
-- Hold what a claim asks: id, lease, input, output, least output, input cost, price, rows.
acts[1] = function(op)
  if redis.call('ZSCORE', prefix .. ':d', op[2]) then return {'over'} end
  local hard, unknown = false, {}
  for _, at in ipairs(op[9]) do
    local row = rows[at]
    if row[3] >= 0 then hard = true end
    if row[4] ~= 6 and redis.call('HEXISTS', prefix .. ':k', row[1]) == 0 then unknown[#unknown + 1] = at end
  end
  if hard and not opened() then return {'closed'} end
  if #unknown > 0 then return {'unknown', unknown} end
  local output, refused, stand = op[5], false, {}
  for place, at in ipairs(op[9]) do
    local row = rows[at]
    local spent, held = standing(row)
    stand[place] = {spent, held, wait(row, need(op, row[4], op[6]))}
    local left = row[3] - spent - held
    if row[3] >= 0 and need(op, row[4], output) > left then
      local fit = fits(op, row[4], left)
      if not fit or fit < op[6] then refused = true else output = fit end
    end
  end
  if refused then return {'refused', stand} end
  local holds = {}
  for place, at in ipairs(op[9]) do
    local row = rows[at]
    holds[place] = {row[1], row[2], running[row[2]], need(op, row[4], output)}
  end
  hold(op[2], holds, op[3], 1)
  return {'granted', stand, output}
end
-- Hold more: id, and of each limit its row, its window and how much.
acts[2] = function(op)
  local holds = kept(op[2])
  if not holds then return {'lost'} end
  for _, one in ipairs(op[3]) do
    local row = rows[one[1]]
    local spent, held
    if row[2] == SLIDES then spent, held = standing(row) else
      local found = cell(row, one[2])
      spent, held = found[1], found[2]
    end
    if row[3] >= 0 and spent + held + one[3] > row[3] then return {'refused'} end
  end
  for _, one in ipairs(op[3]) do
    local row = rows[one[1]]
    local window = row[2] == SLIDES and running[SLIDES] or one[2]
    add(row, window, 2, one[3])
    holds[#holds + 1] = {row[1], row[2], window, one[3]}
  end
  redis.call('HSET', prefix .. ':l', op[2], cmsgpack.pack(holds))
  return {'granted'}
end
-- Free what a call held and charge what it used, once: id, and of each limit its row, its window and how much.
acts[3] = function(op)
  if redis.call('ZSCORE', prefix .. ':d', op[2]) then return {'over'} end
  hold(op[2], kept(op[2]) or {}, 0, -1)
  for _, one in ipairs(op[3]) do
    local row = rows[one[1]]
    if redis.call('HEXISTS', prefix .. ':k', row[1]) == 1 then add(row, one[2], 1, one[3]) end
  end
  redis.call('ZADD', prefix .. ':d', string.format('%.3f', now), op[2])
  redis.call('ZREMRANGEBYSCORE', prefix .. ':d', '-inf', string.format('%.3f', now - 900))
  return {'done'}
end
-- Let a hold last, or hold it again where it is gone: id, lease, and of each limit its row, window and amount.
acts[4] = function(op)
  if redis.call('ZSCORE', prefix .. ':d', op[2]) then return {'over'} end
  if kept(op[2]) then
    redis.call('ZADD', prefix .. ':z', string.format('%.3f', now + op[3]), op[2])
  else
    local holds = {}
    for place, one in ipairs(op[4]) do
      local row = rows[one[1]]
      holds[place] = {row[1], row[2], one[2], one[3]}
    end
    hold(op[2], holds, op[3], 1)
  end
  return {'done'}
end
-- Tell how limits stand.
acts[5] = function(op)
  local stand, unknown = {}, {}
  for place, at in ipairs(op[2]) do
    local row = rows[at]
    if row[4] ~= 6 and redis.call('HEXISTS', prefix .. ':k', row[1]) == 0 then unknown[#unknown + 1] = at end
    local spent, held = standing(row)
    stand[place] = {spent, held, wait(row, 1)}
  end
  if #unknown > 0 then return {'unknown', unknown} end
  return {'granted', stand}
end
-- Take what was spent before, of limits that nobody told of yet.
acts[6] = function(op)
  for _, one in ipairs(op[2]) do
    local row = rows[one[1]]
    if redis.call('HSETNX', prefix .. ':k', row[1], string.format('%.0f', now)) == 1 then
      -- What is there may be older than what usage tells.
      if row[2] == SLIDES then
        for bucket = running[SLIDES] - BUCKETS + 1, running[SLIDES] do add(row, bucket, 1, -cell(row, bucket)[1]) end
      end
      add(row, running[row[2]], 1, one[2] - cell(row, running[row[2]])[1])
    end
  end
  return {'done'}
end
-- All that this node holds was told.
acts[7] = function()
  redis.call('SADD', prefix .. ':n', node)
  return {opened() and 'done' or 'closed'}
end

local answers = {}
for place, op in ipairs(ops) do answers[place] = acts[op[1]](op) end
for key, of in pairs(dirty) do
  local words = {}
  for counter, found in pairs(of[2]) do
    words[#words + 1] = counter .. ':s'; words[#words + 1] = string.format('%.0f', found[1])
    words[#words + 1] = counter .. ':h'; words[#words + 1] = string.format('%.0f', found[2])
  end
  redis.call('HSET', key, unpack(words))
  if lasts[of[1]] then redis.call('EXPIRE', key, lasts[of[1]]) end
end
return cmsgpack.pack({now, answers})
"""

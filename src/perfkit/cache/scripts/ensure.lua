-- The cells, after giving a version to those that are missing or whose writers are all past their deadline.
-- KEYS   cells of one hash slot        ARGV   life of a clean cell in milliseconds, one clean cell per key
-- Atomic because a mark that arrives between the look and the write must survive.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local out = {}
for i, key in ipairs(KEYS) do
  local cell = redis.call('GET', key)
  local usable = cell and string.sub(cell, 1, 1) == 'c'
  if cell and not usable then
    for at = 2, #cell - 24, 25 do
      local deadline = tonumber(string.sub(cell, at + 12, at + 24))
      if deadline and deadline > now then usable = true end
    end
  end
  if not usable then
    cell = ARGV[1 + i]
    redis.call('SET', key, cell, 'PX', ARGV[1])
  end
  out[i] = cell
end
return out

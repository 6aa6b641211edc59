-- Take one writer out of each cell; a cell that no other writer holds gets a new version.
-- KEYS   cells of one hash slot        ARGV   writer (12 bytes), life of a clean cell in milliseconds, one clean cell per key
-- Atomic because a mark that arrives between the look and the write must survive.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i, key in ipairs(KEYS) do
  local cell, kept = redis.call('GET', key), {'d'}
  if cell and string.sub(cell, 1, 1) == 'd' then
    for at = 2, #cell - 24, 25 do
      local writer, deadline = string.sub(cell, at, at + 11), tonumber(string.sub(cell, at + 12, at + 24))
      if writer ~= ARGV[1] and deadline and deadline > now then
        kept[#kept + 1] = string.sub(cell, at, at + 24)
      end
    end
  end
  if #kept > 1 then
    redis.call('SET', key, table.concat(kept))
  else
    redis.call('SET', key, ARGV[2 + i], 'PX', ARGV[2])
  end
end
return #KEYS

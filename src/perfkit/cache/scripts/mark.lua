-- Make each cell dirty for one writer.
-- KEYS   cells of one hash slot        ARGV   writer (12 bytes), hold in milliseconds
-- Atomic because two writers may mark one cell at once, and neither may lose the other's mark.
-- No expiry on a dirty cell: an eviction policy may only take what nobody is waiting on.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local mine = ARGV[1] .. string.format('%013d', now + ARGV[2])
for _, key in ipairs(KEYS) do
  local cell, kept = redis.call('GET', key), {'d'}
  if cell and string.sub(cell, 1, 1) == 'd' then
    for at = 2, #cell - 24, 25 do
      local writer, deadline = string.sub(cell, at, at + 11), tonumber(string.sub(cell, at + 12, at + 24))
      if writer ~= ARGV[1] and deadline and deadline > now then
        kept[#kept + 1] = string.sub(cell, at, at + 24)
      end
    end
  end
  kept[#kept + 1] = mine
  redis.call('SET', key, table.concat(kept))
end
return #KEYS

-- Take a key for a while, if nobody else has it.
-- KEYS   one key        ARGV   holder (12 bytes), hold in milliseconds
-- Atomic because of two who find it free one must not get it; a repetition by the same holder gets it again.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1

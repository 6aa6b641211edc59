-- Give a key back, if the holder still has it.
-- KEYS   one key        ARGV   holder (12 bytes)
-- Atomic because the time may be up, and the key another's by now.
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('UNLINK', KEYS[1]) end
return 0

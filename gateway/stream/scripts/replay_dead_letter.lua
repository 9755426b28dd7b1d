-- KEYS: dead letters, counts by reason, the stream. ARGV: an id, its reason, the entry's fields.
if redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then return false end
redis.call('HINCRBY', KEYS[2], ARGV[2], -1)
return redis.call('XADD', KEYS[3], '*', unpack(ARGV, 3))

-- Sets a field of a hash to ARGV[3] if its value is ARGV[2] ("": if there is none). Returns 1 if it did, else 0.
local current = redis.call('HGET', KEYS[1], ARGV[1])
if (current or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1

-- ARGV: the experiment, its record as the caller has read it ("": none), the record after, the evidence. Returns 1, or 0
-- if the server holds another record by now.
local current = redis.call('HGET', KEYS[1], ARGV[1])
if (current or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('XADD', KEYS[2], '*', 'before', ARGV[2], 'after', ARGV[3], 'evidence', ARGV[4])
return 1

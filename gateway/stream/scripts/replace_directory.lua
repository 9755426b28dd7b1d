-- Puts a staged publication of everything in force. ARGV: epoch and version of the head that the publisher has read (""
-- if there was none), epoch, version and mark of the new one, number of records. Returns 1, or 0 if the head has moved.
local head = redis.call('HMGET', KEYS[1], 'epoch', 'version')
if (head[1] or '') ~= ARGV[1] or (head[2] or '') ~= ARGV[2] then return 0 end
if redis.call('HLEN', KEYS[4]) ~= tonumber(ARGV[6]) then return 0 end
redis.call('DEL', KEYS[2], KEYS[3])
if redis.call('EXISTS', KEYS[4]) == 1 then
  redis.call('PERSIST', KEYS[4])
  redis.call('RENAME', KEYS[4], KEYS[2])
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[3], 'version', ARGV[4], 'floor', ARGV[4], 'full', ARGV[5])
return 1

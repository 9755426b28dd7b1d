-- Applies changes that follow the version that the publisher has read. ARGV: epoch, version before, version after, most
-- changes to keep; then for each record its name, its JSON and its change's id. Returns 1, or 0 if the head has moved.
local head = redis.call('HMGET', KEYS[1], 'epoch', 'version')
if head[1] ~= ARGV[1] or head[2] ~= ARGV[2] then return 0 end
for i = 5, #ARGV, 3 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  redis.call('XADD', KEYS[3], ARGV[i + 2], 'name', ARGV[i])
end
redis.call('HSET', KEYS[1], 'version', ARGV[3])
local over = redis.call('XLEN', KEYS[3]) - tonumber(ARGV[4])
if over > 0 then
  local removed = redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', over)
  redis.call('HSET', KEYS[1], 'floor', string.match(removed[#removed][1], '^%d+'))
  redis.call('XTRIM', KEYS[3], 'MAXLEN', ARGV[4])
end
return 1

-- KEYS: dead letters, counts by reason. ARGV: ids, each with its reason.
local gone = 0
for i = 1, #ARGV, 2 do
    if redis.call('XDEL', KEYS[1], ARGV[i]) == 1 then
        redis.call('HINCRBY', KEYS[2], ARGV[i + 1], -1)
        gone = gone + 1
    end
end
return gone

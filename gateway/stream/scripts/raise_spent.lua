-- KEYS: the limit. ARGV: the amount, and the Unix ms at which the hash expires.
local s = tonumber(redis.call('HGET', KEYS[1], 's') or '0') or 0
local f = tonumber(redis.call('HGET', KEYS[1], 'f') or '0') or 0
if tonumber(ARGV[1]) > s + f then
    redis.call('HSET', KEYS[1], 'f', string.format('%.0f', tonumber(ARGV[1]) - s))
    redis.call('PEXPIREAT', KEYS[1], ARGV[2])
end
return 1

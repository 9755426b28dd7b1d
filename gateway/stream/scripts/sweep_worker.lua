-- KEYS: workers, the set of its records, then these. ARGV: id, DEAD_S and shift in ms. A share is unused unless the
-- worker lost the server before it died. Calls in flight died with it. What it held of a window may have been spent.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[3])
local seen = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not seen or tonumber(seen) >= now - tonumber(ARGV[2]) then return 0 end
for i = 3, #KEYS do
    local field = 'w:' .. ARGV[1]
    local record = redis.call('HGET', KEYS[i], field)
    if record then
        local spent, total, share = string.match(record, '(%S+) (%S+) (%S+)')
        local function lower(sum, by)
            local n = tonumber(redis.call('HGET', KEYS[i], sum)) - tonumber(by)
            redis.call('HSET', KEYS[i], sum, string.format('%.0f', n))
        end
        lower('h', share)
        if string.sub(KEYS[i], -12) == ':concurrency' then
            lower('o', tonumber(total) - tonumber(spent))
            redis.call('HDEL', KEYS[i], field)
        else
            redis.call('HSET', KEYS[i], field, spent .. ' ' .. total .. ' 0')
        end
    end
end
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[1], ARGV[1])
return 1

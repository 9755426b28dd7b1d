-- KEYS: workers, the set of its records, the dead workers, then these records. ARGV: id, DEAD_S and shift in ms. A share is
-- unused unless the worker lost the server before it died: where the server has started since it was last seen, the share
-- may have been spent. Calls in flight died with it. What it held of a window may have been spent.
-- Records of end users are many, and no set has them. They stay as they are until another worker reports such a limit:
-- exchange_leases.lua finds the dead there, by the end of their id: 1 if their shares may have been spent, else 0.
local SHORT_ID = 12 -- as in exchange_leases.lua
local LONGEST_WINDOW_MS = 32 * 86400000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[3])
local seen = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not seen or tonumber(seen) >= now - tonumber(ARGV[2]) then return 0 end
local up_s = tonumber(string.match(redis.call('INFO', 'server'), 'uptime_in_seconds:(%d+)') or '0')
local was_away = now - tonumber(seen) > (up_s + 1) * 1000
local function whole(n) return string.format('%.0f', n) end
local field = 'w:' .. ARGV[1]
for i = 4, #KEYS do
    local record = redis.call('HGET', KEYS[i], field)
    local spent, total, share = string.match(record or '', '(%S+) (%S+) (%S+)')
    if spent then
        local function add(sum, by)
            local n = tonumber(redis.call('HGET', KEYS[i], sum) or '0') + by
            redis.call('HSET', KEYS[i], sum, whole(n))
        end
        add('h', -tonumber(share))
        if string.sub(KEYS[i], -12) == ':concurrency' then
            add('o', tonumber(spent) - tonumber(total))
            redis.call('HDEL', KEYS[i], field)
        else
            local used = was_away and tonumber(share) or 0
            add('o', used)
            redis.call('HSET', KEYS[i], field, spent .. ' ' .. whole(tonumber(total) + used) .. ' 0')
        end
    end
end
redis.call('HSET', KEYS[3], string.sub(ARGV[1], -SHORT_ID), was_away and '1' or '0')
redis.call('PEXPIRE', KEYS[3], LONGEST_WINDOW_MS)
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[1], ARGV[1])
return 1

-- The last word on what a worker has used of runs, by what it has left behind: the rest of what it held is free.
-- KEYS: the worker's sequence number, then records of runs. ARGV: its id, how long a record stays (ms), then for each record:
-- used, resumes (as in exchange_leases.lua), the ceiling, and when (ms) the worker last heard of it: a record that has
-- expired since is not made again. May be repeated; a report that the worker sent before it died and that arrives later
-- is ignored.
local SEQUENCE_MS, LAST = 3600000, '9007199254740991'
local SHORT_ID = 12 -- as in exchange_leases.lua
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function whole(n) return string.format('%.0f', n) end
redis.call('SET', KEYS[1], LAST, 'PX', SEQUENCE_MS)
local field = 'w:' .. string.sub(ARGV[1], -SHORT_ID)
local function settle(key, used, resumes, amount, noted)
    local record = redis.call('HGET', key, field)
    if not record and (used == 0 or noted < now - tonumber(ARGV[2])) then return end
    local spent, held, share, base, token = string.match(record or '', '^(%S*) ?(%S*) ?(%S*) ?(%S*) ?(%S*)')
    if share == '' then held, share = '0', held end
    spent, held, share = tonumber(spent) or 0, tonumber(held) or 0, tonumber(share) or 0
    if resumes > 0 then
        base = tonumber(token) == resumes and tonumber(base) or spent
        used = used + base
    end
    local sums = redis.call('HMGET', key, 's', 'o', 'h', 'f')
    for n = 1, 4 do sums[n] = tonumber(sums[n] or '0') or 0 end
    if not record then sums[4] = math.max(0, sums[4] - used) end
    redis.call('HSET', key, 's', whole(sums[1] + used - spent))
    for name, sum in pairs({o = sums[2] - held, h = sums[3] - share, f = sums[4]}) do
        if sum == 0 then redis.call('HDEL', key, name) else redis.call('HSET', key, name, whole(sum)) end
    end
    local last = resumes > 0 and table.concat({whole(used), '0', '0', whole(base), whole(resumes)}, ' ') or whole(used)
    redis.call('HSET', key, field, last)
    redis.call('HSETNX', key, 'b', whole(now))
    redis.call('HSETNX', key, 'a', whole(amount))
    redis.call('PEXPIRE', key, ARGV[2])
end
for i = 2, #KEYS do
    local at = 3 + (i - 2) * 4
    settle(KEYS[i], tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]))
end
return 1

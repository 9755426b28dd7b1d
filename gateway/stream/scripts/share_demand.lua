-- KEYS: a hash of what workers want of one limit. ARGV: id, what this worker wants ("": nothing), and for how long (ms) it
-- counts. Returns the time (ms), and of each worker the id and what it wants.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local all = redis.call('HGETALL', KEYS[1])
local found = {string.format('%.0f', now)}
for i = 1, #all, 2 do
    local at, wanted = string.match(all[i + 1], '^(%d+) (.*)$')
    if not at or now - tonumber(at) > tonumber(ARGV[3]) then
        redis.call('HDEL', KEYS[1], all[i])
    elseif all[i] ~= ARGV[1] then
        found[#found + 1], found[#found + 2] = all[i], wanted
    end
end
if ARGV[2] == '' then
    redis.call('HDEL', KEYS[1], ARGV[1])
else
    redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[2])
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
    found[#found + 1], found[#found + 2] = ARGV[1], ARGV[2]
end
return found

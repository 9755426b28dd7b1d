-- KEYS: the stream. ARGV: the number of fields of an entry, their names, each entry's values. An error is returned
-- unchanged and ends the script: by its first word redis-py recognizes that a primary has become a replica.
local n = tonumber(ARGV[1])
local command = {'XADD', KEYS[1], '*'}
for i = 1, n do command[2 + 2 * i] = ARGV[1 + i] end
for at = 1 + n, #ARGV - 1, n do
    for i = 1, n do command[3 + 2 * i] = ARGV[at + i] end
    local reply = redis.pcall(unpack(command))
    if type(reply) == 'table' then return reply end
end
return redis.call('XLEN', KEYS[1])

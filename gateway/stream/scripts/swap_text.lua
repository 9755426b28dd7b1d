-- Sets a text to ARGV[2] for ARGV[3] seconds if it is ARGV[1] ("": if there is none). Returns 1 if it did, else 0.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1

-- KEYS: workers (by the time last seen, ms), this worker's sequence number, the set of its records, the limits whose
-- shares are called back (by time, ms), the dead workers (see sweep_worker.lua), the runs that a person has stopped (by
-- time, ms), then the limits.
-- ARGV: id, sequence number, DEAD_S and shift in ms, the server's time at the last exchange (ms; 0: there was none), then
-- for each limit: spent, total, share (-1: none is kept), want, need, amount, starts, ends (0: no window), keep_ms,
-- leaving (1 or 0), carried (a part of amount that counts as spent), resumes (0: no; else a number of this lease: spent
-- and total go on from what this worker had spent before, which the reply says), label (of a run, for people; or "").
-- Records of runs (":limits}:r:") are kept as those of end users. b: when the first call came (ms); x: an amount that a
-- person has added to the ceiling; n: the label; a: the ceiling.
local SEQUENCE_MS = 3600000
local EARLY_MS = 5000 -- a window is leased from so long before it begins
local TIGHT_MS = 10000
local CALLED_BACK_MS, CALLED_BACK = 60000, 1000
local STOPPED = 10000
local SHORT_ID = 12 -- records of end users are many: the random end of an id, one number where it suffices, and no zeros

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[4])
local id, sequence = ARGV[1], tonumber(ARGV[2])
local sequence_before = tonumber(redis.call('GET', KEYS[2]) or '0')
if sequence <= sequence_before then return {now} end
redis.call('SET', KEYS[2], ARGV[2], 'PX', SEQUENCE_MS)
local new = redis.call('ZADD', KEYS[1], now, id)
if new == 1 then redis.call('HDEL', KEYS[5], string.sub(id, -SHORT_ID)) end
local some_are_dead = redis.call('EXISTS', KEYS[5]) == 1
local workers = redis.call('ZCOUNT', KEYS[1], now - tonumber(ARGV[3]), '+inf')
local since = tonumber(ARGV[5])
local called_back = {}
if since > 0 then
    called_back = redis.call('ZRANGEBYSCORE', KEYS[4], since, '+inf', 'LIMIT', 0, CALLED_BACK)
end
local stopped = redis.call('ZRANGEBYSCORE', KEYS[6], since - EARLY_MS, '+inf', 'LIMIT', 0, STOPPED)
local prefix = #KEYS[1] - #'workers'
local reply = {now, workers, new, sequence_before, called_back, stopped}
local function whole(n) return string.format('%.0f', n) end
-- Values of workers in records of end users: "spent held share", "spent share" or "spent".
local function of_worker(value)
    local spent, held, share = string.match(value, '^(%S+) ?(%S*) ?(%S*)')
    if share == '' then held, share = '0', held end
    return tonumber(spent) or 0, tonumber(held) or 0, tonumber(share) or 0
end
local function to_worker(spent, held, share)
    if held ~= 0 then return table.concat({whole(spent), whole(held), whole(share)}, ' ') end
    return share == 0 and whole(spent) or whole(spent) .. ' ' .. whole(share)
end
-- Takes the shares of dead workers from the record of an end user's limit. Returns their sum, and the part of it that may
-- have been spent.
local function take_shares_of_the_dead(key)
    local record, taken, used = redis.call('HGETALL', key), 0, 0
    for n = 1, #record, 2 do
        local spent, held, share = of_worker(record[n + 1])
        local may_be_spent = share > 0 and redis.call('HGET', KEYS[5], string.sub(record[n], 3))
        if may_be_spent then
            local spent_too = may_be_spent == '1' and share or 0
            redis.call('HSET', key, record[n], to_worker(spent, held + spent_too, 0))
            taken, used = taken + share, used + spent_too
        end
    end
    return taken, used
end
for i = 7, #KEYS do
    local key, at = KEYS[i], 6 + (i - 7) * 13
    local spent, total, share = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    local want, need, amount = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
    local starts, ends, leaving = tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7]), ARGV[at + 9] == '1'
    local of_run = string.find(key, ':limits}:r:', 1, true)
    local of_user = of_run or string.find(key, ':limits}:u:', 1, true)
    local field = 'w:' .. (of_user and string.sub(id, -SHORT_ID) or id)
    local all = redis.call('HMGET', key, 's', 'o', 'h', 'f', 't', field)
    for n = 1, 5 do all[n] = tonumber(all[n] or '0') or 0 end
    local s, o, h, f, tight = all[1], all[2], all[3], all[4], all[5]
    if of_user and h > 0 and some_are_dead then
        local taken, used = take_shares_of_the_dead(key)
        h, o = h - taken, o + used
    end
    local began, added = 0, 0
    if of_run then
        redis.call('HSETNX', key, 'b', whole(now))
        if ARGV[at + 12] ~= '' then redis.call('HSETNX', key, 'n', ARGV[at + 12]) end
        local found = redis.call('HMGET', key, 'b', 'x')
        began, added = tonumber(found[1]) or now, tonumber(found[2] or '0') or 0
        redis.call('HSET', key, 'a', whole(amount))
        amount = amount + added
    end
    local carried = tonumber(ARGV[at + 10])
    local used_before = s + f + carried
    local spent_before, total_before, share_before = 0, 0, 0
    if all[6] and of_user then
        spent_before, total_before, share_before = of_worker(all[6])
        total_before = total_before + spent_before
    elseif all[6] then
        local a, b, c = string.match(all[6], '(%S+) (%S+) (%S+)')
        spent_before, total_before, share_before = tonumber(a) or 0, tonumber(b) or 0, tonumber(c) or 0
    end
    local known, resumes = 0, tonumber(ARGV[at + 11])
    if resumes > 0 then -- (only of end users) the record says from what it went on, if the reply to such a report was lost
        local base, token = string.match(all[6] or '', '%S+ %S+ %S+ (%S+) (%S+)')
        known = tonumber(token) == resumes and tonumber(base) or spent_before
        spent, total = spent + known, total + known
    end
    if not all[6] then f = math.max(0, f - spent) end
    s = s + spent - spent_before
    o = o + (total - spent) - (total_before - spent_before)
    h = h - share_before
    local used = s + f + carried
    local room = amount - used - o - h
    local open = ends == 0 or (now >= starts - EARLY_MS and now < ends)
    local grant, offer, kept = 0, 0, 0
    if open and not leaving then
        local part = math.floor(math.max(0, amount - used - o) / (2 * workers))
        grant = math.max(0, math.min(want, part, room), math.min(need, room))
        if need > grant then
            tight = now + TIGHT_MS
            if of_user and h > 0 then
                redis.call('ZADD', KEYS[4], now, string.sub(key, prefix + 1))
                redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now - CALLED_BACK_MS)
                redis.call('PEXPIRE', KEYS[4], CALLED_BACK_MS)
            end
        end
        if share >= 0 and now >= tight then
            offer = math.max(0, math.min(math.floor((amount - used - o - grant) / (2 * workers)), room - grant))
        end
        kept = math.max(offer, share - grant, 0)
    end
    total, o, h = total + grant, o + grant, h + kept
    if leaving then
        redis.call('HDEL', key, field)
    elseif resumes > 0 and spent > known then
        local held = whole(total - spent)
        redis.call('HSET', key, field, table.concat({whole(spent), held, whole(kept), whole(known), resumes}, ' '))
    elseif of_user then
        redis.call('HSET', key, field, to_worker(spent, total - spent, kept))
    else
        redis.call('HSET', key, field, whole(spent) .. ' ' .. whole(total) .. ' ' .. whole(kept))
    end
    if of_user then
        redis.call('HSET', key, 's', whole(s))
        for name, sum in pairs({o = o, h = h, f = f, t = tight > now and tight or 0}) do
            if sum == 0 then redis.call('HDEL', key, name) else redis.call('HSET', key, name, whole(sum)) end
        end
    else
        redis.call('HSET', key, 's', whole(s), 'o', whole(o), 'h', whole(h), 'f', whole(f), 't', whole(tight))
    end
    if ends > 0 then
        redis.call('PEXPIREAT', key, whole(ends + tonumber(ARGV[at + 8])))
    else
        redis.call('PEXPIRE', key, ARGV[at + 8])
    end
    if not of_user then
        redis.call(not leaving and (share >= 0 or ends == 0) and 'SADD' or 'SREM', KEYS[3], key)
    end
    local crossed = 0
    for _, percent in ipairs({80, 100}) do
        if used_before * 100 < amount * percent and used * 100 >= amount * percent then crossed = percent end
    end
    for _, n in ipairs({grant, amount - used - o, offer, used, crossed, known, began, added}) do reply[#reply + 1] = whole(n) end
end
return reply

"""Scripts that Redis runs in one step. `KEYS[1]` is the stream."""

_STATE = """
    local function fields(reply)
        local found = {}
        for i = 1, #reply, 2 do found[reply[i]] = reply[i + 1] end
        return found
    end
    local function number(id) return tonumber(string.match(id, '%d+')) end
    local last_id, groups = nil, {}
    local function look()
        last_id = fields(redis.call('XINFO', 'STREAM', KEYS[1]))['last-generated-id']
        for _, reply in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
            groups[fields(reply)['name']] = fields(reply)
        end
    end
"""
_LOOK = f"""{_STATE}
    if redis.call('EXISTS', KEYS[1]) == 1 then look() end
"""
# Create the groups ARGV that are missing, and the stream with them; return the last id and the number of entries.
OPEN = f"""{_LOOK}
    for _, name in ipairs(ARGV) do
        if not groups[name] then redis.call('XGROUP', 'CREATE', KEYS[1], name, '0', 'MKSTREAM') end
    end
    return {{last_id or '0-0', redis.call('XLEN', KEYS[1])}}
"""
# Append all entries, or none when ARGV[1] is no longer the last id. ARGV[2] has all of them in MessagePack, because
# redis-py takes longer to write many arguments than the rest of the relay takes.
APPEND = f"""{_LOOK}
    if last_id ~= ARGV[1] then return 0 end
    for _, entry in ipairs(cmsgpack.unpack(ARGV[2])) do redis.call('XADD', KEYS[1], unpack(entry)) end
    return 1
"""
# Return the number up to which every group of ARGV has acknowledged every entry; nothing while a group is missing.
ACKNOWLEDGED = f"""{_LOOK}
    local lowest = math.huge
    for _, name in ipairs(ARGV) do
        local group = groups[name]
        if not group then return false end
        if group['pending'] > 0 then
            lowest = math.min(lowest, number(redis.call('XPENDING', KEYS[1], name)[2]) - 1)
        else
            lowest = math.min(lowest, number(group['last-delivered-id']))
        end
    end
    return lowest
"""
# Remove members of the group ARGV[1] that were idle for ARGV[2] ms, and return its pending entries and its lag. In one
# step, because a member is deleted together with its pending entries. Redis may lose track of the lag; the distance of
# the ids is as good, because they are dense.
TIDY_UP = f"""{_STATE}
    look()
    local group = groups[ARGV[1]]
    if not group then return false end
    for _, reply in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
        local member = fields(reply)
        if member['pending'] == 0 and member['idle'] > tonumber(ARGV[2]) then
            redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], member['name'])
        end
    end
    return {{group['pending'], group['lag'] or number(last_id) - number(group['last-delivered-id'])}}
"""

-- Wireshark dissector for the cluster control protocol of ctsync (UDP port 8116, PROTOCOL.md).
--
-- Put it into a folder of Lua plugins (Help > About > Folders), or: tshark -X lua_script:ctsync.lua ...
-- Bodies are sealed with AES-256-GCM. To read them, let the daemon write its keys (`log: {datagram_keys: FILE}` in
-- ctsync.yaml), and name that file in the preferences of the protocol, or: tshark -o ctsync.key_file:FILE ...
-- Each line of it is `CTSYNC_KEY <member> <incarnation, 16 hex digits> <epoch> <key, 64 hex digits>`.
--
-- The tag is not verified: a key is found by member, incarnation and epoch, so none is tried that is not meant.

local bxor = (bit32 or bit).bxor
local unpack = table.unpack or unpack
local ccp = Proto("ctsync", "ctsync Cluster Control Protocol")

local MAGIC, HEADER_BYTES, TAG_BYTES = 0xc75c, 29, 16

local opcodes = {
    [1] = "Hello", [2] = "Delta", [3] = "Acknowledgement", [0x10] = "Probe", [0x11] = "Probe reply",
}
local kinds = { [0] = "Upsert", [1] = "Delete", [2] = "Told", [3] = "Reserved" }
-- By the code in a record: name, and the kernel's names of the states.
local tcp_states = {
    [0] = "NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE",
    "SYN_SENT2",
}
local sctp_states = {
    [0] = "NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT", "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT", "HEARTBEAT_ACKED",
}
local dccp_states = {
    [0] = "NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN", "CLOSEREQ", "CLOSING", "TIMEWAIT", "IGNORE", "INVALID",
}
local protocols = {
    [0] = { "TCP", tcp_states }, { "UDP" }, { "ICMP" }, { "ICMPv6" }, { "SCTP", sctp_states }, { "DCCP", dccp_states },
    { "GRE" }, { "UDPLite" },
}
-- By tag: attributes of hellos and probes, and those of records.
local hello_tags = {
    "Heard", "Build", "Path", "Joined", "Standing", [10] = "Mode",
}
local tags = {
    "Term", "Found", "Source NAT", "Destination NAT", "Mark", "Zone", "Labels", "Helper", "Master",
    "Sequence adjustment (original)", "Sequence adjustment (reply)", "Synproxy", "SCTP tags", "DCCP", "Expected flow",
}
local modes = { [0] = "unicast", "multicast", "broadcast" }
local stages = { [0] = "used", "tried", "undone" }
local member_states = { [0] = "down", "init", "standby", "ready", "active", "active-attention" }

local f = {
    magic = ProtoField.uint16("ctsync.magic", "Magic", base.HEX),
    version = ProtoField.uint8("ctsync.version", "Version"),
    opcode = ProtoField.uint8("ctsync.opcode", "Opcode", base.HEX, opcodes),
    cluster = ProtoField.uint16("ctsync.cluster", "Cluster"),
    source = ProtoField.uint8("ctsync.source", "Source member"),
    destination = ProtoField.uint8("ctsync.destination", "Destination member (255: all)"),
    interface = ProtoField.uint8("ctsync.interface", "Interface"),
    flags = ProtoField.uint8("ctsync.flags", "Flags", base.HEX),
    urgent = ProtoField.bool("ctsync.flags.urgent", "Urgent", 8, nil, 0x01),
    reserved = ProtoField.uint16("ctsync.reserved", "Reserved", base.HEX),
    incarnation = ProtoField.uint64("ctsync.incarnation", "Incarnation", base.HEX),
    epoch = ProtoField.uint8("ctsync.epoch", "Epoch of the key"),
    number = ProtoField.uint64("ctsync.number", "Packet number"),
    sealed = ProtoField.bytes("ctsync.sealed", "Sealed body"),
    tag = ProtoField.bytes("ctsync.tag", "Tag"),
    table = ProtoField.uint64("ctsync.hello.table", "Kernel table", base.HEX),
    last = ProtoField.uint64("ctsync.hello.last", "Last sequence sent"),
    heard = ProtoField.uint8("ctsync.hello.heard", "Heard member"),
    heard_incarnation = ProtoField.uint64("ctsync.hello.heard.incarnation", "Incarnation", base.HEX),
    heard_number = ProtoField.uint64("ctsync.hello.heard.number", "Packet number of its hello"),
    base = ProtoField.uint64("ctsync.base", "Base"),
    from = ProtoField.uint64("ctsync.from", "Told before this sequence is known"),
    hello_attribute = ProtoField.uint8("ctsync.hello.attribute", "Attribute", base.DEC, hello_tags),
    build = ProtoField.string("ctsync.hello.build", "Build"),
    capabilities = ProtoField.uint64("ctsync.hello.capabilities", "Capabilities", base.HEX),
    path = ProtoField.uint8("ctsync.hello.path", "Path to member"),
    heard_over = ProtoField.uint8("ctsync.hello.path.heard_over", "Heard over networks", base.HEX),
    hears = ProtoField.uint16("ctsync.hello.path.hears", "It hears members", base.HEX),
    echo = ProtoField.uint32("ctsync.hello.path.echo", "Newest hello of it, low half of the packet number"),
    echo_delay = ProtoField.uint32("ctsync.hello.path.delay", "Microseconds since then"),
    sent = ProtoField.uint32("ctsync.hello.path.sent", "Datagrams sent to it"),
    loss = ProtoField.uint16("ctsync.hello.path.loss", "Loss in thousandths (65535: not known)"),
    joined = ProtoField.bool("ctsync.hello.joined", "Has everything", 8, nil, 0x01),
    asked = ProtoField.uint8("ctsync.hello.asked", "Asks member to tell it"),
    member_state = ProtoField.uint8("ctsync.hello.state", "State", base.DEC, member_states),
    load_sharing = ProtoField.bool("ctsync.hello.state.load_sharing", "Load sharing", 8, nil, 0x01),
    starved = ProtoField.bool("ctsync.hello.state.starved", "Starved", 8, nil, 0x02),
    priority = ProtoField.uint8("ctsync.hello.state.priority", "Priority"),
    fitness = ProtoField.uint8("ctsync.hello.state.fitness", "Fitness"),
    problems = ProtoField.uint16("ctsync.hello.state.problems", "Problems", base.HEX),
    seconds = ProtoField.uint32("ctsync.hello.state.seconds", "Seconds in this state"),
    network = ProtoField.uint8("ctsync.hello.mode.network", "Network whose mode was changed"),
    mode = ProtoField.uint8("ctsync.hello.mode", "Mode", base.DEC, modes),
    stage = ProtoField.uint8("ctsync.hello.mode.stage", "Stage", base.DEC, stages),
    by = ProtoField.uint8("ctsync.hello.mode.by", "Asked member"),
    generation = ProtoField.uint32("ctsync.hello.mode.generation", "Generation"),
    carried = ProtoField.uint16("ctsync.hello.mode.carried", "Heard by members", base.HEX),
    sequence = ProtoField.uint64("ctsync.delta.sequence", "Sequence"),
    record = ProtoField.none("ctsync.record", "Record"),
    record_kind = ProtoField.uint8("ctsync.record.kind", "Kind", base.DEC, kinds, 0xc0),
    member = ProtoField.uint8("ctsync.record.member", "Member"),
    src4 = ProtoField.ipv4("ctsync.flow.src", "Source"),
    dst4 = ProtoField.ipv4("ctsync.flow.dst", "Destination"),
    src6 = ProtoField.ipv6("ctsync.flow.src6", "Source"),
    dst6 = ProtoField.ipv6("ctsync.flow.dst6", "Destination"),
    sport = ProtoField.uint16("ctsync.flow.sport", "Source port, key or identifier"),
    dport = ProtoField.uint16("ctsync.flow.dport", "Destination port, key, or type and code"),
    state = ProtoField.uint8("ctsync.flow.state", "State", base.DEC, nil, 0x0f),
    seen_reply = ProtoField.bool("ctsync.flow.seen_reply", "Seen reply", 8, nil, 0x10),
    assured = ProtoField.bool("ctsync.flow.assured", "Assured", 8, nil, 0x20),
    timeout = ProtoField.uint64("ctsync.flow.timeout", "Timeout in seconds"),
    wscale = ProtoField.uint8("ctsync.flow.wscale", "Window scales", base.HEX),
    tcp_flags = ProtoField.uint8("ctsync.flow.tcp_flags", "TCP flags", base.HEX),
    attribute = ProtoField.uint8("ctsync.attribute", "Attribute", base.DEC, tags),
    probe_name = ProtoField.string("ctsync.probe.name", "Interface"),
    probe_hears = ProtoField.uint16("ctsync.probe.hears", "Hears", base.HEX),
    term = ProtoField.uint16("ctsync.flow.term", "Term"),
    expected_port = ProtoField.uint16("ctsync.flow.expected.dport", "Destination port that is expected"),
    mark = ProtoField.uint32("ctsync.flow.mark", "Mark", base.HEX),
    helper = ProtoField.string("ctsync.flow.helper", "Helper"),
    frontier = ProtoField.uint64("ctsync.ack.frontier", "Frontier"),
    delay = ProtoField.uint64("ctsync.ack.delay", "Delay in microseconds"),
    refused = ProtoField.uint64("ctsync.ack.refused", "Refused by the kernel"),
    range = ProtoField.string("ctsync.ack.range", "Acknowledged beyond"),
}
for _, field in pairs(f) do table.insert(ccp.fields, field) end

local undecoded = ProtoExpert.new("ctsync.undecoded", "The body ends too early", expert.group.MALFORMED, expert.severity.ERROR)
ccp.experts = { undecoded }

ccp.prefs.key_file = Pref.string("Key file", "", "File that the daemon writes keys to (log: {datagram_keys: FILE})")
ccp.prefs.port = Pref.uint("UDP port", 8116, "Port of the cluster")

-- AES-256 (FIPS 197), the direction that counter mode needs, on bytes.

local sbox = {}
do
    -- The inverse in GF(2^8) by powers of 3 and of its inverse 0xf6, then the affine map.
    local function double(x) return x < 128 and x * 2 or bxor(x * 2 - 256, 0x1b) end
    local function rotate(x, n) return (x * 2 ^ n) % 256 + math.floor(x * 2 ^ n / 256) end
    local p, q = 1, 1
    repeat
        p = bxor(p, double(p))
        q = bxor(q, q * 2 % 256)
        q = bxor(q, q * 4 % 256)
        q = bxor(q, q * 16 % 256)
        if q >= 128 then q = bxor(q, 0x09) end
        sbox[p] = bxor(bxor(bxor(q, rotate(q, 1)), bxor(rotate(q, 2), rotate(q, 3))), bxor(rotate(q, 4), 0x63))
    until p == 1
    sbox[0] = 0x63
end
local times2 = {}
for x = 0, 255 do times2[x] = x < 128 and x * 2 or bxor(x * 2 - 256, 0x1b) end

-- 60 words of 4 bytes, from a key of 32.
local function expand_key(key)
    local words, rcon = {}, 1
    for i = 0, 7 do words[i] = { key[i * 4 + 1], key[i * 4 + 2], key[i * 4 + 3], key[i * 4 + 4] } end
    for i = 8, 59 do
        local t = words[i - 1]
        if i % 8 == 0 then
            t = { bxor(sbox[t[2]], rcon), sbox[t[3]], sbox[t[4]], sbox[t[1]] }
            rcon = times2[rcon]
        elseif i % 8 == 4 then
            t = { sbox[t[1]], sbox[t[2]], sbox[t[3]], sbox[t[4]] }
        end
        local before = words[i - 8]
        words[i] = { bxor(before[1], t[1]), bxor(before[2], t[2]), bxor(before[3], t[3]), bxor(before[4], t[4]) }
    end
    return words
end

-- Byte 4c+r+1 of the state is row r of column c.
local function add_round_key(state, words, round)
    for c = 0, 3 do
        local word = words[round * 4 + c]
        for r = 1, 4 do state[c * 4 + r] = bxor(state[c * 4 + r], word[r]) end
    end
end

local function encrypt_block(words, block)
    local s = { unpack(block) }
    add_round_key(s, words, 0)
    for round = 1, 14 do
        local t = {}
        for c = 0, 3 do
            for r = 0, 3 do t[c * 4 + r + 1] = sbox[s[((c + r) % 4) * 4 + r + 1]] end
        end
        if round < 14 then
            for c = 0, 3 do
                local a, b, d, e = t[c * 4 + 1], t[c * 4 + 2], t[c * 4 + 3], t[c * 4 + 4]
                local all = bxor(bxor(a, b), bxor(d, e))
                t[c * 4 + 1] = bxor(bxor(a, all), times2[bxor(a, b)])
                t[c * 4 + 2] = bxor(bxor(b, all), times2[bxor(b, d)])
                t[c * 4 + 3] = bxor(bxor(d, all), times2[bxor(d, e)])
                t[c * 4 + 4] = bxor(bxor(e, all), times2[bxor(e, a)])
            end
        end
        s = t
        add_round_key(s, words, round)
    end
    return s
end

-- Opens what GCM sealed, without looking at its tag: counter mode from 2 on (NIST SP 800-38D 7.2).
-- `number` is the packet number as 8 bytes; the nonce is 4 zero bytes before it (PROTOCOL.md 2.3).
local function decrypt(words, number, sealed)
    local clear = ByteArray.new()
    clear:set_size(sealed:len())
    local counter = 2
    for at = 0, sealed:len() - 1, 16 do
        local block = { 0, 0, 0, 0 }
        for i = 0, 7 do block[5 + i] = number:get_index(i) end
        block[13], block[14], block[15], block[16] = 0, 0, math.floor(counter / 256), counter % 256
        local pad = encrypt_block(words, block)
        for i = 0, math.min(16, sealed:len() - at) - 1 do
            clear:set_index(at + i, bxor(sealed:get_index(at + i), pad[i + 1]))
        end
        counter = counter + 1
    end
    return clear
end

-- Keys by "member incarnation epoch", expanded when they are used first.
local keys = {}

local function read_keys()
    keys = {}
    local file = ccp.prefs.key_file ~= "" and io.open(ccp.prefs.key_file)
    if not file then return end
    for line in file:lines() do
        local member, incarnation, epoch, key = line:match("^CTSYNC_KEY (%d+) (%x+) (%d+) (%x+)$")
        if key and #key == 64 then
            local bytes = {}
            for pair in key:gmatch("..") do table.insert(bytes, tonumber(pair, 16)) end
            keys[member .. " " .. incarnation .. " " .. epoch] = { bytes = bytes }
        end
    end
    file:close()
end

local function key_of(member, incarnation, epoch)
    local key = keys[member .. " " .. incarnation .. " " .. epoch]
    if key and not key.words then key.words = expand_key(key.bytes) end
    return key and key.words
end

-- Bodies. Each of these takes a range that it must not read past; reading past is an error that `dissect_body` catches.

-- LEB128: the number, how many bytes it takes.
local function varint(buffer, at)
    local value, factor, bytes = 0, 1, 0
    repeat
        local byte = buffer(at + bytes, 1):uint()
        value = value + byte % 128 * factor
        factor = factor * 128
        bytes = bytes + 1
    until byte < 128
    return value, bytes
end

local function add_varint(tree, field, buffer, at)
    local value, bytes = varint(buffer, at)
    tree:add(field, buffer(at, bytes), UInt64(value % 2 ^ 32, math.floor(value / 2 ^ 32)))
    return at + bytes, value
end

local function dissect_attribute(item, tag, value, v6)
    item:append_text(": " .. tostring(value:bytes()))
    if tag == 1 then
        item:add(f.term, value)
    elseif tag == 3 or tag == 4 then
        item:add(v6 and f.src6 or f.src4, value(0, v6 and 16 or 4))
        item:add(f.sport, value(v6 and 16 or 4, 2))
    elseif tag == 5 then
        item:add(f.mark, value)
    elseif tag == 8 then
        item:add(f.helper, value)
    elseif tag == 15 then
        local length = v6 and 16 or 4
        local ports = 4 + 3 * length
        item:set_text(string.format("Expected flow: protocol %d, %d s left", value(3, 1):uint(), value(ports + 6, 2):uint()))
        item:add(v6 and f.src6 or f.src4, value(4, length))
        item:add(v6 and f.dst6 or f.dst4, value(4 + length, length))
        item:add(f.sport, value(ports, 2))
        item:add(f.expected_port, value(ports + 2, 2))
    end
end

local function dissect_record(tree, record)
    local kind = record(0, 1):uint()
    local item = tree:add(f.record, record)
    item:add(f.record_kind, record(0, 1))
    local op, v6, code, at = math.floor(kind / 64), kind % 64 >= 32, kind % 32, 1
    if op == 3 then
        return
    elseif op == 2 then
        item:set_text("Told by member " .. record(1, 1):uint())
        item:add(f.member, record(1, 1))
        at = add_varint(item, f.base, record, 2)
        add_varint(item, f.from, record, at)
        return
    end
    local protocol = protocols[code]
    local name = protocol and protocol[1]
    if not protocol then
        name = "Protocol " .. record(at, 1):uint()
        at = at + 1
    end
    local length = v6 and 16 or 4
    local text = {}
    for _, fields in ipairs { { f.src4, f.src6, f.sport }, { f.dst4, f.dst6, f.dport } } do
        local address = record(at, length)
        item:add(v6 and fields[2] or fields[1], address)
        table.insert(text, tostring(v6 and address:ipv6() or address:ipv4()))
        at = at + length
    end
    if protocol then
        for i, field in ipairs { f.sport, f.dport } do
            item:add(field, record(at, 2))
            text[i] = (v6 and "[" .. text[i] .. "]" or text[i]) .. ":" .. record(at, 2):uint()
            at = at + 2
        end
    end
    local says = kinds[op] .. " " .. name .. " " .. text[1] .. " > " .. text[2]
    if op == 0 then
        local states = protocol and protocol[2]
        local state = record(at, 1):uint() % 16
        local word = states and states[state]
        item:add(f.state, record(at, 1)):append_text(word and " (" .. word .. ")" or "")
        item:add(f.seen_reply, record(at, 1))
        item:add(f.assured, record(at, 1))
        says = says .. (word and " " .. word or "")
        at = add_varint(item, f.timeout, record, at + 1)
        if name == "TCP" then
            item:add(f.wscale, record(at, 1))
            item:add(f.tcp_flags, record(at + 1, 1))
            at = at + 2
        end
    end
    item:set_text(says)
    while at < record:len() do
        local tag, bytes = record(at, 1):uint(), record(at + 1, 1):uint()
        local attribute = item:add(f.attribute, record(at, 1))
        if bytes > 0 then dissect_attribute(attribute, tag, record(at + 2, bytes), v6) end
        at = at + 2 + bytes
    end
end

local function dissect_delta(tree, body, pinfo)
    tree:add(f.sequence, body(0, 8))
    local at, count = 8, 0
    while at < body:len() do
        local bytes = body(at, 1):uint()
        dissect_record(tree, body(at + 1, bytes))
        at = at + 1 + bytes
        count = count + 1
    end
    pinfo.cols.info:append(string.format(" %s, %d records", tostring(body(0, 8):uint64()), count))
end

local function dissect_ack(tree, body, pinfo)
    local at, frontier = 0, nil
    at = add_varint(tree, f.base, body, at)
    at, frontier = add_varint(tree, f.frontier, body, at)
    at = add_varint(tree, f.delay, body, at)
    at = add_varint(tree, f.refused, body, at)
    pinfo.cols.info:append(string.format(" %.0f", frontier))
    local next = frontier + 1
    while at < body:len() do
        local gap, gap_bytes = varint(body, at)
        local length, length_bytes = varint(body, at + gap_bytes)
        local range = string.format("%.0f-%.0f", next + gap, next + gap + length)
        tree:add(f.range, body(at, gap_bytes + length_bytes), range)
        next = next + gap + length + 1
        at = at + gap_bytes + length_bytes
    end
end

-- Adds fields that stand one after the other: each is a field, or several of one byte, and how long it is.
local function add_fields(tree, value, fields)
    local at = 0
    for _, part in ipairs(fields) do
        for i = 1, #part - 1 do tree:add(part[i], value(at, part[#part])) end
        at = at + part[#part]
    end
    return at
end

-- Attributes of a hello, by tag: the first field, under which the others stand.
local hello_attributes = {
    [1] = { f.heard, { { f.heard_incarnation, 8 }, { f.base, 8 }, { f.heard_number, 8 } } },
    [3] = { f.path, {
        { f.heard_over, 1 }, { f.hears, 2 }, { f.echo, 4 }, { f.echo_delay, 4 }, { f.sent, 4 }, { f.loss, 2 },
    } },
    [5] = { f.member_state, {
        { f.load_sharing, f.starved, 1 }, { f.priority, 1 }, { f.fitness, 1 }, { f.problems, 2 }, { f.seconds, 4 },
    } },
    [10] = { f.network, { { f.mode, 1 }, { f.stage, 1 }, { f.by, 1 }, { f.generation, 4 }, { f.carried, 2 } } },
}

local function dissect_hello_attribute(tree, tag, value)
    local known = hello_attributes[tag]
    if known then
        add_fields(tree:add(known[1], value(0, 1)), value(1), known[2])
    elseif tag == 2 then
        local words = string.format("%d.%d.%d", value(0, 1):uint(), value(1, 1):uint(), value(2, 1):uint())
        tree:add(f.build, value(0, 3), words)
        tree:add(f.capabilities, value(3, 8))
    elseif tag == 4 then
        tree:add(f.joined, value(0, 1))
        for at = 1, value:len() - 25, 25 do
            local asked = tree:add(f.asked, value(at, 1))
            add_fields(asked, value(at + 1, 24), { { f.heard_incarnation, 8 }, { f.base, 8 }, { f.from, 8 } })
        end
    end
end

local function dissect_hello_attributes(tree, body, at)
    while at < body:len() do
        local tag, bytes = body(at, 1):uint(), body(at + 1, 1):uint()
        local item = tree:add(f.hello_attribute, body(at, 1))
        if bytes > 0 then dissect_hello_attribute(item, tag, body(at + 2, bytes)) end
        at = at + 2 + bytes
    end
end

local function dissect_hello(tree, body)
    tree:add(f.table, body(0, 8))
    tree:add(f.last, body(8, 8))
    dissect_hello_attributes(tree, body, 16)
end

local function dissect_probe(tree, body)
    local length = body(0, 1):uint()
    tree:add(f.probe_name, body(1, length))
    tree:add(f.probe_hears, body(1 + length, 2))
    dissect_hello_attributes(tree, body, 3 + length)
end

local bodies = {
    dissect_hello, dissect_delta, dissect_ack, [0x10] = dissect_probe, [0x11] = dissect_probe,
}

function ccp.init() read_keys() end

function ccp.dissector(buffer, pinfo, root)
    if buffer:len() < HEADER_BYTES + TAG_BYTES or buffer(0, 2):uint() ~= MAGIC then return 0 end
    local opcode, source = buffer(3, 1):uint(), buffer(6, 1):uint()
    pinfo.cols.protocol = "CTSYNC"
    pinfo.cols.info = string.format("%s from member %d", opcodes[opcode] or string.format("Opcode 0x%02x", opcode), source)
    local tree = root:add(ccp, buffer())
    local at = 0
    for _, part in ipairs {
        { f.magic, 2 }, { f.version, 1 }, { f.opcode, 1 }, { f.cluster, 2 }, { f.source, 1 }, { f.destination, 1 },
        { f.interface, 1 }, { f.flags, 1 }, { f.reserved, 2 }, { f.incarnation, 8 }, { f.epoch, 1 }, { f.number, 8 },
    } do
        local item = tree:add(part[1], buffer(at, part[2]))
        if part[1] == f.flags then item:add(f.urgent, buffer(at, 1)) end
        at = at + part[2]
    end
    local sealed = buffer(HEADER_BYTES, buffer:len() - HEADER_BYTES - TAG_BYTES)
    tree:add(f.tag, buffer(buffer:len() - TAG_BYTES, TAG_BYTES))
    local incarnation = buffer(12, 8):bytes():tohex(true)
    local words = key_of(source, incarnation, buffer(20, 1):uint())
    if not words or sealed:len() == 0 then
        tree:add(f.sealed, sealed)
        return buffer:len()
    end
    local clear = decrypt(words, buffer(21, 8):bytes(), sealed:bytes())
    local body = clear:tvb("Opened body")
    local dissect = bodies[opcode]
    if dissect then
        local ok, why = pcall(dissect, tree, body(), pinfo)
        if not ok then tree:add_proto_expert_info(undecoded, "The body does not decode: " .. tostring(why)) end
    else
        tree:add(f.sealed, body()):set_text("Body")
    end
    return buffer:len()
end

local registered
local function register()
    local ports = DissectorTable.get("udp.port")
    if registered then ports:remove(registered, ccp) end
    registered = ccp.prefs.port
    ports:add(registered, ccp)
    read_keys()
end
ccp.prefs_changed = register
register()

"""What is asked of Redis, as scripts: each is one step that nothing else comes between.

A copy begins with `H1`, its generation, the number of the session's last event that it knows (`seq`), and how often it
was continued. Writers never make a copy: they continue one that stands exactly where their change began, and delete
any other. Only a reader makes one, with a lease that it took before it read PostgreSQL and that no writer has deleted
since.

All of them are run by their digest alone. Redis forgets scripts when it starts, so a Redis that has started anew, from
whatever old file, answers NOSCRIPT: whoever is told so begins a new generation in the very transaction that brings the
scripts back, and no copy from before is ever shown.
"""

from __future__ import annotations

import hashlib

MARK = b"H1"
GENERATION_BYTES = 16
SEQ_DIGITS = 16
TIMES_DIGITS = 4
HEAD_BYTES = len(MARK) + GENERATION_BYTES + SEQ_DIGITS + TIMES_DIGITS

CONTINUED_MAX = 50
"""Then the answer is read anew: each continuation costs readers a digest."""

ENTRY_BYTES_MAX = 256 * 1024
"""Larger answers are read from PostgreSQL: what a copy saves there, moving it through Redis would cost."""

GENERATION_SECONDS = 1.0
"""How long a generation lives without being renewed: so long copies outlive a Redis that answers nobody."""

LEASE_SECONDS = 2.0
"""What a reader gets to read PostgreSQL and make a copy."""


class Script:
    """A script and the digest by which it is called."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


READ = Script(f"""
local generation = redis.pcall('GET', KEYS[1])
if type(generation) ~= 'string' or #generation ~= {GENERATION_BYTES} then
  local made = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', {int(GENERATION_SECONDS * 1000)})
  generation = made.ok and ARGV[1] or ''
end
local time = redis.call('TIME')
local answer = {{generation, time[1] * 1000 + math.floor(time[2] / 1000)}}
for n, copy in ipairs(redis.call('MGET', unpack(KEYS, 2))) do
  if copy and string.sub(copy, {len(MARK) + 1}, {len(MARK) + GENERATION_BYTES}) == generation then
    answer[n + 2] = copy
  else
    local leased = redis.pcall('SET', KEYS[n + 1] .. ':l', ARGV[2], 'NX', 'PX', {int(LEASE_SECONDS * 1000)})
    answer[n + 2] = generation ~= '' and type(leased) == 'table' and leased.ok and 1 or 0
  end
end
return answer
""")
"""KEYS: the generation's, copies'. ARGV: a fresh generation, a token.

Answers the generation, Redis' time in ms, and for each key its copy; or 1 where there is none of this generation and
the token has become its lease, or 0.
"""

FILL = Script(f"""
local answer = {{}}
local generation = redis.pcall('GET', KEYS[1])
for n = 2, #KEYS do
  local at = (n - 2) * 5
  local lease = redis.pcall('GET', KEYS[n] .. ':l')
  local head = redis.pcall('GETRANGE', KEYS[n], 0, {HEAD_BYTES - 1})
  if generation ~= ARGV[at + 1] then
    answer[n - 1] = 'lapsed'
  elseif lease ~= ARGV[at + 2] then
    answer[n - 1] = 'lost'
  elseif type(head) == 'string'
      and string.sub(head, {len(MARK) + 1}, {len(MARK) + GENERATION_BYTES}) == generation
      and string.sub(head, {len(MARK) + GENERATION_BYTES + 1}, {HEAD_BYTES - TIMES_DIGITS}) >= ARGV[at + 3] then
    redis.call('DEL', KEYS[n] .. ':l')
    answer[n - 1] = 'stale'
  else
    redis.call('DEL', KEYS[n] .. ':l')
    local made = redis.pcall('SET', KEYS[n], ARGV[at + 5], 'PXAT', ARGV[at + 4])
    answer[n - 1] = made.ok and 'filled' or 'full'
  end
end
return answer
""")
"""KEYS: the generation's, copies'. ARGV for each copy: the generation and the token that `READ` gave, its seq, when it
ends by Redis' time in ms, itself.
"""

SETTLE = Script(f"""
local generation = redis.pcall('GET', KEYS[1])
for n = 2, #KEYS do
  local at = (n - 2) * 4 + 1
  local before, after = ARGV[at + 1], ARGV[at + 2]
  for kind, change in pairs({{[':s'] = ARGV[at + 3], [':w'] = ARGV[at + 4]}}) do
    local key = KEYS[n] .. kind
    redis.call('DEL', key .. ':l')
    local head = redis.pcall('GETRANGE', key, 0, {HEAD_BYTES - 1})
    if head ~= '' then
      local keep = false
      if after ~= '' and type(head) == 'string'
          and string.sub(head, {len(MARK) + 1}, {len(MARK) + GENERATION_BYTES}) == generation then
        local seq = string.sub(head, {len(MARK) + GENERATION_BYTES + 1}, {HEAD_BYTES - TIMES_DIGITS})
        local times = tonumber(string.sub(head, {HEAD_BYTES - TIMES_DIGITS + 1}))
        if seq >= after then
          keep = true
        elseif change ~= '' and generation == ARGV[1] and seq == before and times then
          if times < {CONTINUED_MAX} and redis.call('STRLEN', key) + #change <= {ENTRY_BYTES_MAX} then
            local longer = redis.pcall('APPEND', key, change)
            keep = type(longer) == 'number' and type(redis.pcall('SETRANGE', key, {len(MARK) + GENERATION_BYTES},
              after .. string.format('%0{TIMES_DIGITS}d', times + 1))) == 'number'
          end
        end
      end
      if not keep then
        redis.call('DEL', key)
      end
    end
  end
end
return redis.status_reply('OK')
""")
"""KEYS: the generation's, sessions' names. ARGV: the generation that changes were made for; then for each session:

the seq before and after its change (empty: delete whatever stands), and what continues its snapshot and its window
(empty: delete what is older).
"""

BEAT = Script(f"""
local generation = redis.pcall('GET', KEYS[1])
if ARGV[2] == '1' or type(generation) ~= 'string' or #generation ~= {GENERATION_BYTES} then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', {int(GENERATION_SECONDS * 1000)})
  return ARGV[1]
end
redis.call('PEXPIRE', KEYS[1], {int(GENERATION_SECONDS * 1000)})
return generation
""")
"""KEYS: the generation's. ARGV: a fresh generation; 1 to begin it now. Answers the one that has been renewed."""

SCRIPTS = (READ, FILL, SETTLE, BEAT)

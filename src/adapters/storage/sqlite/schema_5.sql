-- Schema 5. What a trigger in time reads and writes has a table of its own. Its rows are short, so many of them share a
-- page: even of a million watchers all fit into the cache, and the more triggers there are, the more often they hit pages
-- that others hit.

CREATE TABLE timings (
    row INTEGER PRIMARY KEY,     -- that of the watcher
    periodicity INTEGER NOT NULL,
    deadline INTEGER,            -- NULL unless it is on time
    last_event INTEGER NOT NULL, -- when the newest event happened
    newest INTEGER NOT NULL,     -- the row of the newest event
    events INTEGER NOT NULL      -- how many events there ever were
) STRICT;

INSERT INTO timings
    SELECT row, periodicity, iif(state = 0, deadline, NULL), last_event, newest, events FROM watchers;

CREATE TABLE watchers_5 (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    recipients TEXT NOT NULL,    -- a JSON array of addresses
    state INTEGER NOT NULL,      -- 0 on time, 1 late, 2 paused
    missed INTEGER,              -- the deadline that it missed; NULL unless it is late
    late_notice TEXT,            -- the notice of the present lateness
    -- When the scheduler has to look: not later than the deadline of one on time, otherwise NULL.
    -- A trigger leaves it alone, since moving an index entry costs more than all else that a trigger does.
    wake INTEGER
) STRICT;

INSERT INTO watchers_5
    SELECT row, id, slug, name, description, recipients, state, iif(state = 1, deadline, NULL), late_notice, wake
    FROM watchers;

-- Rows of watchers that were deleted are not given out again: events of theirs may still be there.
DELETE FROM sqlite_sequence WHERE name = 'watchers_5';
INSERT INTO sqlite_sequence SELECT 'watchers_5', seq FROM sqlite_sequence WHERE name = 'watchers';

DROP TABLE watchers;
ALTER TABLE watchers_5 RENAME TO watchers;
CREATE INDEX watchers_by_wake ON watchers (wake) WHERE wake IS NOT NULL;
CREATE INDEX watchers_by_state ON watchers (state, slug);

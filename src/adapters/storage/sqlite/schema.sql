-- Schema 1. Instants and spans are in milliseconds.

CREATE TABLE watchers (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    periodicity INTEGER NOT NULL,
    recipients TEXT NOT NULL,    -- a JSON array of addresses
    state INTEGER NOT NULL,      -- 0 on time, 1 late, 2 paused
    deadline INTEGER,            -- NULL while paused
    late_notice TEXT,            -- the notice of the present lateness
    -- When the scheduler has to look: not later than the deadline of one on time, otherwise NULL.
    -- A trigger leaves it alone, since moving an index entry costs more than all else that a trigger does.
    wake INTEGER,
    last_event INTEGER NOT NULL, -- when the newest event happened
    newest INTEGER NOT NULL,     -- the row of the newest event
    events INTEGER NOT NULL      -- how many events there ever were
) STRICT;

CREATE INDEX watchers_by_wake ON watchers (wake) WHERE wake IS NOT NULL;
CREATE INDEX watchers_by_state ON watchers (state, slug);

-- Events are appended to one table, whatever their watcher: neighbours in time share a page. Each names the
-- event before it, so a history is read backwards from the newest. Events that the history policy no longer
-- keeps, and those of deleted watchers, are swept away later.
CREATE TABLE events (
    row INTEGER PRIMARY KEY,
    watcher INTEGER NOT NULL,
    number INTEGER NOT NULL,     -- 1 for the watcher's first
    previous INTEGER,
    at INTEGER NOT NULL,
    text TEXT NOT NULL
) STRICT;

CREATE TABLE deliveries (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    watcher INTEGER NOT NULL,
    recipient TEXT NOT NULL,
    notice TEXT NOT NULL,        -- a JSON object
    attempts INTEGER NOT NULL,
    token INTEGER NOT NULL,      -- changes whenever a claim begins or ends
    claimed INTEGER NOT NULL,
    -- When it may be claimed; NULL while an earlier one to the same recipient is owed, or if it was refused.
    due INTEGER,
    refused TEXT                 -- why it will never be made
) STRICT;

CREATE INDEX deliveries_by_due ON deliveries (due) WHERE due IS NOT NULL;
CREATE INDEX deliveries_by_recipient ON deliveries (watcher, recipient, row);

CREATE TABLE housekeeping (
    row INTEGER PRIMARY KEY,
    beats INTEGER NOT NULL,      -- counted up to show that writing works
    swept INTEGER NOT NULL       -- the last event that the sweep has looked at in this round
) STRICT;

INSERT INTO housekeeping VALUES (1, 0, 0);

-- Schema 4.

ALTER TABLE deliveries ADD COLUMN failure TEXT;      -- why the last attempt failed

-- What became of the deliveries that were settled for good last. What was settled before is not known here.
CREATE TABLE settled (
    row INTEGER PRIMARY KEY,
    watcher INTEGER NOT NULL,
    delivery INTEGER NOT NULL,   -- the row that it had among the deliveries
    recipient TEXT NOT NULL,
    resumed INTEGER NOT NULL,    -- 0 if the notice told of a lateness, 1 of its end
    at INTEGER NOT NULL,         -- when the notice arose
    deadline INTEGER NOT NULL,   -- which was missed
    attempts INTEGER NOT NULL,
    settled INTEGER NOT NULL,    -- when that was
    refused TEXT                 -- why it will never be made; NULL if it was
) STRICT;

CREATE INDEX settled_by_watcher ON settled (watcher);

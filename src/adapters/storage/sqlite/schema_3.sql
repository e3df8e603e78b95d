-- Schema 3. Claims are no longer on the disk: they do not outlive the process anyway.

UPDATE deliveries SET due = 0 WHERE claimed;
ALTER TABLE deliveries DROP COLUMN claimed;
ALTER TABLE deliveries DROP COLUMN token;

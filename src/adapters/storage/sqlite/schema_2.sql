-- Schema 2.

ALTER TABLE housekeeping ADD COLUMN watched INTEGER; -- when deadlines were last watched
ALTER TABLE deliveries ADD COLUMN at INTEGER;        -- when the notice arose

-- Notices that cannot be read are there only among the refused ones.
UPDATE deliveries SET at = notice ->> '$.at' WHERE json_valid(notice) AND json_type(notice, '$.at') = 'integer';

-- Schema 2.

ALTER TABLE housekeeping ADD COLUMN watched INTEGER; -- when deadlines were last watched
ALTER TABLE deliveries ADD COLUMN at INTEGER;        -- when the notice arose

UPDATE deliveries SET at = json_extract(notice, '$.at');

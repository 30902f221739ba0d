-- How the people of a file were found: it is a crop of one itself, or a photograph or video in which they were detected.
ALTER TABLE file ADD COLUMN kind text NOT NULL DEFAULT 'crop' CHECK (kind IN ('crop', 'photograph', 'video'));
UPDATE file SET kind = 'video' WHERE id IN (SELECT file_id FROM crop WHERE seconds IS NOT NULL);
UPDATE file SET kind = 'photograph' WHERE id IN (SELECT file_id FROM crop WHERE seconds IS NULL AND box IS NOT NULL);

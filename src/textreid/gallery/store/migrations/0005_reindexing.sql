-- A gallery whose crops are being embedded again by another model. Those that are done lie in crop_<gallery>_next.
CREATE TABLE reindexing (
    gallery_id int PRIMARY KEY REFERENCES gallery ON DELETE CASCADE,
    model text NOT NULL,          -- these as in the gallery, and its own from the switch on
    fingerprint text NOT NULL,
    dim int NOT NULL,
    begun timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE gallery DROP COLUMN replaces;  -- was never used

-- Vectors of two models are never compared: whoever opened a gallery before the switch is told so, by a class of its own.
CREATE FUNCTION is_embedded_by(number int, wanted text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE found gallery;
BEGIN
    SELECT * INTO found FROM gallery WHERE id = number;
    IF found.fingerprint <> wanted THEN
        RAISE EXCEPTION 'gallery % is embedded by model % since a moment ago; start the same command again',
            quote_literal(found.name), found.model USING ERRCODE = 'TR001';
    END IF;
    RETURN found.id IS NOT NULL;
END $$;

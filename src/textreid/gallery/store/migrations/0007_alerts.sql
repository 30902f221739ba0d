-- Saved searches that tell of new arrivals, and what is to be told. Where to is in the administrator's file alone.
ALTER TABLE saved_search ADD COLUMN alert text;         -- name of a destination
ALTER TABLE saved_search ADD COLUMN alert_seen bigint;  -- number of the crop up to which was looked

CREATE TABLE alert (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    saved_id bigint NOT NULL REFERENCES saved_search ON DELETE CASCADE,
    destination text NOT NULL,
    body jsonb NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'dead')),
    attempts int NOT NULL DEFAULT 0,
    next timestamptz NOT NULL DEFAULT now(),            -- not tried before
    problem text,                                       -- of the last attempt
    created timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX alert_next ON alert (next) WHERE state = 'waiting';

-- Searches that somebody keeps to run them again; they are that account's alone, and end with it.
CREATE TABLE saved_search (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gallery_id int NOT NULL REFERENCES gallery ON DELETE CASCADE,
    account_id int REFERENCES account ON DELETE CASCADE,  -- NULL: of this machine's user, while nobody has an account
    name text NOT NULL,
    asked jsonb NOT NULL,         -- as the API takes it
    created timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (gallery_id, account_id, name)
);

-- Uploads through the service, and how far each is indexed. What is done of them is read off the files and crops.
CREATE TABLE job (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gallery_id int NOT NULL REFERENCES gallery ON DELETE CASCADE,
    account_id int REFERENCES account ON DELETE SET NULL,  -- NULL: of this machine's user, or of who is gone
    kind text NOT NULL CHECK (kind IN ('crops', 'photographs', 'video')),
    camera text,
    folder text NOT NULL,         -- where the files are
    files int NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'failed', 'cancelled')),
    problems jsonb NOT NULL DEFAULT '[]',  -- name of a file, and why it cannot be used; or why the job failed
    created timestamptz NOT NULL DEFAULT now(),
    ended timestamptz
);
CREATE INDEX job_state ON job (gallery_id, state);

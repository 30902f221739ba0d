-- Who may use the service. Accounts are of the whole database; cameras are called by their names in the galleries.
CREATE TABLE account (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    password text,                -- Argon2id; none of who has only tokens
    scopes text[] NOT NULL,
    cameras text[],               -- whose crops they may see; NULL: all
    created timestamptz NOT NULL DEFAULT now()
);

-- For programs. 256 random bits cannot be guessed, so that a quick hash is enough: it is computed at each request.
CREATE TABLE token (
    digest bytea PRIMARY KEY,     -- SHA-256
    account_id int NOT NULL REFERENCES account ON DELETE CASCADE,
    name text NOT NULL,
    scopes text[] NOT NULL,
    expires timestamptz NOT NULL,
    UNIQUE (account_id, name)
);

-- Of browsers that have signed in.
CREATE TABLE session (
    digest bytea PRIMARY KEY,     -- SHA-256 of the cookie
    account_id int NOT NULL REFERENCES account ON DELETE CASCADE,
    form_key text NOT NULL,       -- that forms send along: another web site does not know it
    expires timestamptz NOT NULL
);

-- Who asked what and was shown what. Each hash covers the one before and the entry, byte for byte.
CREATE TABLE audit (
    number bigint PRIMARY KEY,
    entry text NOT NULL,          -- JSON
    hash bytea NOT NULL           -- SHA-256
);
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit log is only appended to'; END $$;
CREATE TRIGGER audit_is_appended_to BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A gallery holds crops of people, embedded by one model. Times are the wall clock of the camera, without a zone.
CREATE TABLE gallery (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    model text NOT NULL,          -- as it was asked for
    fingerprint text NOT NULL,    -- of its weights, and the precision where it is not float32
    dim int NOT NULL,             -- numbers of a feature; what is stored has one more
    created timestamptz NOT NULL DEFAULT now(),
    replaces int REFERENCES gallery ON DELETE CASCADE,  -- that this one, being re-embedded, will take the place of
    facts jsonb NOT NULL DEFAULT '{}'
);

-- What was named to be indexed: a folder, a video, an address.
CREATE TABLE source (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gallery_id int NOT NULL REFERENCES gallery ON DELETE CASCADE,
    uri text NOT NULL,
    UNIQUE (gallery_id, uri)
);

-- Each file of a source, also one that cannot be used.
CREATE TABLE file (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gallery_id int NOT NULL REFERENCES gallery ON DELETE CASCADE,
    source_id int NOT NULL REFERENCES source ON DELETE CASCADE,
    path text NOT NULL,
    size bigint NOT NULL,
    mtime_ns bigint NOT NULL,
    ctime_ns bigint NOT NULL,
    digest bytea,                 -- SHA-256 of the content; none of a stream
    facts jsonb NOT NULL,         -- camera, time and tags as they were found beside it
    problem text,                 -- why it is quarantined
    version text NOT NULL,        -- of textreid that judged it
    position bigint NOT NULL,     -- of a video: the frames before this one are done
    finished boolean NOT NULL,
    UNIQUE (gallery_id, path)
);
CREATE INDEX file_digest ON file (digest);
CREATE INDEX file_source ON file (source_id);

CREATE SEQUENCE crop_id;

-- One partition a gallery: it is deleted at once, scanned alone, and has an HNSW index of its own.
CREATE TABLE crop (
    gallery_id int NOT NULL,
    id bigint NOT NULL,
    file_id bigint NOT NULL,
    frame bigint,
    seconds double precision,     -- since the beginning of the video
    "time" timestamp,
    camera text,
    box real[],                   -- x, y, width, height in pixels of the upright frame
    track int,                    -- within the file
    tags text[] NOT NULL,
    digest bytea NOT NULL,        -- SHA-256 of the file that the crop is, or of its JPEG
    presence real,                -- log odds that it shows somebody
    confidence real,              -- of the detector
    embedding halfvec NOT NULL,   -- of length 1, then what the score loses because it shows nobody
    PRIMARY KEY (gallery_id, id)
) PARTITION BY LIST (gallery_id);
CREATE INDEX crop_file ON crop (file_id, track);
CREATE INDEX crop_camera ON crop (camera, "time");
CREATE INDEX crop_time ON crop ("time");
CREATE INDEX crop_tags ON crop USING gin (tags);

-- Pictures of crops that are no files of their own; apart, so that a scan of vectors does not read them.
CREATE TABLE image (
    gallery_id int NOT NULL,
    crop_id bigint NOT NULL,
    jpeg bytea NOT NULL,
    PRIMARY KEY (gallery_id, crop_id)
) PARTITION BY LIST (gallery_id);
ALTER TABLE image ALTER COLUMN jpeg SET STORAGE EXTERNAL;  -- does not compress further

-- +goose Up

-- Who is signed in to the console. token: SHA-256 of what the browser holds.
CREATE TABLE sessions (
    token      BYTEA PRIMARY KEY,
    account    TEXT COLLATE "C" NOT NULL,
    access_key TEXT COLLATE "C" NOT NULL,
    created    BIGINT NOT NULL,
    used       BIGINT NOT NULL,
    expires    BIGINT NOT NULL
);
CREATE INDEX sessions_access_key ON sessions (access_key);
CREATE INDEX sessions_expires ON sessions (expires);

-- +goose Up

-- Who is signed in to the console. token: SHA-256 of what the browser holds.
CREATE TABLE sessions (
    token      BLOB PRIMARY KEY,
    account    TEXT NOT NULL,
    access_key TEXT NOT NULL,
    created    INTEGER NOT NULL,
    used       INTEGER NOT NULL,
    expires    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX sessions_access_key ON sessions (access_key);
CREATE INDEX sessions_expires ON sessions (expires);

-- +goose Up

-- Contents that are being uploaded, each to the store of large contents. blob: its ID there. received: bytes that are there;
-- state: that of the SHA-256 of these. numbers: how many numbers were given out for tries to append.
CREATE TABLE uploads (
    id       TEXT PRIMARY KEY,
    account  TEXT NOT NULL,
    digest   BLOB NOT NULL,
    size     INTEGER NOT NULL,
    blob     TEXT NOT NULL,
    received INTEGER NOT NULL,
    state    BLOB NOT NULL,
    numbers  INTEGER NOT NULL DEFAULT 0,
    created  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX uploads_content ON uploads (account, digest, size);
CREATE INDEX uploads_digest ON uploads (digest);
CREATE INDEX uploads_created ON uploads (created);

-- Their pieces. mark: what the store of large contents needs to join them.
CREATE TABLE upload_pieces (
    upload TEXT NOT NULL,
    number INTEGER NOT NULL,
    mark   TEXT NOT NULL,
    PRIMARY KEY (upload, number)
) WITHOUT ROWID;

-- What an account has uploaded and may send until it expires.
CREATE TABLE uploaded (
    account TEXT NOT NULL,
    digest  BLOB NOT NULL,
    size    INTEGER NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    PRIMARY KEY (account, digest)
) WITHOUT ROWID;
CREATE INDEX uploaded_digest ON uploaded (digest);
CREATE INDEX uploaded_expires ON uploaded (expires);

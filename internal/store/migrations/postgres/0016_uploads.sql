-- +goose Up

-- Contents that are being uploaded, each to the store of large contents. blob: its ID there. received: bytes that are there;
-- state: that of the SHA-256 of these. numbers: how many numbers were given out for tries to append.
CREATE TABLE uploads (
    id       TEXT COLLATE "C" PRIMARY KEY,
    account  TEXT COLLATE "C" NOT NULL,
    digest   BYTEA NOT NULL,
    size     BIGINT NOT NULL,
    blob     TEXT COLLATE "C" NOT NULL,
    received BIGINT NOT NULL,
    state    BYTEA NOT NULL,
    numbers  BIGINT NOT NULL DEFAULT 0,
    created  BIGINT NOT NULL
);
CREATE UNIQUE INDEX uploads_content ON uploads (account, digest, size);
CREATE INDEX uploads_digest ON uploads (digest);
CREATE INDEX uploads_created ON uploads (created);

-- Their pieces. mark: what the store of large contents needs to join them.
CREATE TABLE upload_pieces (
    upload TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    mark   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (upload, number)
);

-- What an account has uploaded and may send until it expires.
CREATE TABLE uploaded (
    account TEXT COLLATE "C" NOT NULL,
    digest  BYTEA NOT NULL,
    size    BIGINT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    PRIMARY KEY (account, digest)
);
CREATE INDEX uploaded_digest ON uploaded (digest);
CREATE INDEX uploaded_expires ON uploaded (expires);

-- +goose Up

-- Contents that are not here but in the store of large contents. content: of a text as it was sent, the digest of what it
-- stands for, by which the deliveries are found that refer to it. condemned: since when it is about to be removed there, and
-- no delivery may refer to it; 0: it stays.
CREATE TABLE blobs (
    digest    BLOB PRIMARY KEY,
    content   BLOB,
    condemned INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX blobs_condemned ON blobs (condemned) WHERE condemned <> 0;

-- A text that is too long for the column sent is there too.
ALTER TABLE deliveries ADD COLUMN sent_digest BLOB;
ALTER TABLE deliveries ADD COLUMN sent_size INTEGER NOT NULL DEFAULT 0;

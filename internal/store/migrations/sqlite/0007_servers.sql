-- +goose Up

-- The servers that share this database, each with a number that grows while it lives.
CREATE TABLE servers (
    name    TEXT PRIMARY KEY,
    run     TEXT NOT NULL,
    version TEXT NOT NULL,
    beat    INTEGER NOT NULL
) WITHOUT ROWID;

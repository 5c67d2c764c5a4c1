-- +goose Up

-- Which server does a chore, and until when (Unix milliseconds) the others leave it alone.
CREATE TABLE leases (
    name   TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    until  INTEGER NOT NULL
) WITHOUT ROWID;

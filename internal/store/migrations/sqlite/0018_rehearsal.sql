-- +goose Up

-- 1: a rehearsal, 2: one that compares text line by line; 0: neither.
ALTER TABLE deliveries ADD COLUMN dry_run INTEGER NOT NULL DEFAULT 0;

-- How what a rehearsal would place differs from what was on the machine. note: why that is not here, or not all of it.
CREATE TABLE diffs (
    delivery TEXT NOT NULL,
    instance TEXT NOT NULL,
    diff     TEXT NOT NULL,
    note     TEXT NOT NULL,
    PRIMARY KEY (delivery, instance)
) WITHOUT ROWID;

-- +goose Up

-- Which attempt a target is at, and when a later one than the first began, Unix milliseconds; 0: it is the first, which began
-- when the target was created.
ALTER TABLE targets ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;
ALTER TABLE targets ADD COLUMN begun INTEGER NOT NULL DEFAULT 0;

-- What targets were when they were retried, in the columns of targets.
CREATE TABLE attempts (
    delivery TEXT NOT NULL,
    instance TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    status TEXT NOT NULL,
    cause TEXT NOT NULL,
    detail TEXT NOT NULL,
    change TEXT NOT NULL,
    created INTEGER NOT NULL,
    begun INTEGER NOT NULL,
    started INTEGER NOT NULL,
    finished INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    deadline INTEGER NOT NULL,
    given INTEGER NOT NULL,
    stopped INTEGER NOT NULL,
    PRIMARY KEY (delivery, instance, attempt)
) WITHOUT ROWID;

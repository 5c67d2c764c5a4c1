-- +goose Up

-- Which attempt a target is at, and when a later one than the first began, Unix milliseconds; 0: it is the first, which began
-- when the target was created.
ALTER TABLE targets ADD COLUMN attempt BIGINT NOT NULL DEFAULT 1;
ALTER TABLE targets ADD COLUMN begun BIGINT NOT NULL DEFAULT 0;

-- What targets were when they were retried, in the columns of targets.
CREATE TABLE attempts (
    delivery TEXT COLLATE "C" NOT NULL,
    instance TEXT COLLATE "C" NOT NULL,
    attempt BIGINT NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    cause TEXT COLLATE "C" NOT NULL,
    detail TEXT COLLATE "C" NOT NULL,
    change TEXT COLLATE "C" NOT NULL,
    created BIGINT NOT NULL,
    begun BIGINT NOT NULL,
    started BIGINT NOT NULL,
    finished BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    deadline BIGINT NOT NULL,
    given BIGINT NOT NULL,
    stopped BIGINT NOT NULL,
    PRIMARY KEY (delivery, instance, attempt)
);

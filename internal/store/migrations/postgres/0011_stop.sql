-- +goose Up

-- Whether the delivery may have been sent to the machine; of what was made before this, nobody knows. And when it was asked to
-- stop while it was open, Unix milliseconds; 0: never.
ALTER TABLE targets ADD COLUMN given BIGINT NOT NULL DEFAULT 1;
ALTER TABLE targets ADD COLUMN stopped BIGINT NOT NULL DEFAULT 0;

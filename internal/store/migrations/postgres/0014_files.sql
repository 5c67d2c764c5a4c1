-- +goose Up

-- file: which file of the account and region a target is, see fileKey; empty of deliveries from before. Only what is on a
-- machine, or was, is in the index. Partitions that are there get the two indexes from the servers, without keeping anybody
-- waiting: see completeIndexes.
ALTER TABLE targets ADD COLUMN file BYTEA NOT NULL DEFAULT '';
CREATE INDEX targets_file ON ONLY targets (file, instance, finished DESC, delivery DESC) WHERE status = 'Success';
CREATE INDEX deliveries_content ON ONLY deliveries (digest, account, region, id);

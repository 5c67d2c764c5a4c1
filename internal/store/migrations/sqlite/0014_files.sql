-- +goose Up

-- file: which file of the account and region a target is, see fileKey; empty of deliveries from before. Only what is on a
-- machine, or was, is in the index.
ALTER TABLE targets ADD COLUMN file BLOB NOT NULL DEFAULT x'';
CREATE INDEX targets_file ON targets (file, instance, finished DESC, delivery DESC) WHERE status = 'Success';

DROP INDEX deliveries_digest;
-- UNIQUE says that an ID is there once, and so that nothing is to be sorted by what comes after it.
CREATE UNIQUE INDEX deliveries_content ON deliveries (digest, account, region, id);

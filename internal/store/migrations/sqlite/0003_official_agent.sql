-- +goose Up

-- Which program a machine runs, the public key of an official agent, and when one without a channel is expected back.
ALTER TABLE instances ADD COLUMN agent_kind TEXT NOT NULL DEFAULT 'native';
ALTER TABLE instances ADD COLUMN agent_key BLOB;
ALTER TABLE instances ADD COLUMN next_dial INTEGER NOT NULL DEFAULT 0;

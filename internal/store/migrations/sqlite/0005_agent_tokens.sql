-- +goose Up

-- The hash of what an official agent may show in place of its signature; NULL if it has none.
ALTER TABLE instances ADD COLUMN agent_token BLOB;

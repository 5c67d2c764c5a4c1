-- +goose Up

-- What a success did to the file on the machine: a waybill.Change; empty: it is not known.
ALTER TABLE targets ADD COLUMN change TEXT NOT NULL DEFAULT '';

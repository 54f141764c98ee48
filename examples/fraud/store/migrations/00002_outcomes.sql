-- +goose Up
-- What Picket calls the inference among those that it captures; empty where rules decided.
ALTER TABLE decisions ADD COLUMN inference TEXT NOT NULL DEFAULT '';

-- What became of transactions and Picket has not been told yet. A later outcome of a kind replaces an earlier one.
CREATE TABLE outcomes (
    id          TEXT     NOT NULL,
    kind        TEXT     NOT NULL,
    model       TEXT     NOT NULL,
    inference   TEXT     NOT NULL,
    outcome     TEXT     NOT NULL,
    at          BIGINT   NOT NULL,
    PRIMARY KEY (id, kind)
);
CREATE INDEX outcomes_at ON outcomes (at);

-- +goose Down
DROP TABLE outcomes;
ALTER TABLE decisions DROP COLUMN inference;

-- Read by PostgreSQL and by SQLite, which keeps whatever it is given under types that it does not know.
-- Times are in microseconds since 1970, of the server that stored the row; a transaction's own is in milliseconds.

-- +goose Up
CREATE TABLE transactions (
    id          TEXT     NOT NULL PRIMARY KEY,
    server      TEXT     NOT NULL,
    stored      BIGINT   NOT NULL,
    at          BIGINT   NOT NULL,
    customer    BIGINT   NOT NULL,
    terminal    BIGINT   NOT NULL,
    merchant    BIGINT   NOT NULL,
    device      BIGINT   NOT NULL,
    amount      BIGINT   NOT NULL,
    channel     SMALLINT NOT NULL,
    category    SMALLINT NOT NULL,
    country     TEXT     NOT NULL,
    latitude    INTEGER  NOT NULL,
    longitude   INTEGER  NOT NULL
);
-- History is read in the order of arrival.
CREATE INDEX transactions_stored ON transactions (stored);

-- The primary key is why there is never a second decision.
CREATE TABLE decisions (
    id          TEXT     NOT NULL PRIMARY KEY,
    verdict     TEXT     NOT NULL,
    status      TEXT     NOT NULL,
    score       REAL,
    source      TEXT     NOT NULL,
    cause       TEXT     NOT NULL,
    model       TEXT     NOT NULL,
    reasons     TEXT     NOT NULL,
    profile     BYTEA    NOT NULL,
    decided     BIGINT   NOT NULL,
    score_us    BIGINT   NOT NULL,
    decide_us   BIGINT   NOT NULL,
    recovered   SMALLINT NOT NULL,
    expires     BIGINT   NOT NULL,
    attempts    INTEGER  NOT NULL,
    refused     TEXT     NOT NULL
);
CREATE INDEX decisions_decided ON decisions (decided, id);
CREATE INDEX decisions_waiting ON decisions (expires) WHERE status = 'waiting';

CREATE TABLE truths (
    id          TEXT     NOT NULL PRIMARY KEY,
    fraud       SMALLINT NOT NULL,
    at          BIGINT   NOT NULL,
    analyst     TEXT     NOT NULL
);

-- The time steps of a customer's codes that were accepted: each counts once.
CREATE TABLE codes (
    customer    BIGINT   NOT NULL,
    step        BIGINT   NOT NULL,
    PRIMARY KEY (customer, step)
);

CREATE TABLE analysts (
    name        TEXT     NOT NULL PRIMARY KEY,
    salt        BYTEA    NOT NULL,
    iterations  INTEGER  NOT NULL,
    hash        BYTEA    NOT NULL
);

-- By the digest of what the cookie says, so that whoever reads the table has no session.
CREATE TABLE sessions (
    digest      BYTEA    NOT NULL PRIMARY KEY,
    analyst     TEXT     NOT NULL,
    csrf        TEXT     NOT NULL,
    used        BIGINT   NOT NULL,
    expires     BIGINT   NOT NULL
);

-- +goose Down
DROP TABLE sessions;
DROP TABLE analysts;
DROP TABLE codes;
DROP TABLE truths;
DROP TABLE decisions;
DROP TABLE transactions;

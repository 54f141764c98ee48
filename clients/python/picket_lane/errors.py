"""Why there is no answer."""

import enum


class Code(enum.IntEnum):
    """gRPC's status codes, as far as the daemon uses them."""

    CANCELLED = 1
    INVALID_ARGUMENT = 3  # the request does not fit the model
    DEADLINE_EXCEEDED = 4  # no answer in time
    NOT_FOUND = 5  # no model of that name is loaded
    RESOURCE_EXHAUSTED = 8  # the daemon is busy: ask again after retry_after
    FAILED_PRECONDITION = 9  # another model with other tensors has the name now
    UNIMPLEMENTED = 12
    INTERNAL = 13  # the model failed, or the other side is no daemon
    UNAVAILABLE = 14  # the daemon is not there


class LaneError(Exception):
    """An answer that is none. retry_after is in seconds, 0 for no hint."""

    def __init__(self, code, sentence, retry_after=0.0):
        super().__init__(sentence)
        try:
            self.code = Code(code)
        except ValueError:
            self.code = code
        self.retry_after = retry_after

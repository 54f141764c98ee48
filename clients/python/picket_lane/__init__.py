"""A client of picketd's lane, see docs/formats/lane.md of Picket."""

from .errors import Code, LaneError
from .lane import Lane
from .model import Model, Tensor

__all__ = ["Code", "Lane", "LaneError", "Model", "Tensor"]

"""What can be wrong with a planner's name or knobs."""


class PlannerError(ValueError):
    """A planner was asked for that does not exist, or with a knob or shape that makes no sense."""

"""What can be wrong with a task or with rendering it."""


class TaskError(ValueError):
    """A task that does not exist, can't be made, or does not fit the contract."""


class RenderError(RuntimeError):
    """No way of rendering works on this machine."""

"""What can go wrong with an agent, said in one sentence each."""


class ConfigError(ValueError):
    """A preset or a setting that does not exist or makes no sense."""


class ObservationError(ValueError):
    """An observation that the agent can't act on: wrong shape, NaN or infinite."""


class DivergedError(RuntimeError):
    """Training came to NaN or infinity."""


class ProcessError(RuntimeError):
    """A process that belonged to a run is gone."""


class CheckpointError(ValueError):
    """A checkpoint folder that is missing, damaged, or made for something else."""


class TrainingStopped(Exception):
    """Training was asked to stop, and did; a run that was saved before can be resumed."""


class ExperienceError(ValueError):
    """Experience that is damaged, in use by another process, or does not fit."""

"""Many agents trained in one process, so that an accelerator has enough to do.

Each agent is an ordinary run with its own trainer, learner, experience and randomness, on a thread of its own. What
takes long (encoding and proposing, scoring candidates, updates) it asks for at a meeting of all threads, where requests
are answered in one call over parameters that are stacked along a leading axis.
"""

from agent.many.runs import Outcome, Together

__all__ = ["Outcome", "Together"]

"""Many agents trained at once, so that an accelerator has enough to do.

Each agent is an ordinary run with its own trainer, experience and randomness, in a process of its own. What takes long
(encoding and proposing, scoring candidates, updates) it asks for at a desk in shared memory; the process that began
them answers what everybody asks for in one call, over parameters and moments that are stacked along a leading axis.
"""

from agent.many.runs import Outcome, Post, Together

__all__ = ["Outcome", "Post", "Together"]

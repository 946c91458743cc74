"""Agents whose learned numbers lie in one matrix, and what is computed for all of them in one call."""

import warnings
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from agent.config import TrainConfig
from agent.learner import POLICY_EPSILON
from agent.losses import Lesson, Noise, WorldTerms, policy_loss, world_loss
from agent.many.desk import METRICS, Ask, Desk
from agent.many.layout import Layout
from agent.many.networks import Networks, prefixed
from agent.many.recorded import Recorded
from agent.slow_networks import SlowNetworks
from agent.world_model import WorldModel
from planners import Drawn

Tensors = dict[str, Tensor]


class Stack:
    """Computes for those who sit at a desk.

    Everything is computed for all rows, whoever has asked: what comes out for the others is not looked at, and of
    updates their rows take nothing over. On a GPU each computation is recorded once, and then replayed as a whole.

    Args:
        desk: with which numbers come and go.
        device: to compute on.
    """

    def __init__(self, desk: Desk, device: torch.device) -> None:
        self._desk, self._device = desk, device
        self._config = desk.sizes.config
        self._layout = layout = Layout(desk.sizes.shape)
        self._compiled = device.type == "cuda"
        self._networks = Networks(desk.sizes.shape, self._compiled).to(device)
        self._functions = _Functions(self._config)
        # On the CPU, the desk's own. Rows that nobody has written yet are computed with, too.
        self._here = {name: x if device.type == "cpu" else x.to(device) for name, x in desk.arrays.items()}
        self._rows = torch.zeros_like(desk.arrays["row"], device=device)
        self._sections = {name: self._rows[:, part] for name, part in layout.slices.items()}
        rate = self._config.learner.learning_rate
        self._world_rate = rate * layout.rate_factors(self._config.learner.encoder_rate).to(device)
        self._policy_rate = torch.full((layout.sizes["policy"],), rate, device=device)
        self._active = torch.zeros(desk.sizes.agents, device=device)
        self._sound = torch.ones(desk.sizes.agents, device=device)
        self._planner = self._config.planning.make(desk.sizes.shape.action_dim)
        self._counts = torch.zeros(2)  # evaluations and iterations of a plan
        self._recorded: dict[tuple[Ask, int], Callable[[], None]] = {}

    def put(self, seats: Sequence[int]) -> None:
        """What lies on the desk is what these agents are from now on."""
        for seat in seats:
            self._rows[seat].copy_(self._desk.arrays["row"][seat])
        self._bring("kind", "discount", "real")

    def get(self, seats: Sequence[int]) -> None:
        """Puts on the desk what these agents are."""
        for seat in seats:
            self._desk.arrays["row"][seat].copy_(self._rows[seat])

    def plan(self) -> None:
        """See `Engine.plan`."""
        self._bring("mean", "var", "observation", "noise", "warm_start", "deviates")
        self._run((Ask.PLAN, 0), self._plan, ("value",))
        self._hand_out("plan", "std", "value", "valid", "stakes")
        self._desk.arrays["counts"][:] = self._counts

    def propose(self) -> None:
        """See `Engine.propose`."""
        self._bring("mean", "var", "observation", "noise")
        self._run((Ask.PROPOSE, 0), self._propose, ("latent", "proposals"))
        self._hand_out("latent", "proposals")

    def score(self, size: int) -> None:
        """See `WorldModel.score`; `size` is which of the desk's sizes the candidates take."""
        self._bring(f"start.{size}", f"candidates.{size}")
        self._run((Ask.SCORE, size), lambda: self._score(size), (f"values.{size}",))
        self._hand_out(f"values.{size}")

    def update(self, seats: Sequence[int]) -> list[bool]:
        """See `Learner.update`; of each seat, whether its losses and targets are finite. If not, nothing changes."""
        self._bring("mean", "var", "observations", "actions", "rewards", "terminated", "mask")
        self._bring("target_noise", "policy_noise", "members")
        active = torch.zeros(len(self._active))
        active[list(seats)] = 1
        # What is recorded is tried out first, which must change nobody.
        self._active.zero_()
        self._record((Ask.UPDATE, 0), self._update, ("errors", "metrics"))
        self._active.copy_(active)
        self._recorded[Ask.UPDATE, 0]()
        self._hand_out("errors", "metrics")
        sound = self._sound.tolist()
        return [sound[seat] > 0 for seat in seats]

    def _bring(self, *names: str) -> None:
        for name in names if self._device.type != "cpu" else ():
            self._here[name].copy_(self._desk.arrays[name], non_blocking=True)

    def _hand_out(self, *names: str) -> None:
        for name in names if self._device.type != "cpu" else ():
            self._desk.arrays[name].copy_(self._here[name], non_blocking=True)

    def _run(self, key: tuple[Ask, int], compute: Callable[[], None], shown: Sequence[str]) -> None:
        self._record(key, compute, shown)
        self._recorded[key]()

    def _record(self, key: tuple[Ask, int], compute: Callable[[], None], shown: Sequence[str]) -> None:
        """Makes sure that something is ready to be computed. `shown` are the arrays that tell whether it is right."""
        if key in self._recorded:
            return
        if self._networks.compiled:
            self._networks.compiled = False
            compute()
            expected = [self._here[name].clone() for name in shown]
            self._networks.compiled = True
            compute()
            for name, x in zip(shown, expected, strict=True):
                if not torch.allclose(self._here[name], x, rtol=_ROUNDING, atol=_ROUNDING, equal_nan=True):
                    warnings.warn(f"compiled, {name} came out wrong, so {key[0].name} is not", stacklevel=2)
                    self._networks.compiled = False
        self._recorded[key] = compute if self._device.type == "cpu" else Recorded(compute)
        self._networks.compiled = self._compiled

    @torch.no_grad()
    def _plan(self) -> None:
        assert self._planner is not None
        here, tensors = self._here, self._tensors()
        latent, proposals = self._propositions(tensors)
        plan = self._planner.plan(
            lambda actions: self._values(tensors, latent, actions.unsqueeze(1)).squeeze(1),
            batch=len(latent),
            warm_start=here["warm_start"],
            proposals=proposals.squeeze(1) if self._config.planning.proposals else None,
            generator=Drawn(here["deviates"].unbind(1)),
            device=self._device,
        )
        here["plan"].copy_(plan.actions)
        for name in ("std", "value", "valid", "stakes"):
            here[name].copy_(getattr(plan, name))
        self._counts = torch.tensor([plan.evaluations, plan.iterations])

    @torch.no_grad()
    def _propose(self) -> None:
        latent, proposals = self._propositions(self._tensors())
        self._here["latent"].copy_(latent)
        self._here["proposals"].copy_(proposals)

    @torch.no_grad()
    def _score(self, size: int) -> None:
        here = self._here
        values = self._values(self._tensors(), here[f"start.{size}"], here[f"candidates.{size}"])
        here[f"values.{size}"].copy_(values)

    def _propositions(self, tensors: Tensors) -> tuple[Float[Tensor, "n 1 L"], Float[Tensor, "n 1 P H A"]]:
        """Latents, and what the policy prior would do from there."""
        here = self._here
        return self._networks.for_each(tensors, self._functions.propose, here["observation"], here["noise"])

    def _values(
        self, tensors: Tensors, latent: Float[Tensor, "n 1 L"], actions: Float[Tensor, "n 1 N H A"]
    ) -> Float[Tensor, "n 1 N"]:
        """What candidates would earn."""
        count = actions.shape[2]
        planning = self._config.planning
        most = planning.samples + planning.proposals + 1 if self._compiled else count
        # All counts of a plan are compiled as one, since to compile takes longer than to compute some more.
        actions = F.pad(actions, (0, 0, 0, 0, 0, max(most - count, 0)))
        return self._networks.for_each(tensors, self._functions.score, latent, actions)[:, :, :count]

    def _update(self) -> None:
        """`Learner.update` of each, without looking at a number."""
        here, config, layout, sections = self._here, self._config.learner, self._layout, self._sections
        lesson = Lesson(*(here[name] for name in ("observations", "actions", "rewards", "terminated", "mask")))
        noise = [here["target_noise"], here["policy_noise"]]
        if self._config.model.value_heads > 2:
            noise.append(here["members"].long())
        slow = prefixed("slow.", layout.views(sections["slow"], layout.slow))

        world = sections["world"].detach().requires_grad_()
        policy = sections["policy"].detach()

        tensors = self._tensors(world, policy) | slow
        terms = self._networks.for_each(tensors, self._functions.world, lesson, *noise)
        (gradient,) = torch.autograd.grad(terms.loss.sum(), world)
        with torch.no_grad():
            norm = torch.linalg.vector_norm(gradient, dim=1)
            sound = torch.isfinite(terms.loss.detach() + terms.targets.sum(dim=(1, 2)) + norm)
            taken = sound * self._active
            sections["step"] += taken.unsqueeze(1)
            self._descend("world", gradient, norm, taken, self._world_rate, 1e-8)

        # The policy, on the values as they are now.
        policy = policy.requires_grad_()
        tensors = self._tensors(sections["world"].detach(), policy) | slow
        scale = sections["scale"][:, 0]
        loss, scales, more = self._networks.for_each(
            tensors, self._functions.policy, lesson, terms.latents, scale, *noise
        )
        (gradient,) = torch.autograd.grad(loss.sum(), policy)
        with torch.no_grad():
            policy_norm = torch.linalg.vector_norm(gradient, dim=1)
            sound = sound & torch.isfinite(policy_norm)
            self._descend("policy", gradient, policy_norm, sound * taken, self._policy_rate, POLICY_EPSILON)
            scale.copy_(torch.where(taken > 0, scales, scale))
            followed = sections["world"][:, : layout.sizes["slow"]]
            sections["slow"].lerp_(followed, config.target_rate * taken.unsqueeze(1))
            metrics = terms.metrics | more | {"gradient_norm": norm, "value_scale": scales}
            here["errors"].copy_(terms.errors)
            for i, name in enumerate(METRICS):
                if name in metrics:
                    here["metrics"][:, i] = metrics[name].detach()
            self._sound.copy_(sound)

    def _descend(
        self,
        name: str,
        gradient: Float[Tensor, "n W"],
        norm: Float[Tensor, " n"],
        taken: Float[Tensor, " n"],
        rate: Float[Tensor, " W"],
        eps: float,
    ) -> None:
        """A step of AdamW (arXiv 1711.05101) against gradients of these norms, which it clips.

        Rows that don't take it stay as they are.
        """
        config, sections = self._config.learner, self._sections
        taken = taken.unsqueeze(1)
        clip = (config.gradient_clip / (norm + 1e-6)).clamp(max=1).unsqueeze(1)
        gradient = torch.where(taken > 0, gradient * clip, 0.0)
        mean, var, step = sections[f"{name}_mean"], sections[f"{name}_var"], sections["step"][:, :1]
        mean.lerp_(gradient, (1 - _BETAS[0]) * taken)
        var.lerp_(gradient**2, (1 - _BETAS[1]) * taken)
        # A row that has taken none yet must not divide by zero.
        step = step.clamp(min=1)
        spread = (var / (1 - _BETAS[1] ** step)).sqrt().add_(eps)
        size, parameters = rate * taken, sections[name]
        parameters.addcmul_(parameters, size, value=-config.weight_decay)
        parameters.addcmul_(mean / spread, size / (1 - _BETAS[0] ** step), value=-1)

    def _tensors(self, world: Tensor | None = None, policy: Tensor | None = None) -> Tensors:
        """Everything that a `Template` is to have, of all agents."""
        layout, here = self._layout, self._here
        world = self._sections["world"] if world is None else world
        policy = self._sections["policy"] if policy is None else policy
        tensors = layout.views(world, layout.world) | layout.views(policy, layout.policy)
        tensors |= {"norm.mean": here["mean"], "norm.var": here["var"]}
        return prefixed("model.", tensors | {name: here[name] for name in ("kind", "discount", "real")})


class _Functions:
    """What is computed for each agent: one object for each, all along."""

    def __init__(self, config: TrainConfig) -> None:
        learner, planning = config.learner, config.planning

        def propose(model: WorldModel, slow: object, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
            latent = model.encode(x)
            return latent, model.follow_policy(latent, noise)

        def score(model: WorldModel, slow: object, latent: Tensor, actions: Tensor) -> Tensor:
            return model.score(latent, planning)(actions)

        def world(model: WorldModel, slow: SlowNetworks, lesson: Lesson, *noise: Tensor) -> WorldTerms:
            return world_loss(model, slow, learner, lesson, _noise(*noise))

        def policy(
            model: WorldModel, slow: object, lesson: Lesson, latents: Tensor, scale: Tensor, *noise: Tensor
        ) -> tuple[Tensor, Tensor, Tensors]:
            return policy_loss(model, learner, lesson, latents, _noise(*noise), scale)

        self.propose, self.score, self.world, self.policy = propose, score, world, policy


_ROUNDING = 2e-2  # the most that compiling may change; rounding can tip a search
_BETAS = 0.9, 0.999  # of Adam's moments, torch's defaults


def _noise(target: Tensor, policy: Tensor, members: Tensor | None = None) -> Noise:
    return Noise(target, policy, members)

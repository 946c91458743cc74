"""The answers to what many agents ask for, each kind computed in one call."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from agent.errors import DivergedError
from agent.learner import DIVERGED, Learned, Learner
from agent.losses import Lesson, Noise, policy_loss, world_loss
from agent.many.padding import cut, stack
from agent.many.requests import Propose, Rate, Update
from agent.many.stacked import (
    Networks,
    Shape,
    alike,
    fixed,
    in_halves,
    learned,
    parameters,
    prefixed,
    seen,
    stacked,
    stacked_parameters,
)
from agent.world_model import WorldModel

Tensors = dict[str, Tensor]
_MOST_FIXED = 64  # groups of models whose fixed tensors are remembered


class Answers:
    """Answers requests of a `Meeting`: those that can be are computed in one call, with stacked parameters.

    What is remembered are stacks of parameters, as long as these stay the same.
    """

    def __init__(self) -> None:
        self._networks: dict[tuple[Shape, torch.device], Networks] = {}
        self._fixed: dict[tuple[int, ...], tuple[list[WorldModel], Tensors]] = {}
        self._current: dict[Hashable, tuple[list[WorldModel], tuple[int, ...], Tensors]] = {}

    def __call__(self, requests: Sequence[Any]) -> list[Any]:
        """An answer for each request, which are all of one kind; an exception for one that there is none for."""
        kinds: dict[type, Callable[[Sequence[Any]], list[Any]]] = {
            Propose: self._propose,
            Rate: self._rate,
            Update: self._update,
        }
        answer = kinds[type(requests[0])]
        groups: dict[Hashable, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(request.group, []).append(i)
        answers: list[Any] = [None] * len(requests)
        for members in groups.values():
            try:
                asked = [requests[i] for i in members]
                found = answer(asked) if len(asked) > 1 else [asked[0].alone()]
            except Exception as error:  # is that of these alone
                found = [error] * len(members)
            for i, each in zip(members, found, strict=True):
                answers[i] = each
        return answers

    @torch.inference_mode()
    def _propose(self, requests: Sequence[Propose]) -> list[Any]:
        models = [request.model for request in requests]
        networks = self._networks_of(models)
        observations = stack([seen(request.model, request.observation) for request in requests])
        tensors = self._tensors(models)
        if requests[0].noise is None:
            latents = networks.for_each(tensors, lambda model, slow, x: model.encode(x), observations)
            return [(latent, None) for latent in latents]

        def propose(model: WorldModel, slow: object, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
            latent = model.encode(x)
            return latent, model.follow_policy(latent, noise)

        noise = stack([request.noise for request in requests if request.noise is not None])
        latents, proposals = networks.for_each(tensors, propose, observations, noise)
        return [
            (latent, each[..., : model.action_dim])
            for model, latent, each in zip(models, latents, proposals, strict=True)
        ]

    @torch.inference_mode()
    def _rate(self, requests: Sequence[Rate]) -> list[Any]:
        models, bootstrap = [request.model for request in requests], requests[0].bootstrap
        latents = torch.stack([request.latent for request in requests])
        actions = stack([request.actions for request in requests])
        return list(
            self._networks_of(models).for_each(
                self._tensors(models),
                lambda model, slow, latent, actions: model.score(latent, bootstrap)(actions),
                latents,
                actions,
            )
        )

    def _update(self, requests: Sequence[Update]) -> list[Any]:
        # A thread may come last in a mode of its own.
        with torch.inference_mode(False), torch.enable_grad():
            return self._learn(
                [request.learner for request in requests],
                [request.lesson for request in requests],
                [request.noise for request in requests],
            )

    def _learn(self, learners: list[Learner], lessons: list[Lesson], noises: list[Noise]) -> list[Any]:
        """`Learner.update` of each."""
        models, config = [learner.model for learner in learners], learners[0].config
        networks = self._networks_of(models, config.slow_encoder)
        lesson = Lesson(
            stack([seen(model, each.observations) for model, each in zip(models, lessons, strict=True)]),
            *(stack([each[i] for each in lessons]) for i in range(1, len(Lesson._fields))),
        )
        target, policy = stack([each.target for each in noises]), stack([each.policy for each in noises])
        # vmap takes no None.
        members = [x.members for x in noises if x.members is not None]
        several = (torch.stack(members),) if members else ()
        constant = prefixed("model.", self._fixed_of(models))
        constant |= prefixed("slow.", stacked_parameters([learner.slow for learner in learners]))

        # All but the policy.
        mine = prefixed("model.", stacked(models, learned))
        leaves = {
            name: x.requires_grad_()
            for name, x in mine.items()
            if not name.startswith(("model.policy.", "model.norm."))
        }

        def world(model: Any, slow: Any, lesson: Lesson, *noise: Tensor) -> Any:
            return world_loss(model, slow, config, lesson, _noise(*noise))

        terms = networks.for_each(constant | mine, world, lesson, target, policy, *several)
        sound = torch.isfinite(terms.loss.detach() + terms.targets.sum(dim=(1, 2))).tolist()
        self._pass_back(terms.loss, leaves, models)
        norms = [learner.step_world().detach() if fine else None for learner, fine in zip(learners, sound, strict=True)]

        # The policy, on the values as they are now.
        mine = {name: x.detach() for name, x in mine.items()} | prefixed(
            "model.value.", stacked_parameters([model.value for model in models])
        )
        leaves = {name: x.requires_grad_() for name, x in mine.items() if name.startswith("model.policy.")}

        def prior(model: Any, slow: Any, lesson: Lesson, latents: Tensor, scale: Tensor, *noise: Tensor) -> Any:
            return policy_loss(model, config, lesson, latents, _noise(*noise), scale)

        scales = torch.stack([learner.value_scale for learner in learners])
        loss, scales, diagnostics = networks.for_each(
            constant | mine, prior, lesson, terms.latents, scales, target, policy, *several
        )
        self._pass_back(loss, leaves, models)
        found: list[Any] = []
        for i, (learner, norm) in enumerate(zip(learners, norms, strict=True)):
            if norm is None:
                found.append(DivergedError(DIVERGED))
                continue
            learner.step_policy(scales[i].detach())
            metrics = {name: x[i] for name, x in (terms.metrics | diagnostics).items()}
            found.append(Learned(metrics | {"gradient_norm": norm}, terms.errors[i]))
        return found

    def _pass_back(self, losses: Tensor, leaves: Tensors, models: Sequence[WorldModel]) -> None:
        """Gives each model the gradients of its own loss, in the place of those it had."""
        found = torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True)
        # Some come out transposed in memory, and fused AdamW takes a gradient's elements in the order they lie there.
        gradients = {
            name.removeprefix("model."): None if x is None else x.contiguous()
            for name, x in zip(leaves, found, strict=True)
        }
        for i, model in enumerate(models):
            for name, parameter in parameters(model).items():
                if name in gradients:
                    gradient = gradients[name]
                    parameter.grad = None if gradient is None else cut(gradient[i], parameter, in_halves(model, name))

    def _networks_of(self, models: Sequence[WorldModel], slow_encoder: bool = False) -> Networks:
        device = models[0].norm.mean.device
        key = Shape.of(models, slow_encoder), device
        if key not in self._networks:
            self._networks[key] = Networks(key[0]).to(device)
        return self._networks[key]

    def _tensors(self, models: list[WorldModel]) -> Tensors:
        """The models' stacks for computing without gradients; the last ones where nothing has changed since."""
        versions = tuple(
            x._version for model in models for x in (*parameters(model).values(), model.norm.mean, model.norm.var)
        )
        key = alike(models[0])
        if key not in self._current or self._current[key][:2] != (models, versions):
            self._current[key] = models, versions, prefixed("model.", stacked(models, learned))
        return self._current[key][2] | prefixed("model.", self._fixed_of(models))

    def _fixed_of(self, models: list[WorldModel]) -> Tensors:
        key = tuple(id(model) for model in models)
        if key not in self._fixed:
            if len(self._fixed) >= _MOST_FIXED:
                self._fixed.clear()
            with torch.inference_mode(False):  # they are learned with, too
                # The models are kept beside, so that no other takes the place of one.
                self._fixed[key] = models, stacked(models, fixed)
        return self._fixed[key][1]


def _noise(target: Tensor, policy: Tensor, members: Tensor | None = None) -> Noise:
    return Noise(target, policy, members)

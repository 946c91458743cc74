"""Noise whose neighbours in time resemble each other."""

import torch
from jaxtyping import Float
from torch import Tensor


def coloured(white: Float[Tensor, "*S H A"], beta: float) -> Float[Tensor, "*S H A"]:
    """White noise along the second-last dimension, filtered to a power spectrum that falls with frequency**-beta.

    Timmer and König, On generating power law noise (Astronomy and Astrophysics 300, 1995), as used by Pinneri et al.,
    Sample-efficient Cross-Entropy Method for Real-time Planning (arXiv 2008.06389). 0 is white, 1 pink and 2 red.
    Whatever the colour, every element keeps a standard deviation of 1, in theory and not for each sequence by itself:
    dividing a short sequence by the spread it happens to have would make its tails heavy.

    Args:
        white: independent standard normal deviates.
        beta: the exponent, 0 or more. 0 gives `white` back, and so does a sequence of one.

    Returns:
        The filtered noise, of the same shape.
    """
    horizon = white.shape[-2]
    if beta == 0 or horizon == 1:
        return white
    # The mean of a sequence has no frequency; it takes part like the slowest wave that fits.
    wave = torch.fft.rfftfreq(horizon, device=white.device).clamp(min=1 / horizon)
    scale = wave ** (-beta / 2)
    # All waves but the mean and, for an even length, the fastest stand for two frequencies, one of them negative.
    twice = torch.full_like(scale, 2.0)
    twice[0] = 1
    if horizon % 2 == 0:
        twice[-1] = 1
    scale = scale / ((twice * scale**2).sum() / horizon).sqrt()
    return torch.fft.irfft(torch.fft.rfft(white, dim=-2) * scale.unsqueeze(-1), n=horizon, dim=-2)

"""Pictures without a display, fast.

MuJoCo's own renderer decides which OpenGL backend to use when it is first imported, from an environment variable that
most people don't know. Here the backend is chosen when the first picture is asked for, by trying.
"""

import atexit
import functools
import importlib
import os
import subprocess
import sys
import time
import weakref
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from envs.errors import RenderError
from envs.physics import physics

# Where each backend's context is, and what to install on Debian when it does not work.
_BACKENDS = {"egl": "mujoco.egl", "osmesa": "mujoco.osmesa", "glfw": "mujoco.glfw"}
_ADVICE = "install one (on Debian: apt-get install libegl1 libgl1-mesa-dri, or libosmesa6)"
# Multisampling, shadows and reflections cost most of a frame's time in software rendering.
_EXPENSIVE = [
    mujoco.mjtRndFlag.mjRND_SHADOW,
    mujoco.mjtRndFlag.mjRND_REFLECTION,
    mujoco.mjtRndFlag.mjRND_HAZE,
    mujoco.mjtRndFlag.mjRND_FOG,
]
# Cameras to look through, best first; without any of them, a free camera that sees the whole model.
_CAMERAS = ("side", "track", "tracking", "fixed", "cam0")


@functools.cache
def choose_backend() -> str:
    """The OpenGL backend that works here: `egl`, `osmesa` or `glfw`.

    A backend named by the variable MUJOCO_GL is respected; otherwise each is tried in a process of its own, because a
    backend that fails can spoil the process it was loaded in. The choice is put into MUJOCO_GL for child processes.

    Raises:
        RenderError: when the named one, or all of them, fail.
    """
    named = os.environ.get("MUJOCO_GL", "").strip().lower()
    if named:
        if named not in _BACKENDS:
            raise RenderError(
                f"MUJOCO_GL is {named!r}, which renders nothing; unset it, or set it to one of: {', '.join(_BACKENDS)}"
            )
        if not _works(named):
            raise RenderError(f"MUJOCO_GL is {named!r}, but that backend does not work here; unset it, or {_ADVICE}")
        return named
    for backend in _BACKENDS:
        if _works(backend):
            os.environ["MUJOCO_GL"] = backend
            return backend
    raise RenderError(f"no OpenGL backend for rendering works here; {_ADVICE}")


def _works(backend: str) -> bool:
    code = f"""
import mujoco
from {_BACKENDS[backend]} import GLContext
context = GLContext(16, 16)
context.make_current()
mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), mujoco.mjtFontScale.mjFONTSCALE_100).free()
context.free()
"""
    try:
        tried = subprocess.run(
            [sys.executable, "-c", code], check=False, capture_output=True, timeout=60, env=_env(backend)
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0


def _env(backend: str) -> dict[str, str]:
    platform = "" if backend == "glfw" else backend
    return os.environ | {"MUJOCO_GL": backend, "PYOPENGL_PLATFORM": platform}


class Renderer:
    """Draws one MuJoCo model off screen.

    Args:
        model: what to draw.
        width: in pixels.
        height: in pixels.
        fast: leave out multisampling, shadows, reflections and haze.

    Raises:
        RenderError: when no backend works.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int, fast: bool = True) -> None:
        backend = choose_backend()
        self._model, self._rectangle = model, mujoco.MjrRect(0, 0, width, height)
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, height)
        if fast:
            model.vis.quality.offsamples = 0
        # A PyOpenGL platform left over from something else would make MuJoCo refuse the backend that was tried.
        os.environ.update(_env(backend))
        self._gl = importlib.import_module(_BACKENDS[backend]).GLContext(width, height)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        self.close = weakref.finalize(self, _release, self._gl, self._context)
        # A program that ends without closing it must do so before MuJoCo's own exit handler, registered by the import
        # above, shuts OpenGL down; when finalizers come of themselves is left to chance.
        self.close.atexit = False
        atexit.register(self.close)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=2000)
        if fast:
            for flag in _EXPENSIVE:
                self._scene.flags[flag] = False
        self._options, self._camera = mujoco.MjvOption(), _camera(model)
        self._pixels = np.zeros((height, width, 3), np.uint8)

    def draw(self, data: mujoco.MjData) -> NDArray[np.uint8]:
        """A frame (height, width, 3) of the present state."""
        self._gl.make_current()
        catch = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, data, self._options, None, self._camera, catch, self._scene)
        mujoco.mjr_render(self._rectangle, self._scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._rectangle, self._context)
        return self._pixels[::-1].copy()  # OpenGL counts rows from the bottom

    def upload_terrain(self) -> None:
        """Takes over height fields that the model has changed since the last frame."""
        self._gl.make_current()
        for i in range(self._model.nhfield):
            mujoco.mjr_uploadHField(self._model, self._context, i)


def _release(gl: Any, context: mujoco.MjrContext) -> None:
    """Gives a context back."""
    gl.make_current()
    context.free()
    gl.free()


def _camera(model: mujoco.MjModel) -> mujoco.MjvCamera:
    camera = mujoco.MjvCamera()
    names = [model.camera(i).name for i in range(model.ncam)]
    wanted = [i for name in _CAMERAS for i, have in enumerate(names) if have == name]
    if model.ncam:
        camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        camera.fixedcamid = wanted[0] if wanted else 0
    else:
        mujoco.mjv_defaultFreeCamera(model, camera)
    return camera


class Rendered(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Adds `render()`, a frame (height, width, 3) uint8, to a MuJoCo environment of either family."""

    def __init__(self, env: gymnasium.Env[Any, Any], width: int, height: int) -> None:
        RecordConstructorArgs.__init__(self, width=width, height=height)
        super().__init__(env)
        if physics(env) is None:
            raise RenderError(f"{type(env.unwrapped).__name__} is no MuJoCo environment; preplay can draw no other")
        choose_backend()  # a machine that can't draw should say so before an episode is played
        self._width, self._height = width, height
        self._renderer: Renderer | None = None
        self._drawn: mujoco.MjModel | None = None

    @property
    def render_mode(self) -> str:  # type: ignore[override]
        """Always `rgb_array`."""
        return "rgb_array"

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode, perhaps on other terrain."""
        result = self.env.reset(seed=seed, options=options)
        if self._renderer is not None:
            self._renderer.upload_terrain()
        return result

    def render(self) -> Any:
        """The present state as a frame (height, width, 3)."""
        found = physics(self.env)
        assert found is not None
        model, data = found
        if self._drawn is not model:  # some tasks build another model when they reset
            self._free()
            self._renderer, self._drawn = Renderer(model, self._width, self._height), model
        assert self._renderer is not None
        return self._renderer.draw(data)

    def close(self) -> None:
        """Closes the renderer with the environment."""
        self._free()
        self.env.close()

    def _free(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def render_speed(task: str = "walker-walk", frames: int = 60, fast: bool = True) -> float:
    """Frames of 320 x 240 pixels a second.

    Raises:
        RenderError: when no backend works.
    """
    from envs.make import make

    env = make(task, seed=0)
    env.reset()
    found = physics(env)
    assert found is not None
    renderer = Renderer(found[0], 320, 240, fast)
    try:
        renderer.draw(found[1])
        began = time.perf_counter()
        for _ in range(frames):
            renderer.draw(found[1])
        return frames / (time.perf_counter() - began)
    finally:
        renderer.close()
        env.close()

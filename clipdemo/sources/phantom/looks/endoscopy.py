"""What an endoscope makes of the bowel."""

from __future__ import annotations

import numpy as np

from clipdemo.sources.phantom.canvas import Array, between, blob, coverage, grain, value_noise
from clipdemo.sources.phantom.looks.painting import (
    Colour,
    Planes,
    clipped,
    covers,
    frame_grid,
    paint_over,
    ripples,
    rounded,
    stacked,
    varied,
    vignette,
)
from clipdemo.sources.phantom.scene import Layer, Scene


def endoscopy(scene: Scene, rng: np.random.Generator) -> Array:
    """A wet pink wall lit from the camera: folds shade what lies behind them, the lumen is dark, wet spots flash."""
    pixel = scene.grid.pixel
    base = varied(rng, (0.88, 0.46, 0.40) if rng.random() < 0.75 else (0.88, 0.52, 0.37), 0.1)
    patch = value_noise(rng, scene.size, 7)
    shade = np.float32(1) + patch * np.float32(0.07) + value_noise(rng, scene.size, 24) * np.float32(0.04)
    over: list[Layer] = []
    for layer in scene.layers[1:]:
        if layer.tissue == "mucosa":
            shade = _behind_fold(shade, layer, between(rng, 0.35, 0.6))
        else:
            over.append(layer)
    lumen = next(layer for layer in over if layer.tissue == "cavity")
    away = np.maximum(lumen.shape, np.float32(0))
    shade = shade * (away + np.float32(0.12)) / (away + np.float32(between(rng, 0.3, 0.55))) * np.float32(1.45)
    wet = _wet_spots(shade, patch, rng, scene)
    planes = [shade * np.float32(c) for c in base]
    planes[1] = planes[1] + (shade - np.float32(0.6)) * np.float32(0.08)
    for layer in over:
        if layer.tissue == "gland":
            paint_over(planes, np.float32(0.8) - rounded(layer.shape, 0.15) * np.float32(0.8), (0.42, 0.14, 0.11))
        elif layer.tissue == "cavity":
            paint_over(planes, covers(layer, pixel), (0.10, 0.03, 0.02))
        else:
            wet = _paint_on_wall(planes, layer, scene, shade, wet, base, rng)
    light = vignette(scene, between(rng, -0.2, 0.2), between(rng, -0.2, 0.2), between(rng, 0.15, 0.6))
    noise = grain(rng, scene.size) * np.float32(between(rng, 0.008, 0.02))
    planes = [(p * light + noise) + wet for p in planes]
    return stacked(_scope_frame(scene, rng, planes))


def _behind_fold(shade: Array, layer: Layer, deep: float) -> Array:
    """A fold's edge catches the light; just behind it, towards the lumen, it is dark."""
    inside = coverage(layer.shape, layer.softness)
    hidden = np.float32(deep) * (np.float32(1) - rounded(layer.shape, 0.3)) * inside
    rim = np.maximum(np.float32(1) - np.abs(layer.shape - np.float32(0.035)) * np.float32(1 / 0.06), np.float32(0))
    return shade * (np.float32(1) - hidden) + rim * np.float32(0.12)


def _wet_spots(shade: Array, patch: Array, rng: np.random.Generator, scene: Scene) -> Array:
    """Small sharp reflections where the wall happens to face the lamp."""
    bumps = ripples(rng, scene.size) * np.float32(0.5) + patch * np.float32(0.55)
    spots = (bumps + shade * np.float32(0.35) - np.float32(between(rng, 0.92, 1.2))) * np.float32(6)
    return clipped(spots) * np.float32(0.7)


def _paint_on_wall(
    planes: Planes, layer: Layer, scene: Scene, shade: Array, wet: Array, base: Colour, rng: np.random.Generator
) -> Array:
    """Paint a finding or vessels; returns the reflections with the finding's own."""
    cover = covers(layer, scene.grid.pixel)
    if layer.tissue == "mass":
        dark = np.maximum(
            np.float32(1) - np.maximum(layer.shape, np.float32(0)) * np.float32(9), np.float32(0)
        ) * np.float32(0.45)
        planes[:] = [p * (np.float32(1) - dark) for p in planes]  # the shadow it throws
        dome = rounded(layer.shape, 0.2)
        lit = np.float32(0.55) + dome * np.float32(0.5) + value_noise(rng, scene.size, 20) * np.float32(0.07)
        paint_over(
            planes, cover, varied(rng, (base[0] * 1.05, base[1] * between(rng, 0.75, 1.1), base[2] * 0.95), 0.06), lit
        )
        return wet * (np.float32(1) - cover) + _highlight(layer.shape, cover, rng, scene)
    colour = {"fat": (0.93, 0.87, 0.68), "blood": (0.58, 0.04, 0.03), "artery": (0.62, 0.18, 0.16)}.get(
        layer.tissue, base
    )
    if layer.tissue == "fat":
        lit = np.float32(0.85) + value_noise(rng, scene.size, 16) * np.float32(0.15)
    else:
        lit = shade * np.float32(0.5) + np.float32(0.5)
    paint_over(planes, cover, colour, lit)
    return wet


def _highlight(shape: Array, cover: Array, rng: np.random.Generator, scene: Scene) -> Array:
    """One bright reflection on a dome, off its middle."""
    spots = value_noise(rng, scene.size, 16) - np.float32(0.5)
    return clipped(spots * np.float32(5)) * rounded(shape + np.float32(0.05), 0.15) * cover * np.float32(0.8)


def _scope_frame(scene: Scene, rng: np.random.Generator, planes: Planes) -> Planes:
    """The black mask of the endoscope's screen: none, an octagon, a circle, or rounded corners."""
    luck = rng.random()
    if luck < 0.3:
        return planes
    frame = frame_grid(scene)
    x, y = np.abs(frame.x), np.abs(frame.y)
    half = between(rng, 0.88, 0.99)
    if luck < 0.65:
        edge = np.maximum(
            np.maximum(x, y) - np.float32(half), (x + y - np.float32(half * between(rng, 1.4, 1.7))) * np.float32(0.707)
        )
    elif luck < 0.85:
        edge = np.sqrt(x * x + y * y) - np.float32(half)
        edge = np.maximum(edge, y - np.float32(between(rng, 0.75, 1.0)))
    else:
        corners = ((1, 0), (0.87, 0.87), (0, 1), (-0.87, 0.87), (-1, 0), (-0.87, -0.87), (0, -1), (0.87, -0.87))
        edge = blob(frame, [(a * 0.97, b * 0.97) for a, b in corners])
    inside = coverage(edge, 0.025)
    return [p * inside for p in planes]

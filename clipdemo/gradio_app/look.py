"""Colours, type and layout of the page."""

from __future__ import annotations

from clipdemo.gradio_app.framework import gr

THEME = gr.themes.Soft(
    primary_hue="emerald",
    font=[gr.themes.Font("system-ui"), gr.themes.Font("sans-serif")],
    font_mono=[gr.themes.Font("ui-monospace"), gr.themes.Font("monospace")],
).set(
    button_primary_background_fill="#0B7A5E", button_primary_background_fill_dark="#149C78",
    block_border_width="1px", block_border_color="*neutral_300", block_border_color_dark="*neutral_600",
    button_border_width="1px", button_secondary_border_color="*neutral_300",
)  # fmt: skip
CSS = """
.example img {width: 100%; border-radius: 8px; display: block}
.example {padding: 0 !important}
footer {opacity: .8}
@media (max-width: 640px) {.examples {display: grid !important; grid-template-columns: repeat(3, 1fr)} 
.examples > * {min-width: 0 !important}}
"""

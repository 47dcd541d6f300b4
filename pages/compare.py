"""Compare: the paper's table for one's own models, beside the paper's own numbers, and class by class."""

from clipdemo.comparison import load_comparison
from clipdemo.ui import compare, state, widgets

LEAD = (
    "The same test pictures for all models: what does each of them show? Top-1 counts answers that "
    "are right at once, top-3 those among the model’s first three."
)

with widgets.page("Compare", LEAD):
    workspace = state.workspace()
    names = workspace.names("comparisons")
    if not names:
        widgets.empty(
            "**There is no comparison yet.** Run the whole experiment on Home; it draws a sample, fine-tunes both "
            "models, measures all three and brings you back here.",
            "home", "Run the experiment", ":material/home:",
        )  # fmt: skip
    if names and (chosen := widgets.choose("comparison", names, "Comparison")):
        comparison = load_comparison(workspace, chosen)
        compare.headline(comparison)
        compare.beside_the_paper(comparison)
        compare.class_by_class(comparison)
        compare.pictures_and_captions(comparison)
        compare.again(workspace, comparison)
        widgets.synthetic_note(comparison.synthetic)

"""Everything shown in JupyterLab: figures, sound, the player, forms and panels.

The names below can be imported from here; their modules are loaded on first use.
"""

from importlib import import_module

_HOMES = {
    "course.notebook": ("open_corpus", "choose_piece", "choose_prime", "train", "baseline_nlls", "verdict"),
    "course.exercises": ("check",),
    "player": ("Player",),
    "figures.rolls": ("plot_roll", "plot_rolls", "plot_comparison"),
    "figures.architecture": ("plot_architecture", "plot_loop"),
    "figures.moment_plots": (
        "plot_gates",
        "plot_attention",
        "plot_attended",
        "plot_copied",
        "plot_next_pitches",
        "moment_figure",
    ),
    "figures.moments": (
        "lstm_gates",
        "lstm_inputs",
        "attention_at",
        "copy_at",
        "copied_at",
        "chord_at",
        "next_pitches",
    ),
    "figures.charts": ("plot_bars", "plot_candidates", "plot_ladder", "plot_losses", "plot_validation"),
    "panels.runs": ("load_runs", "show_runs"),
    "panels.forms": ("form", "follow"),
    "panels.composing": ("GenerationPanel", "ComposePanel"),
    "panels.explorer": ("explore_moments",),
    "course.comparisons": ("compare", "plot_splits"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

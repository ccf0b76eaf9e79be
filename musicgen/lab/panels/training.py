"""Training with a live figure, either in a cell or in a panel that can also stop and compare runs."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from IPython.display import HTML as Html
from IPython.display import display
from ipywidgets import HTML, Box, FloatProgress, Layout, Tab

from musicgen.lab.figures.charts import plot_training, plot_validation
from musicgen.lab.figures.html import figure_html
from musicgen.lab.panels.forms import Form
from musicgen.lab.panels.panel import Message, Panel, button
from musicgen.lab.panels.runs import load_runs, runs_table
from musicgen.training import Trainer

REDRAW_SECONDS = 1.5
DRAWING_SHARE = 0.05  # of the time of a run: on a slow or busy computer the figure is drawn less often
HOW_TO = "<i>A panel to train with: run this cell in JupyterLab.</i>"


class LiveLossPlot:
    """A callback of `Trainer.run` that records the updates, and redraws the losses every 1.5 seconds or less often.

    Parameters
    ----------
    baselines : dict of str to float
        Losses to beat, by name, in nats per frame.
    show : callable
        Takes the finished share of the run (0..1), a line about its progress, and the figure as HTML.
    stop : callable
        Returns True if the run should end.
    updates : list of (int, float, float), optional
        Earlier updates of a resumed run: the number, loss and learning rate of each.
    """

    def __init__(
        self,
        baselines: dict,
        show: Callable[[float, str, str], None],
        stop: Callable[[], bool] = lambda: False,
        updates: list[tuple[int, float, float]] | None = None,
    ):
        self.baselines = baselines
        self.show = show
        self.stop = stop
        self.updates = updates or []
        self.n_before = len(self.updates)
        self.before: tuple[float, int] | None = None  # loss_sum and n_frames
        self.started = time.monotonic()
        self.next_drawing = -np.inf

    def __call__(self, trainer: Trainer) -> bool:
        """Record an update, and return whether to stop the run."""
        at = trainer.progress
        # Both restart at 0 after a validation. If a run is resumed within an epoch, its first loss is unknown.
        loss_sum, n_frames = self.before or ((at.loss_sum, at.n_frames) if at.batch > 1 else (0.0, 0))
        if at.n_frames > n_frames:
            loss = (at.loss_sum - loss_sum) / (at.n_frames - n_frames)
            self.updates.append((at.updates, loss, trainer.optimizer.param_groups[0]["lr"]))
        self.before = (at.loss_sum, at.n_frames)
        if time.monotonic() > self.next_drawing:
            self.draw(trainer)
        return self.stop()

    def draw(self, trainer: Trainer) -> None:
        """Draw the losses and the progress of the run."""
        began = time.monotonic()
        at = trainer.progress
        config = trainer.config
        n_updates = max(at.updates, trainer.batches.n_batches(at.epoch) * config.n_epochs)
        elapsed = time.monotonic() - self.started
        ended = at.epoch == config.n_epochs or self.stop()
        left = elapsed / max(1, len(self.updates) - self.n_before) * (n_updates - at.updates)
        clock = f"after {_minutes(elapsed)}" if ended else f"{_minutes(left)} left"
        line = f"epoch {min(at.epoch + 1, config.n_epochs)} of {config.n_epochs}, update {at.updates}, {clock}"
        title = f"{trainer.best_path.parent.name}: {line}"
        ax = plot_training(np.reshape(self.updates, (-1, 3)), at.history, self.baselines, n_updates, title)
        self.show(at.updates / max(1, n_updates), line, figure_html(ax))
        now = time.monotonic()
        self.next_drawing = now + max(REDRAW_SECONDS, (now - began) / DRAWING_SHARE)


def train_and_watch(trainer: Trainer, baselines: dict, resume: bool = False) -> tuple[list[dict], np.ndarray]:
    """Train with a live figure in the cell; the notebook's stop button saves and ends the run.

    Parameters
    ----------
    trainer : Trainer
        Its run is started or resumed.
    baselines : dict of str to float
        Losses to beat, by name, in nats per frame.
    resume : bool
        As in `Trainer.run`.

    Returns
    -------
    history : list of dict
        As in `Trainer.run`.
    updates : numpy.ndarray, shape (n, 3)
        The number, the loss in nats per frame and the learning rate of each update.
    """
    handle = display(display_id=True)  # None outside of a notebook
    follower = LiveLossPlot(baselines, lambda done, line, figure: handle and handle.update(Html(figure)))
    history = trainer.run(resume, follower)
    follower.draw(trainer)
    return history, np.reshape(follower.updates, (-1, 3))


class TrainingPanel(Panel):
    """A panel to configure, start, stop, watch and compare training runs.

    The run has its own thread, so that the notebook stays responsive. The panel's stop button ends it, not the
    notebook's. Only one run is active at a time: starting another one, in any panel, ends the run before.

    Parameters
    ----------
    make_trainer : callable
        Takes the name of a new run, then one config for each form in their order, and returns a `Trainer`.
    forms : dict of str to Form
        By title.
    baselines : dict of str to float
        Losses to beat, by name, in nats per frame.
    folder : Path or str
        Where the runs are kept, each in a folder of its own.
    """

    running: tuple[threading.Thread, threading.Event] | None = None

    def __init__(
        self, make_trainer: Callable[..., Trainer], forms: dict[str, Form], baselines: dict, folder: Path | str
    ):
        self.make_trainer = make_trainer
        self.forms = forms
        self.baselines = baselines
        self.folder = Path(folder)
        self.trainer: Trainer | None = None
        self.follower: LiveLossPlot | None = None
        self.start = button("Train", "play", "start a run with these settings", self._start, "primary")
        self.stop = button(
            "Stop", "stop", "end the run after this update, and keep its checkpoint", self._stop, "danger"
        )
        self.resume = button("Go on", "forward", "continue the run that was stopped", self._resume)
        self.bar = FloatProgress(max=1, layout=Layout(width="160px"))
        self.message = Message()
        self.figure, self.table, self.curves = (HTML(layout=Layout(max_width="800px")) for _ in range(3))
        row = Layout(align_items="center", grid_gap="6px", margin="6px 0", flex_flow="row wrap", overflow="visible")
        controls = Box([self.start, self.stop, self.resume, self.bar, self.message], layout=row)
        tab = Tab(list(forms.values()), titles=list(forms))
        super().__init__([tab, controls, self.figure, self.table, self.curves], self._instead)
        self.add_class("musicgen-training")
        self._idle()
        self._show_runs()

    def _start(self) -> None:
        with self.message.errors():
            configs = [each.value for each in self.forms.values()]
            if None in configs:
                raise ValueError("these settings contradict each other: see the red line below them")
            numbers = (path.name.removeprefix("run-") for path in self.folder.glob("run-*"))
            taken = [int(number) for number in numbers if number.isdecimal()]
            self.trainer = self.make_trainer(f"run-{max(taken, default=0) + 1}", *configs)
            self._run(resume=False)

    def _resume(self) -> None:
        with self.message.errors():
            self._run(resume=True)

    def _stop(self) -> None:
        if self.running:
            self.running[1].set()
            self.message.tell("stopping after this update ...")

    def _run(self, resume: bool) -> None:
        """Stop the running training, if any, and start a thread that trains."""
        if TrainingPanel.running:
            TrainingPanel.running[1].set()
            TrainingPanel.running[0].join()
        stop = threading.Event()
        thread = threading.Thread(target=self._work, args=(self.trainer, stop, resume), daemon=True)
        TrainingPanel.running = thread, stop
        self.start.disabled = True
        self.stop.disabled = False
        self.resume.disabled = True
        thread.start()

    def _work(self, trainer: Trainer, stop: threading.Event, resume: bool) -> None:
        """Run the training and show its progress; called in a thread of its own.

        Figures are drawn without pyplot, and nothing is printed, because neither works in a thread.
        """
        before = self.follower.updates if resume else None
        self.follower = LiveLossPlot(self.baselines, self._show, stop.is_set, before)
        with self.message.errors():
            trainer.run(resume, self.follower)
            self.follower.draw(trainer)
            self._show_runs()
        self._idle()

    def _idle(self) -> None:
        at = self.trainer and self.trainer.progress
        self.start.disabled = False
        self.stop.disabled = True
        self.resume.disabled = not at or at.epoch >= self.trainer.config.n_epochs

    def _show(self, done: float, line: str, figure: str) -> None:
        self.bar.value = done
        self.figure.value = figure
        self.message.tell(line)

    def _show_runs(self) -> None:
        """Show a table and the losses of all runs in the folder."""
        runs = load_runs(self.folder)
        if runs:
            self.table.value = f'<div style="overflow-x: auto">{runs_table(runs)}</div>'
            self.curves.value = figure_html(plot_validation({run.name: run.history for run in runs}, self.baselines))

    def _instead(self) -> str:
        forms = "".join(f"<h4>{title}</h4>{each.instead()}" for title, each in self.forms.items())
        return f"<p>{HOW_TO}</p>{forms}{self.table.value}{self.curves.value}"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"

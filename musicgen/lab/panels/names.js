// Gives each control of a panel a name for screen readers, since Jupyter's widgets leave most of them without one:
// a slider or box is named by the label in its row, and the label's tooltip describes it. Loads nothing from anywhere.

const CONTROLS = "input, select, textarea, [role=slider], [contenteditable=true]";

function labelOf(control) {
  return control.closest(".musicgen-row")?.querySelector(".musicgen-label")
    ?? control.closest(".widget-inline-hbox")?.querySelector(".widget-label");
}

function setOnce(element, attribute, value) {
  if (value && element.getAttribute(attribute) !== value) element.setAttribute(attribute, value);
}

function nameControls(panel) {
  for (const control of panel.querySelectorAll(CONTROLS)) {
    const label = labelOf(control);
    setOnce(control, "aria-label", label?.textContent.trim());
    setOnce(control, "aria-description", label?.querySelector("[title]")?.title);
  }
  for (const kept of panel.querySelectorAll(".musicgen-kept")) { // each has a Play, a Save and a Remove
    setOnce(kept, "role", "group");
    setOnce(kept, "aria-label", kept.querySelector("b")?.textContent);
  }
  for (const message of panel.querySelectorAll(".musicgen-live")) setOnce(message, "role", "status");
  for (const bar of panel.querySelectorAll(".widget-hprogress")) {
    setOnce(bar, "role", "progressbar");
    setOnce(bar, "aria-label", "progress");
  }
}

/** Name the controls of the panel around `el`, now and when controls are added. */
function render({ el }) {
  let frame = 0;
  const observer = new MutationObserver((_, self) => nameControls(self.panel));
  const begin = () => {
    observer.panel = el.closest(".musicgen-panel");
    if (!observer.panel) { // not in the page yet
      frame = requestAnimationFrame(begin);
      return;
    }
    nameControls(observer.panel);
    observer.observe(observer.panel, { childList: true, subtree: true });
  };
  begin();
  return () => {
    cancelAnimationFrame(frame);
    observer.disconnect();
  };
}

export default { render };

// Each figure that asks for a view gets it in its own place; the printed figure stays at hand.

function mount(box) {
  const source = document.getElementById(`explore-${box.dataset.view}`);
  const image = box.querySelector("figure img");
  if (!source || !image) return; // a study with nothing to explore there
  // The image with the box that it may stand in, whichever route made the page.
  const still = [...image.closest("figure").children].find((part) => part.contains(image));
  const live = views[box.dataset.view](JSON.parse(source.textContent));
  const other = element("button", { type: "button", class: "x-other" }, "Show the printed figure");
  const frame = element("div", { class: "x-live" },
    element("div", { class: "x-head" },
      element("span", { class: "x-title" }, "Interactive"), other), live);
  const show = (interactive) => {
    live.hidden = !interactive;
    still.hidden = interactive;
    other.textContent = interactive ? "Show the printed figure" : "Back to the interactive one";
  };
  other.addEventListener("click", () => show(live.hidden));
  still.before(frame);
  show(true);
}

for (const box of document.querySelectorAll(".explore[data-view]")) {
  try {
    mount(box);
  } catch (error) {
    reportError(error); // the figure stays, and so do the other views
  }
}

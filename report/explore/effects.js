// What each single choice changes: a line for each arm, and its seeds where the reader points.

views.effects = (data) => {
  const about = new Map(data.experiments.map((one) => [one.name, one]));
  const state = { experiment: "", byEffect: false };

  // The axis is linear between -1 and 1 point and logarithmic beyond, as in the printed figure.
  function bent(points) {
    const size = Math.abs(points) / data.linear;
    return Math.sign(points) * (size <= 1 ? size : 1 + Math.log10(size));
  }
  const reached = data.arms.flatMap((arm) => [
    arm.difference - arm.half_width, arm.difference + arm.half_width,
    ...arm.seeds.map((seed) => seed.accuracy - seed.standard)]).map(bent);
  const low = Math.min(Math.min(...reached) - 0.1, -1);
  const high = Math.max(Math.max(...reached) + 0.1, 1);
  const at = (points) => (100 * (bent(points) - low)) / (high - low); // per cent of the width
  const signed = (value, digits) =>
    `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(digits)}`;
  const ticks = [0, ...data.ticks.flatMap((tick) => [tick, -tick])]
    .filter((tick) => bent(tick) >= low && bent(tick) <= high);

  const tip = element("div", {
    class: "x-tip", role: "tooltip", id: `explore-tip-${++groups}`, hidden: true,
  });
  const body = element("tbody");
  const rows = data.arms.map(rowOf);
  const chart = element("div", { class: "x-chart" },
    element("table", { class: "x-effects-table" },
      element("caption", { class: "x-hidden" },
        "Difference of test accuracy of each arm to its reference, in points"),
      element("thead", {}, element("tr", {},
        element("th", { scope: "col" }, "Arm"),
        element("th", { scope: "col" }, "Difference and 95\u00a0% interval", axis()),
        element("th", { scope: "col", class: "x-number" }, "Points"))),
      body),
    tip);

  function axis() {
    const node = element("div", { class: "x-axis", "aria-hidden": true }), taken = [];
    for (const tick of ticks) { // from zero outwards, where there is room
      const share = at(tick);
      if (taken.some((other) => Math.abs(other - share) < 15)) continue;
      taken.push(share);
      const mark = element("span", {}, tick ? signed(tick, 0) : "0");
      mark.style.left = `${share}%`;
      node.append(mark);
    }
    return node;
  }

  /** The interval of an arm and its middle; the seeds are seen where the reader points. */
  function strip({ difference, half_width: half, clear, colour, seeds }) {
    const x = (points) => `${at(points).toFixed(2)}%`;
    const middle = { cy: "50%", cx: x(difference), r: 4.5, stroke: colour };
    return drawn("svg", { class: "x-strip", "aria-hidden": true },
      ...ticks.map((tick) => drawn("line", {
        class: tick ? "x-grid" : "x-zero", x1: x(tick), x2: x(tick), y1: 0, y2: "100%",
      })),
      drawn("line", {
        x1: x(difference - half), x2: x(difference + half), y1: "50%", y2: "50%",
        stroke: colour, "stroke-width": 2,
      }),
      ...seeds.map((seed) => drawn("circle", {
        class: "x-seed", cx: x(seed.accuracy - seed.standard), cy: "50%", r: 2.6,
      })),
      clear ? drawn("circle", { ...middle, class: "x-mean", fill: colour })
        : drawn("circle", { ...middle, class: "x-mean x-open" }));
  }

  function rowOf(arm, index) {
    const button = element("button", { type: "button", class: "x-arm", tabindex: -1 }, arm.label);
    const row = element("tr", { class: "x-row" },
      element("th", { scope: "row" }, button),
      element("td", { class: "x-plot" }, strip(arm)),
      element("td", { class: "x-number" }, arm.text));
    row.addEventListener("pointerenter", () => point(index));
    row.addEventListener("pointerleave", (event) => {
      if (!tip.contains(event.relatedTarget)) point(null);
    });
    button.addEventListener("focus", () => point(index));
    button.addEventListener("blur", () => point(null));
    button.addEventListener("click", () => point(index));
    return { arm, row, button };
  }
  tip.addEventListener("pointerleave", () => point(null));

  /** Show the figures of one arm beside its line; null takes them away. */
  function point(index) {
    rows.forEach(({ row, button }, other) => {
      row.classList.toggle("x-active", other === index);
      button.removeAttribute("aria-describedby");
    });
    tip.hidden = index === null;
    if (index === null) return;
    const { arm, row, button } = rows[index], { title, reference } = about.get(arm.experiment);
    const line = (...content) => element("p", {}, ...content);
    button.setAttribute("aria-describedby", tip.id);
    tip.replaceChildren(
      line(element("b", {}, `${title}: ${arm.label}`), ` against ${reference}`),
      line(`${arm.text} points; the 95\u00a0% interval ${arm.clear ? "excludes" : "holds"} zero.`),
      line(`Test accuracy ${arm.accuracy} against ${arm.standard}.`),
      ...arm.seeds.map(({ seed, accuracy, standard }) => line(
        `Seed ${seed}: ${accuracy.toFixed(2)} against ${standard.toFixed(2)}, `
        + signed(accuracy - standard, 2))));
    const below = row.offsetTop + row.offsetHeight, height = tip.offsetHeight;
    const fits = below + height <= chart.clientHeight || row.offsetTop < height;
    tip.style.top = `${fits ? below : row.offsetTop - height}px`;
  }

  /** The rows that are asked for, in the order that is asked for. */
  function listed() {
    const found = rows.filter(({ arm }) =>
      !state.experiment || arm.experiment === state.experiment);
    return state.byEffect ? found.sort((a, b) => a.arm.difference - b.arm.difference) : found;
  }

  function show() {
    point(null);
    const shown = listed(), parts = [];
    let heading = null;
    shown.forEach(({ arm, row, button }, index) => {
      const { title, reference } = about.get(arm.experiment);
      if (!state.byEffect && arm.experiment !== heading) {
        heading = arm.experiment;
        parts.push(element("tr", { class: "x-group" },
          element("th", { colspan: 3, scope: "colgroup" },
            title, element("span", {}, ` against ${reference}`))));
      }
      button.replaceChildren(arm.label, ...(state.byEffect ? [element("small", {}, title)] : []));
      button.tabIndex = index ? -1 : 0;
      parts.push(row);
    });
    body.replaceChildren(...parts);
    said.textContent = `${shown.length} of ${rows.length} arms, `
      + `${shown.filter(({ arm }) => arm.clear).length} with an interval that excludes zero.`;
  }

  // One stop of the Tab key; the arrow keys go from arm to arm, Escape takes the figures away.
  chart.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return point(null);
    const shown = listed(), now = shown.findIndex(({ button }) => button === event.target);
    const steps = { ArrowDown: now + 1, ArrowUp: now - 1, Home: 0, End: shown.length - 1 };
    const next = steps[event.key];
    if (now < 0 || next === undefined) return undefined;
    event.preventDefault();
    if (!shown[next]) return undefined;
    shown[now].button.tabIndex = -1;
    shown[next].button.tabIndex = 0;
    return shown[next].button.focus();
  });

  const said = element("p", { class: "x-say", "aria-live": "polite" });
  const select = element("select", {}, element("option", { value: "" }, "All experiments"),
    ...data.experiments.map(({ name, title }) => element("option", { value: name }, title)));
  select.addEventListener("change", () => { state.experiment = select.value; show(); });
  const order = choice({
    legend: "Order",
    items: [{ label: "by experiment" }, { label: "by difference" }],
    pick: (index) => { state.byEffect = index === 1; show(); },
  });
  order.check(0);
  show();
  return element("div", { class: "x-effects" },
    element("p", { class: "x-hint" },
      "Point at an arm, or move through them with the arrow keys, to see its seeds."),
    element("div", { class: "x-bar" },
      element("label", { class: "x-choice" },
        element("span", { class: "x-legend" }, "Experiment"), select),
      order.node),
    chart, said);
};

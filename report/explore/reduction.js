// Fewer tokens: a digit, a way, a setting and a block; what is merged or dropped by then.

views.reduction = (data) => {
  const { blocks, patches, pixels } = data, GONE = 65535;
  const roots = numbers(data.roots), digits = images(data), count = data.labels.length;
  const side = Math.round(Math.sqrt(patches)), patch = pixels / side;
  const ways = data.ways.map(([name]) => name), named = new Map(data.ways);
  const plain = data.settings.findIndex(({ way }) => way === "none");
  const faces = digits.map((image) =>
    digitCanvas(image, pixels, [255, 255, 255], [20, 22, 26]).toDataURL());
  const state = { digit: Math.min(3, count - 1), way: 0, step: 0, block: blocks - 1, patch: null };

  /** The settings of a way, from all tokens to the fewest multiply-accumulates. */
  function settingsOf(way) {
    const own = data.settings.map((_, i) => i).filter((i) => data.settings[i].way === way);
    const ratio = (i) => data.settings[i].macs_ratio;
    return [plain, ...own.sort((a, b) => ratio(b) - ratio(a))];
  }
  const setting = () => settingsOf(ways[state.way])[state.step];

  /** For each patch the first patch of the token that it is part of after a block. */
  function rootsAt(block) {
    const start = ((setting() * count + state.digit) * blocks + block) * patches;
    return roots.subarray(start, start + patches);
  }

  /** How many patches each token stands for; those that were dropped count under GONE. */
  function sizesOf(found) {
    const sizes = new Map();
    found.forEach((root) => sizes.set(root, (sizes.get(root) ?? 0) + 1));
    return sizes;
  }

  /** A colour for each token that patches are merged into, the same from block to block. */
  function tones() {
    const merged = new Set();
    for (let block = 0; block < blocks; block++) {
      for (const [root, size] of sizesOf(rootsAt(block))) {
        if (size > 1 && root !== GONE) merged.add(root);
      }
    }
    // Steps of the golden angle keep neighbours in this order far apart, however many there are.
    return new Map([...merged].sort((a, b) => a - b).map((root, i) =>
      [root, `hsl(${Math.round(205 + 137.5 * i) % 360} 75% ${i % 2 ? 62 : 48}%)`]));
  }

  /** The digit under its patches; `marked` is the root of a token to be set off. */
  function picture(block, tone, marked = GONE) {
    const found = rootsAt(block), sizes = sizesOf(found), above = [];
    const node = drawn("svg", { viewBox: `0 0 ${pixels} ${pixels}`, "aria-hidden": true },
      drawn("image", { href: faces[state.digit], width: pixels, height: pixels }));
    found.forEach((root, at) => {
      const [x, y] = [(at % side) * patch, Math.floor(at / side) * patch];
      const box = { x, y, width: patch, height: patch };
      if (root === GONE) {
        const cross = `M${x} ${y}l${patch} ${patch}M${x + patch} ${y}l${-patch} ${patch}`;
        node.append(drawn("rect", { ...box, class: "x-gone" }),
          drawn("path", { class: "x-cross", d: cross }));
      } else if (sizes.get(root) > 1) {
        node.append(drawn("rect", { ...box, class: "x-merged", fill: tone.get(root) }));
      }
      if (root === marked && root !== GONE) {
        above.push(drawn("rect", { ...box, class: "x-marked", stroke: data.mark }));
      }
    });
    node.append(drawn("path", { class: "x-border", d: borders(found) }), ...above);
    return node;
  }

  /** The lines between patches of different tokens. */
  function borders(found) {
    const parts = [];
    found.forEach((root, at) => {
      const [x, y] = [(at % side) + 1, Math.floor(at / side) + 1];
      if (x < side && found[at + 1] !== root) {
        parts.push(`M${x * patch} ${(y - 1) * patch}v${patch}`);
      }
      if (y < side && found[at + side] !== root) {
        parts.push(`M${(x - 1) * patch} ${y * patch}h${patch}`);
      }
    });
    return parts.join("");
  }

  const frame = element("div", { class: "x-frame" });
  const map = choice({
    legend: "Patch that is asked about", hidden: true, hover: true, columns: side,
    items: Array.from({ length: patches }, (_, at) => ({ label: place(at, side), face: "" })),
    pick: (at) => { state.patch = at; showBlock(); },
  });
  map.node.classList.add("x-map");
  map.node.style.gridTemplateColumns = `repeat(${side}, minmax(0, 1fr))`;
  map.node.append(frame);

  const small = Array.from({ length: blocks }, () => element("span", { class: "x-frame" }));
  const progress = choice({
    legend: "After block", hidden: true,
    items: small.map((face, block) => ({
      label: `after block ${block + 1}`,
      face: element("span", {}, face,
        element("span", { class: "x-heading", "aria-hidden": true }, `block ${block + 1}`)),
    })),
    pick: (block) => { state.block = block; showBlock(); },
  });
  progress.node.classList.add("x-progress");

  const digit = digitChoice(data, digits, (index) => { state.digit = index; show(); });
  const way = choice({
    legend: "Way",
    items: ways.map((name) => ({ label: named.get(name) })),
    pick: (index) => {
      const ratio = data.settings[setting()].macs_ratio;
      const far = settingsOf(ways[index]).map((i) => Math.abs(data.settings[i].macs_ratio - ratio));
      state.way = index;
      state.step = far.indexOf(Math.min(...far)); // the setting that costs about as much
      show();
    },
  });
  const slider = element("input", {
    type: "range", min: 0, step: 1, "aria-label": "Setting, from all tokens to the fewest",
  });
  slider.addEventListener("input", () => { state.step = Number(slider.value); show(); });
  const chosen = element("output", { class: "x-chosen" });
  const figures = element("dl", { class: "x-figures" });
  const said = element("p", { class: "x-say", "aria-live": "polite" });

  /** Everything: after another digit, way or setting. */
  function show() {
    const one = data.settings[setting()], tone = tones();
    slider.max = settingsOf(ways[state.way]).length - 1;
    slider.value = state.step;
    slider.setAttribute("aria-valuetext", one.setting);
    chosen.textContent = one.setting;
    const printed = [
      ["Test accuracy", one.accuracy],
      ["Difference", one.way === "none" ? one.difference : `${one.difference} points`],
      ["Multiply-accumulates", `${one.macs} (${percent(one.macs_ratio)})`],
      ["Images per second", `${one.speed} times as many`],
      ["Tokens left, mean", one.left.at(-1).toFixed(1)],
    ];
    figures.replaceChildren(...printed.flatMap(([name, value]) =>
      [element("dt", {}, name), element("dd", {}, value)]));
    small.forEach((face, block) => face.replaceChildren(picture(block, tone)));
    showBlock();
  }

  /** The large map alone: after another block or patch. */
  function showBlock() {
    const found = rootsAt(state.block);
    const marked = state.patch === null ? GONE : found[state.patch];
    frame.replaceChildren(picture(state.block, tones(), marked));
    said.textContent = `${sentence(found)}${state.patch === null ? "" : fate(found)}`;
  }

  /** What is left of the digit. */
  function sentence(found) {
    const sizes = sizesOf(found), gone = sizes.get(GONE) ?? 0, one = data.settings[setting()];
    const tokens = [...sizes].filter(([root]) => root !== GONE).map(([, size]) => size);
    const merged = tokens.filter((size) => size > 1);
    const parts = [`${tokens.length - merged.length} on their own`];
    if (merged.length) {
      parts.push(`${merged.reduce((sum, size) => sum + size)} merged into ${merged.length}`);
    }
    if (gone) parts.push(`${gone} dropped`);
    const name = one.way === "none" ? one.setting : `${named.get(one.way)}, ${one.setting}`;
    return `${name[0].toUpperCase()}${name.slice(1)}, after block ${state.block + 1}: `
      + `of ${patches} patches ${parts.join(", ")}. `
      + `This ${data.labels[state.digit]} is read as ${one.read[state.digit]}.`;
  }

  /** What became of the patch that is asked about. */
  function fate(found) {
    const root = found[state.patch], size = sizesOf(found).get(root);
    const where = ` The patch in ${place(state.patch, side)}`;
    if (root !== GONE) {
      return size > 1 ? `${where} is one of ${size} that are one token.`
        : `${where} is a token of its own.`;
    }
    let block = 0;
    while (rootsAt(block)[state.patch] !== GONE) block++;
    return `${where} was dropped in block ${block + 1}.`;
  }

  digit.check(state.digit);
  way.check(0);
  progress.check(state.block);
  map.check(0); // where the keyboard starts; nothing is asked about yet
  state.step = settingsOf(ways[0]).length - 1;
  show();
  const slide = element("div", { class: "x-choice x-slide" },
    element("span", { class: "x-legend", "aria-hidden": true }, "Setting"), slider, chosen);
  return element("div", { class: "x-reduction" },
    element("p", { class: "x-hint" },
      "Crossed: dropped. One colour: merged into one token. Point at a patch of the large map, or "
      + "move through it with the arrow keys."),
    element("div", { class: "x-bar" }, digit.node, way.node, slide),
    element("div", { class: "x-stage" }, map.node,
      element("div", {}, progress.node, figures)),
    said);
};

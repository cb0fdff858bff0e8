// What the interactive views share. Each view is a function in `views` that gets its data and
// gives the element to show; start.js puts it into the page. No library, nothing is fetched.

const views = {};
let groups = 0; // radio buttons of one choice share a name

/** An HTML element. Attributes whose value is null or false are left out. */
function element(name, attributes = {}, ...children) {
  return dressed(document.createElement(name), attributes, children);
}

/** An SVG element. */
function drawn(name, attributes = {}, ...children) {
  const space = "http://www.w3.org/2000/svg";
  return dressed(document.createElementNS(space, name), attributes, children);
}

function dressed(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** The bytes behind base64. */
function bytes(text) {
  const found = atob(text);
  return Uint8Array.from(found, (letter) => letter.charCodeAt(0));
}

/** The 16-bit numbers behind base64, low byte first. */
function numbers(text) {
  const raw = bytes(text);
  return Uint16Array.from({ length: raw.length / 2 }, (_, i) => raw[2 * i] + 256 * raw[2 * i + 1]);
}

/** A share for print: "31 %", "< 1 %", "0 %". */
function percent(share) {
  if (share > 0 && share < 0.005) return "< 1\u00a0%";
  return `${Math.round(100 * share)}\u00a0%`;
}

/** One of several things to choose, as radio buttons that the arrow keys move through.
 *
 * `items` have a `label` for those who cannot see the `face` (an element, or the label itself).
 * With `columns` the items from `first` on lie in rows of so many: up and down go from row to row.
 * `hover` picks what the pointer is over. `pick` is called with the index of what was chosen.
 */
function choice({ legend, items, pick, columns = 0, first = 0, hover = false, hidden = false }) {
  const name = `explore-${++groups}`;
  const inputs = items.map(({ label }) =>
    element("input", { type: "radio", name, "aria-label": label }));
  const labels = items.map(({ label, face }, index) =>
    element("label", { class: "x-item" }, inputs[index], face ?? label));
  const node = element("div", { class: "x-choice", role: "radiogroup", "aria-label": legend });
  if (!hidden) node.append(element("span", { class: "x-legend", "aria-hidden": true }, legend));
  node.append(...labels);
  const choose = (index, focus) => {
    if (!inputs[index]) return;
    inputs[index].checked = true;
    if (focus) inputs[index].focus();
    pick(index);
  };
  inputs.forEach((input, index) => {
    input.addEventListener("change", () => pick(index));
    if (hover) {
      labels[index].addEventListener("pointerenter", (event) => {
        if (event.pointerType === "mouse" && !input.checked) choose(index, false);
      });
    }
    if (columns) {
      input.addEventListener("keydown", (event) => {
        const step = { ArrowUp: -columns, ArrowDown: columns }[event.key];
        if (!step || index < first) return; // what lies outside the rows keeps the usual keys
        event.preventDefault();
        if (index + step >= first) choose(index + step, true);
      });
    }
  });
  return { node, labels, inputs, check: (index) => { inputs[index].checked = true; } };
}

/** The pixels of each image: [Uint8Array, ...]. */
function images({ images: text, pixels }) {
  const all = bytes(text), size = pixels * pixels;
  return Array.from({ length: all.length / size }, (_, i) =>
    all.subarray(i * size, (i + 1) * size));
}

/** A digit on a canvas: grey values of `paper` to `ink`, each [red, green, blue]. */
function digitCanvas(image, pixels, paper = [0, 0, 0], ink = [255, 255, 255]) {
  const canvas = element("canvas", { width: pixels, height: pixels, "aria-hidden": true });
  const context = canvas.getContext("2d"), shown = context.createImageData(pixels, pixels);
  image.forEach((value, i) => {
    for (let c = 0; c < 3; c++) {
      shown.data[4 * i + c] = paper[c] + ((ink[c] - paper[c]) * value) / 255;
    }
    shown.data[4 * i + 3] = 255;
  });
  context.putImageData(shown, 0, 0);
  return canvas;
}

/** The digits to choose from, as small pictures. */
function digitChoice(data, pixels, pick) {
  return choice({
    legend: "Digit",
    items: data.labels.map((label, i) => ({
      label: `digit ${label}`,
      face: digitCanvas(pixels[i], data.pixels),
    })),
    pick,
  });
}

/** The border of a digit's stroke as an SVG path in pixels of the image.
 *
 * Marching squares: in every square of four neighbouring pixels the level is crossed on two (or
 * four) of the sides, at places that are found by linear interpolation.
 */
function outlinePath(image, pixels, level = 127.5) {
  const at = (x, y) => (x < 0 || y < 0 || x >= pixels || y >= pixels ? 0 : image[y * pixels + x]);
  const parts = [];
  for (let y = -1; y < pixels; y++) {
    for (let x = -1; x < pixels; x++) {
      const corners = [[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1]];
      const crossings = [];
      for (let side = 0; side < 4; side++) {
        const [from, to] = [corners[side], corners[(side + 1) % 4]];
        const [a, b] = [at(...from), at(...to)];
        if (a > level === b > level) continue;
        const share = (level - a) / (b - a);
        crossings.push(from.map((value, i) => (value + share * (to[i] - value) + 0.5).toFixed(2)));
      }
      for (let i = 0; i + 1 < crossings.length; i += 2) {
        parts.push(`M${crossings[i].join(" ")}L${crossings[i + 1].join(" ")}`);
      }
    }
  }
  return parts.join("");
}

/** The patch with most of a digit's stroke, of `side` times `side`. */
function inkiest(image, side) {
  const pixels = Math.sqrt(image.length), patch = pixels / side, ink = Array(side * side).fill(0);
  image.forEach((value, i) => {
    const row = Math.floor(Math.floor(i / pixels) / patch);
    const column = Math.floor((i % pixels) / patch);
    ink[row * side + column] += value;
  });
  return ink.indexOf(Math.max(...ink));
}

/** Where a patch lies, in words. */
function place(patch, side) {
  return `row ${Math.floor(patch / side) + 1}, column ${(patch % side) + 1}`;
}

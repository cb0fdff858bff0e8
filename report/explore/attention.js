// Attention: a digit, a block, a head and a token; where the token looks, or who looks at it.

views.attention = (data) => {
  const { blocks, heads, tokens, prefix, pixels } = data;
  const weights = numbers(data.weights), digits = images(data), colours = bytes(data.colours);
  const side = Math.round(Math.sqrt(tokens - prefix)), patch = pixels / side;
  // As in the printed figure: a 3, and the patch with most of its stroke.
  const first = Math.min(3, digits.length - 1);
  const state = {
    digit: first, block: 0, head: 0, token: prefix + inkiest(digits[first], side), from: true,
  };

  /** How much one token attends to another, from 0 to 1. */
  function weight(block, head, query, key) {
    const table = (state.digit * blocks + block) * heads + head;
    return weights[(table * tokens + query) * tokens + key] / 65535;
  }

  /** What the token gives to each token in one head, or what it gets from each. */
  function valuesOf(block, head) {
    return Array.from({ length: tokens }, (_, other) => state.from
      ? weight(block, head, state.token, other) : weight(block, head, other, state.token));
  }

  /** [red, green, blue]. The square root shows small weights beside large ones. */
  function colour(value) {
    const index = 3 * Math.min(255, Math.round(255 * Math.sqrt(value / data.top)));
    return [colours[index], colours[index + 1], colours[index + 2]];
  }
  const css = (rgb) => `rgb(${rgb.join(" ")})`;
  const named = (token) => (token < prefix ? "the class token"
    : `the patch in ${place(token - prefix, side)}`);

  const map = tokenMap();
  const sheet = headSheet();
  const digit = digitChoice(data, digits, (index) => { state.digit = index; show(); });
  const way = choice({
    legend: "Show",
    items: [{ label: "where it looks" }, { label: "who looks at it" }],
    pick: (index) => { state.from = index === 0; show(); },
  });
  const said = element("p", { class: "x-say", "aria-live": "polite" });

  /** The large map: a cell for each token, and above them the digit's outline and the numbers. */
  function tokenMap() {
    const chosen = choice({
      legend: "Token that is asked about", hidden: true, hover: true, columns: side, first: prefix,
      items: Array.from({ length: tokens }, (_, token) => ({
        label: token < prefix ? "class token" : place(token - prefix, side),
        face: element("span", { class: "x-cell" }),
      })),
      pick: (token) => { state.token = token; show(); },
    });
    // The class token has a cell of its own to the left, half a patch away.
    const shift = prefix ? 1.5 * patch : 0;
    const xy = (token) => (token < prefix ? [0, 0] : [
      shift + ((token - prefix) % side) * patch, Math.floor((token - prefix) / side) * patch]);
    const grid = `repeat(${side}, minmax(0, 2fr))`;
    chosen.node.classList.add("x-map");
    chosen.node.style.gridTemplateColumns = prefix ? `minmax(0, 2fr) minmax(0, 1fr) ${grid}` : grid;
    chosen.labels.forEach((label, token) => {
      const [x, y] = xy(token);
      const column = token < prefix ? 1 : Math.round((x - shift) / patch) + (prefix ? 3 : 1);
      label.style.gridArea = `${Math.round(y / patch) + 1} / ${column}`;
    });
    const still = "non-scaling-stroke", lines = ["x-under", "x-over"].map((name) =>
      drawn("path", { class: name, "vector-effect": still, transform: `translate(${shift})` }));
    const query = drawn("rect", {
      width: patch, height: patch, class: "x-query", stroke: data.mark, "vector-effect": still,
    });
    const size = Math.min(1.7, 0.36 * patch);
    const written = Array.from({ length: tokens }, (_, token) => {
      const [x, y] = xy(token).map((corner) => corner + patch / 2);
      return drawn("text", { x, y, "font-size": size, "stroke-width": size / 5 });
    });
    // Numbers in smaller patches could not be read.
    const above = patch < 3.5 ? [] : written;
    chosen.node.append(drawn("svg", {
      viewBox: `0 0 ${shift + pixels} ${pixels}`, "aria-hidden": true,
    }, ...lines, query, ...above));

    function draw(values) {
      const path = outlinePath(digits[state.digit], pixels);
      lines.forEach((line) => line.setAttribute("d", path));
      const [x, y] = xy(state.token);
      dressed(query, { x, y }, []);
      values.forEach((value, token) => {
        const rgb = colour(value);
        chosen.labels[token].querySelector(".x-cell").style.background = css(rgb);
        const light = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] > 140;
        dressed(written[token], {
          fill: light ? "#000" : "#fff", stroke: light ? "#ffffffb0" : "#000000b0",
        }, []).textContent = percent(value);
      });
    }
    return { ...chosen, draw };
  }

  /** All heads of all blocks, small. */
  function headSheet() {
    const cell = 4, left = prefix ? 5 : 0; // pixels of a patch, and of what stands left of them
    const faces = Array.from({ length: blocks * heads }, () => element("canvas", {
      width: left + cell * side, height: cell * side, "aria-hidden": true,
    }));
    const chosen = choice({
      legend: "Block and head", hidden: true, columns: heads,
      items: faces.map((face, index) => ({
        label: `block ${Math.floor(index / heads) + 1}, head ${(index % heads) + 1}`, face,
      })),
      pick: (index) => {
        [state.block, state.head] = [Math.floor(index / heads), index % heads];
        show();
      },
    });
    chosen.node.classList.add("x-sheet");
    chosen.node.style.gridTemplateColumns = `auto repeat(${heads}, minmax(0, 4.2rem))`;
    const heading = (text) => element("span", { class: "x-heading", "aria-hidden": true }, text);
    chosen.node.append(heading(""));
    for (let head = 1; head <= heads; head++) chosen.node.append(heading(`head ${head}`));
    for (let block = 0; block < blocks; block++) {
      const row = chosen.labels.slice(block * heads, (block + 1) * heads);
      chosen.node.append(heading(`block ${block + 1}`), ...row);
    }

    function draw() {
      faces.forEach((face, index) => {
        const context = face.getContext("2d");
        valuesOf(Math.floor(index / heads), index % heads).forEach((value, token) => {
          const at = token - prefix;
          context.fillStyle = css(colour(value));
          const [x, y] = at < 0 ? [0, 0]
            : [left + cell * (at % side), cell * Math.floor(at / side)];
          context.fillRect(x, y, cell, cell);
        });
      });
    }
    return { ...chosen, draw };
  }

  /** The colours with some of their weights. */
  function scale() {
    const stops = Array.from({ length: 12 }, (_, i) => css(colour(data.top * (i / 11) ** 2)));
    const bar = element("div", { class: "x-scale", "aria-hidden": true });
    bar.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
    for (const tick of [0, 0.01, 0.05, 0.2, 0.5, 1].filter((one) => one <= data.top)) {
      const mark = element("span", {}, percent(tick));
      mark.style.left = `${100 * Math.sqrt(tick / data.top)}%`;
      bar.append(mark);
    }
    return bar;
  }

  /** What the large map shows, in words. */
  function sentence(values) {
    const top = values.indexOf(Math.max(...values)), asked = named(state.token);
    const towards = state.from ? "to" : "from", most = percent(values[top]);
    const other = top === state.token ? "itself" : named(top);
    const rest = [];
    if (prefix && top >= prefix && state.token >= prefix) {
      rest.push(`${percent(values[0])} ${towards} the class token`);
    }
    if (top !== state.token) rest.push(`${percent(values[state.token])} ${towards} itself`);
    return `Block ${state.block + 1}, head ${state.head + 1}, on a ${data.labels[state.digit]} `
      + `(read as ${data.read[state.digit]}): ${asked} `
      + (state.from ? `gives ${most} of its attention to ${other}`
        : `gets ${most} of the attention of ${other}`)
      + `, the most of any token${rest.length ? `; ${rest.join(", ")}` : ""}. `
      + `Even attention would give ${(100 / tokens).toFixed(1)}\u00a0% to each.`;
  }

  function show() {
    const values = valuesOf(state.block, state.head);
    map.draw(values);
    sheet.draw();
    said.textContent = sentence(values);
  }

  digit.check(state.digit);
  way.check(0);
  map.check(state.token);
  sheet.check(0);
  show();
  return element("div", { class: "x-attention" },
    element("p", { class: "x-hint" },
      "Point at a token of the large map, or move through it with the arrow keys; each small map "
      + "is a head of a block."),
    element("div", { class: "x-bar" }, digit.node, way.node),
    element("div", { class: "x-stage" }, element("div", {}, map.node, scale()), sheet.node),
    said);
};

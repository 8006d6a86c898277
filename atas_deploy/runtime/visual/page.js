"use strict";
// h w grid, D embedding width; a cell is numbered row * w + column

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const heat = bytes(data.heat);

const models = data.models.map((model) => ({
  ...model,
  features: new Int8Array(bytes(model.features).buffer),
  scales: new Float32Array(bytes(model.scales).buffer),
  pca: bytes(model.pca),
  labels: bytes(model.labels),
  words: Object.fromEntries(
    Object.entries(model.words).map(([kind, map]) => [kind, { ...map, cells: bytes(map.cells) }])),
}));

const VIEWS = [["similarity", "Patch"], ["kmeans", "K-means"], ["pca", "PCA"]];
if (data.words.length) VIEWS.push(["words", "Words"]);
VIEWS.push(["picture", "Picture"]);
const SCORES = [["probability", "Probability"], ["cosine", "Cosine"]];

// row and column are those of the first model's grid
const state = { row: data.patch[0], column: data.patch[1], view: "similarity", model: "all",
  word: 0, scores: data.scores };

function patchOf(model) {
  const [h, w] = model.grid, [h0, w0] = models[0].grid;
  return [Math.floor((state.row + 0.5) / h0 * h), Math.floor((state.column + 0.5) / w0 * w)];
}

// Cosines of all cells with one: (h w), from int8 features with a scale for each cell.
function similarity(model, row, column) {
  const { dim, features, scales, grid: [h, w] } = model;
  const values = new Float32Array(h * w), chosen = row * w + column;
  const query = features.subarray(chosen * dim, (chosen + 1) * dim);
  for (let cell = 0, at = 0; cell < h * w; cell++) {
    let sum = 0;
    for (let d = 0; d < dim; d++) sum += features[at++] * query[d];
    values[cell] = sum * scales[cell] * scales[chosen];
  }
  return values;
}

function wordValues(model) {
  const [h, w] = model.grid, map = model.words[state.scores], count = data.words.length;
  const values = new Float32Array(h * w);
  for (let cell = 0; cell < h * w; cell++) {
    values[cell] = map.low + map.cells[cell * count + state.word] / 255 * (map.high - map.low);
  }
  return values;
}

// Weights of bicubic interpolation (a = -0.75, half-pixel centres, edges repeated), as OpenCV's.
function taps(nodes, pixels) {
  const a = -0.75, found = [];
  const near = (t) => ((a + 2) * t - (a + 3)) * t * t + 1;
  const far = (t) => ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
  for (let i = 0; i < pixels; i++) {
    const x = (i + 0.5) * nodes / pixels - 0.5, first = Math.floor(x), t = x - first;
    const weights = [far(t + 1), near(t), near(1 - t), far(2 - t)];
    found.push(weights.map((weight, k) => [clamp(first - 1 + k, 0, nodes - 1), weight]));
  }
  return found;
}

// Values (h, w, n) to (H, W, n).
function enlarge(values, [h, w], n, [height, width]) {
  const rows = taps(h, height), columns = taps(w, width);
  const wide = new Float32Array(h * width * n), out = new Float32Array(height * width * n);
  for (let y = 0; y < h; y++) for (let x = 0; x < width; x++) for (const [at, weight] of columns[x])
    for (let k = 0; k < n; k++) wide[(y * width + x) * n + k] += weight * values[(y * w + at) * n + k];
  for (let y = 0; y < height; y++) for (const [at, weight] of rows[y])
    for (let i = 0; i < width * n; i++) out[y * width * n + i] += weight * wide[at * width * n + i];
  return out;
}

function paint(canvas, values, grid, n, color) {
  const smooth = byId("smooth").checked;
  const factor = smooth ? clamp(Math.floor(1024 / Math.max(...grid)), 1, 8) : 1;
  const size = grid.map((side) => side * factor);
  const shown = factor > 1 ? enlarge(values, grid, n, size) : values;
  [canvas.height, canvas.width] = size;
  const pixels = new ImageData(size[1], size[0]);
  for (let i = 0; i < size[0] * size[1]; i++) {
    color(shown, i, pixels.data, 4 * i);
    pixels.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  canvas.classList.toggle("cells", !smooth);
}

function paintHeat(canvas, values, grid, low, high) {
  const range = Math.max(high - low, 1e-12);
  paint(canvas, values, grid, 1, (shown, i, out, at) => {
    const level = 3 * Math.round(255 * clamp((shown[i] - low) / range, 0, 1));
    for (let k = 0; k < 3; k++) out[at + k] = heat[level + k];
  });
}

function make(tag, className, parent) {
  const element = document.createElement(tag);
  element.className = className;
  parent.append(element);
  return element;
}

function makeStage(model) {
  const figure = make("figure", "", byId("stages"));
  const stage = make("div", "stage", figure);
  figure.style.setProperty("--ratio", data.size[1] / data.size[0]);
  stage.tabIndex = 0;
  stage.setAttribute("role", "application");
  stage.setAttribute("aria-label", `Patches of ${model.name}; arrow keys choose one`);
  stage.setAttribute("aria-describedby", "status");
  const image = make("img", "", stage), clusters = make("img", "layer", stage);
  [image.alt, image.src] = ["", data.image];
  [clusters.alt, clusters.src] = ["", model.clusters];
  const canvas = make("canvas", "layer", stage), over = make("div", "over", stage);
  const mark = make("div", "mark", stage);
  over.hidden = true;
  const caption = make("figcaption", "", figure);
  make("span", "name", caption).textContent = model.name;
  const scale = make("span", "scale", caption), low = make("span", "low", scale);
  const bar = make("canvas", "", scale), high = make("span", "high", scale);
  paintBar(bar);
  const part = { model, figure, stage, image, clusters, canvas, over, mark, scale, low, high, values: null };
  listen(part);
  return part;
}

function paintBar(bar) {
  [bar.width, bar.height] = [256, 1];
  const pixels = new ImageData(256, 1);
  for (let i = 0; i < 256; i++) pixels.data.set([...heat.subarray(3 * i, 3 * i + 3), 255], 4 * i);
  bar.getContext("2d").putImageData(pixels, 0, 0);
}

function cellAt(part, event) {
  const box = part.stage.getBoundingClientRect(), [h, w] = part.model.grid;
  const row = Math.floor((event.clientY - box.top) / box.height * h);
  const column = Math.floor((event.clientX - box.left) / box.width * w);
  return [clamp(row, 0, h - 1), clamp(column, 0, w - 1)];
}

function listen(part) {
  const { stage, over, model } = part;
  stage.addEventListener("click", (event) => {
    const [row, column] = cellAt(part, event), [h, w] = model.grid, [h0, w0] = models[0].grid;
    choose(Math.floor((row + 0.5) / h * h0), Math.floor((column + 0.5) / w * w0));
  });
  stage.addEventListener("pointermove", (event) => {
    const cell = cellAt(part, event);
    place(over, cell, model.grid);
    over.hidden = event.pointerType === "touch";
    tell(part, cell);
  });
  stage.addEventListener("pointerleave", () => { over.hidden = true; tell(part, null); });
  stage.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const move = moves[event.key];
    if (!move || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const steps = event.shiftKey ? 5 : 1;
    choose(state.row + steps * move[0], state.column + steps * move[1]);
  });
}

function choose(row, column) {
  const [h, w] = models[0].grid;
  state.row = clamp(row, 0, h - 1);
  state.column = clamp(column, 0, w - 1);
  state.view = "similarity";
  update();
}

function place(element, [row, column], [h, w]) {
  element.style.top = `${100 * row / h}%`;
  element.style.left = `${100 * column / w}%`;
  element.style.height = `${100 / h}%`;
  element.style.width = `${100 / w}%`;
}

function tell(part, cell) {
  const [h0, w0] = models[0].grid, [height, width] = data.size;
  const x = Math.floor((state.column + 0.5) / w0 * width), y = Math.floor((state.row + 0.5) / h0 * height);
  let text = `Patch in row ${state.row + 1} of ${h0}, column ${state.column + 1} of ${w0} (pixel ${x}, ${y})`;
  if (cell && part.values) text += `; under the pointer ${part.values[cell[0] * part.model.grid[1] + cell[1]].toFixed(2)}`;
  byId("status").textContent = text;
}

function show(part) {
  const { model, canvas, clusters } = part, view = state.view, smooth = byId("smooth").checked;
  const [row, column] = patchOf(model);
  part.figure.hidden = state.model !== "all" && models[state.model] !== model;
  part.values = null;
  let low = 0, high = 1;
  if (view === "similarity") {
    part.values = similarity(model, row, column);
    [low, high] = [part.values.reduce((a, b) => Math.min(a, b)), part.values.reduce((a, b) => Math.max(a, b))];
  } else if (view === "words") {
    part.values = wordValues(model);
    ({ low, high } = model.words[state.scores]);
  }
  if (part.values) paintHeat(canvas, part.values, model.grid, low, high);
  if (view === "pca") paint(canvas, model.pca, model.grid, 3, (shown, i, out, at) => {
    for (let k = 0; k < 3; k++) out[at + k] = shown[3 * i + k];
  });
  if (view === "kmeans" && !smooth) paint(canvas, model.labels, model.grid, 1, (shown, i, out, at) => {
    for (let k = 0; k < 3; k++) out[at + k] = model.colors[shown[i]][k];
  });
  clusters.hidden = view !== "kmeans" || !smooth;
  canvas.hidden = view === "picture" || !clusters.hidden;
  part.image.classList.toggle("dimmed", part.values !== null);
  part.scale.hidden = part.values === null;
  [part.low.textContent, part.high.textContent] = [low.toFixed(2), high.toFixed(2)];
  for (const layer of [canvas, clusters]) layer.style.opacity = byId("opacity").value / 100;
  part.mark.hidden = view !== "similarity" && view !== "picture";
  place(part.mark, [row, column], model.grid);
}

function radios(id, choices, key) {
  const group = byId(id);
  for (const [value, text] of choices) {
    const label = make("label", "", group), input = make("input", "", label);
    [input.type, input.name, input.value] = ["radio", id, value];
    make("span", "", label).textContent = text;
    input.addEventListener("change", () => { state[key] = input.value; normalise(); update(); });
  }
}

function normalise() {
  const [h, w] = models[0].grid;
  const whole = (value, low, high, other) => Number.isInteger(value) ? clamp(value, low, high) : other;
  state.row = whole(Number(state.row), 0, h - 1, data.patch[0]);
  state.column = whole(Number(state.column), 0, w - 1, data.patch[1]);
  state.word = whole(Number(state.word), 0, Math.max(data.words.length - 1, 0), 0);
  if (state.model !== "all") state.model = whole(Number(state.model), 0, models.length - 1, "all");
  if (!VIEWS.some(([name]) => name === state.view)) state.view = "similarity";
  if (!SCORES.some(([name]) => name === state.scores)) state.scores = data.scores;
}

function readAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const patch = (asked.get("patch") || "").match(/^(\d{1,6}),(\d{1,6})$/);
  if (patch) [state.row, state.column] = patch.slice(1).map(Number);
  for (const key of ["view", "model", "word", "scores"]) if (asked.has(key)) state[key] = asked.get(key);
  normalise();
}

function writeAddress() {
  let hash = `#patch=${state.row},${state.column}&view=${state.view}`;
  if (models.length > 1) hash += `&model=${state.model}`;
  if (state.view === "words") hash += `&word=${state.word}&scores=${state.scores}`;
  if (hash !== location.hash) history.replaceState(null, "", hash);
}

function update() {
  for (const [id, key] of [["views", "view"], ["models", "model"], ["words", "word"], ["scores", "scores"]]) {
    for (const input of byId(id).querySelectorAll("input")) input.checked = input.value === String(state[key]);
  }
  byId("words").hidden = byId("scores").hidden = state.view !== "words";
  parts.forEach(show);
  tell(parts[0], null);
  writeAddress();
}

radios("views", VIEWS, "view");
radios("models", [["all", "All"], ...models.map((model, i) => [String(i), model.name])], "model");
radios("words", data.words.map((word, i) => [String(i), word]), "word");
radios("scores", SCORES, "scores");
byId("models").hidden = models.length < 2;
const parts = models.map(makeStage);
byId("opacity").addEventListener("input", () => parts.forEach(show));
byId("smooth").addEventListener("change", () => parts.forEach(show));
byId("controls").addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", () => { readAddress(); update(); });
readAddress();
update();

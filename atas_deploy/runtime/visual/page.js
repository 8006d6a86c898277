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

const STEPS = 1e6, FILTERED = 30; // of a share, as viewer.py has; words without a filter

// y and x are shares of height and width in [0, 1); actor is the model that was acted on last
const state = { y: data.place[0], x: data.place[1], view: "similarity", model: "all", word: 0,
  scores: data.scores, actor: 0 };

// Row and column of the patch that holds a place.
const patchAt = ({ grid: [h, w] }, y, x) => [Math.floor(y * h), Math.floor(x * w)];
const share = (value) => clamp(Math.ceil(value * STEPS) / STEPS, 0, 1 - 1 / STEPS);

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
  stage.setAttribute("aria-label", `Patches of ${model.name}; arrow keys move the chosen one`);
  stage.setAttribute("aria-describedby", "status");
  const image = make("img", "", stage), clusters = make("img", "layer", stage);
  [image.alt, image.src] = ["", data.image];
  [clusters.alt, clusters.src] = ["", model.clusters];
  const canvas = make("canvas", "layer", stage), over = make("div", "over", stage);
  const mark = make("div", "mark", stage);
  over.hidden = true;
  const caption = make("figcaption", "", figure);
  const name = make("span", "name", caption), value = make("span", "value", caption);
  const scale = make("span", "scale", caption), low = make("span", "low", scale);
  const bar = make("canvas", "", scale), high = make("span", "high", scale);
  paintBar(bar);
  const part = { model, figure, stage, image, clusters, canvas, over, mark, name, value, scale, low, high, values: null };
  listen(part);
  return part;
}

function paintBar(bar) {
  [bar.width, bar.height] = [256, 1];
  const pixels = new ImageData(256, 1);
  for (let i = 0; i < 256; i++) pixels.data.set([...heat.subarray(3 * i, 3 * i + 3), 255], 4 * i);
  bar.getContext("2d").putImageData(pixels, 0, 0);
}

function placeAt(stage, event) {
  const box = stage.getBoundingClientRect();
  return [share((event.clientY - box.top) / box.height), share((event.clientX - box.left) / box.width)];
}

function listen(part) {
  const { stage, model } = part;
  stage.addEventListener("click", (event) => choose(part, placeAt(stage, event), "similarity"));
  stage.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "touch") hover(placeAt(stage, event));
  });
  stage.addEventListener("pointerleave", () => hover(null));
  stage.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const move = moves[event.key] || (event.key === "Enter" && [0, 0]);
    if (!move || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const steps = event.shiftKey ? 5 : 1, cell = patchAt(model, state.y, state.x);
    const moved = cell.map((at, i) =>
      share((clamp(at + steps * move[i], 0, model.grid[i] - 1) + 0.5) / model.grid[i]));
    choose(part, moved, event.key === "Enter" ? "similarity" : state.view);
  });
}

function choose(part, [y, x], view) {
  Object.assign(state, { y, x, view, actor: parts.indexOf(part) });
  update();
}

// What all models have at a place; null = the pointer is nowhere.
function hover(point) {
  for (const part of parts) {
    part.over.hidden = !point;
    part.value.textContent = point ? valueAt(part, patchAt(part.model, ...point)) : "";
    if (point) place(part.over, patchAt(part.model, ...point), part.model.grid);
  }
}

function valueAt({ model, values }, [row, column]) {
  const cell = row * model.grid[1] + column;
  if (state.view === "kmeans") return `cluster ${model.labels[cell] + 1}`;
  return values ? written(values[cell]) : "";
}

function place(element, [row, column], [h, w]) {
  element.style.top = `${100 * row / h}%`;
  element.style.left = `${100 * column / w}%`;
  element.style.height = `${100 / h}%`;
  element.style.width = `${100 / w}%`;
}

// Of many words each has a small probability.
const written = (value) => value.toFixed(state.view === "words" && Math.abs(value) < 0.095 ? 3 : 2);

// What was chosen, and its value in each model that is shown, for screen readers as well.
function tell() {
  const shown = parts.filter((part) => !part.figure.hidden);
  const { model } = shown.includes(parts[state.actor]) ? parts[state.actor] : shown[0];
  const [h, w] = model.grid, [row, column] = patchAt(model, state.y, state.x);
  const x = Math.floor(state.x * data.size[1]), y = Math.floor(state.y * data.size[0]);
  const lines = shown.map((part) => (shown.length > 1 ? `${part.model.name}: ` : "") + describe(part));
  byId("status").textContent = [
    `Patch in row ${row + 1} of ${h}, column ${column + 1} of ${w} (pixel ${x}, ${y})`,
    ...lines.filter((line) => !line.endsWith(": ") && line)].join("; ") + ".";
}

function describe({ model, values }) {
  const [row, column] = patchAt(model, state.y, state.x), w = model.grid[1], own = row * w + column;
  if (!values) return valueAt({ model, values }, [row, column]);
  const alike = state.view === "similarity";
  let least = Infinity, most = -Infinity, top = own;
  values.forEach((value, cell) => {
    least = Math.min(least, value);
    if (value > most && !(alike && cell === own)) [most, top] = [value, cell];
  });
  const at = `in row ${Math.floor(top / w) + 1}, column ${top % w + 1}`;
  const ends = `from ${written(least)} to ${written(most)}, the largest ${at}`;
  if (alike) return top === own ? "" : `similarity of the others ${ends}`;
  return `${data.words[state.word]} ${written(values[own])} here, ${ends}`;
}

function show(part) {
  const { model, canvas, clusters } = part, view = state.view, smooth = byId("smooth").checked;
  const [row, column] = patchAt(model, state.y, state.x);
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
  part.name.textContent = model.name + (view === "words" ? `: ${data.words[state.word]}` : "");
  part.value.textContent = "";
  [part.low.textContent, part.high.textContent] = [low.toFixed(2), high.toFixed(2)];
  for (const layer of [canvas, clusters]) layer.style.opacity = byId("opacity").value / 100;
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

// A field that leaves the words that contain a text; Enter chooses the first of them.
function filterWords() {
  const field = byId("filter"), labels = [...byId("words").querySelectorAll("label")];
  byId("search").hidden = labels.length <= FILTERED;
  field.addEventListener("input", () => {
    const text = field.value.trim().toLowerCase();
    for (const label of labels) label.hidden = !label.textContent.toLowerCase().includes(text);
    byId("found").textContent = text ? `${labels.filter((label) => !label.hidden).length} of ${labels.length}` : "";
  });
  field.addEventListener("keydown", (event) => {
    const first = labels.find((label) => !label.hidden);
    if (event.key === "Enter" && first) first.querySelector("input").click();
  });
}

function showWord() {
  const input = byId("words").querySelector("input:checked");
  if (state.view === "words" && input) input.parentElement.scrollIntoView({ block: "nearest" });
}

function normalise() {
  const whole = (value, low, high, other) => Number.isInteger(value) ? clamp(value, low, high) : other;
  state.word = whole(Number(state.word), 0, Math.max(data.words.length - 1, 0), 0);
  if (state.model !== "all") state.model = whole(Number(state.model), 0, models.length - 1, "all");
  if (!VIEWS.some(([name]) => name === state.view)) state.view = "similarity";
  if (!SCORES.some(([name]) => name === state.scores)) state.scores = data.scores;
}

function readAddress(hash) {
  const asked = new URLSearchParams(hash.slice(1));
  const point = (asked.get("point") || "").match(/^([\d.]{1,9}),([\d.]{1,9})$/);
  if (point && !point.slice(1).map(Number).some(isNaN)) {
    [state.x, state.y] = point.slice(1).map((part) => clamp(Number(part), 0, 1 - 1 / STEPS));
  }
  for (const key of ["view", "model", "word", "scores"]) if (asked.has(key)) state[key] = asked.get(key);
  normalise();
}

const digits = (part) => String(Number(part.toFixed(6)));

function address() {
  let hash = `#point=${digits(state.x)},${digits(state.y)}&view=${state.view}`;
  if (models.length > 1) hash += `&model=${state.model}`;
  if (state.view === "words") hash += `&word=${state.word}&scores=${state.scores}`;
  return hash;
}

let writing; // browsers refuse an address that changes with every key of a held arrow
function writeAddress() {
  clearTimeout(writing);
  writing = setTimeout(() => {
    if (address() !== location.hash) history.replaceState(null, "", address());
  }, 300);
}

function update() {
  for (const [id, key] of [["views", "view"], ["models", "model"], ["words", "word"], ["scores", "scores"]]) {
    for (const input of byId(id).querySelectorAll("input")) input.checked = input.value === String(state[key]);
  }
  byId("vocabulary").hidden = byId("scores").hidden = state.view !== "words";
  parts.forEach(show);
  tell();
  writeAddress();
}

radios("views", VIEWS, "view");
radios("models", [["all", "All"], ...models.map((model, i) => [String(i), model.name])], "model");
radios("words", data.words.map((word, i) => [String(i), word]), "word");
radios("scores", SCORES, "scores");
byId("models").hidden = models.length < 2;
filterWords();
const parts = models.map(makeStage);
byId("opacity").addEventListener("input", () => parts.forEach(show));
byId("smooth").addEventListener("change", () => parts.forEach(show));
byId("controls").addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", () => { readAddress(location.hash); update(); showWord(); });
readAddress(location.hash);
update();
showWord();

// Draws an embedding map: points as pixels of one image, on the processor, and all else as lines and text above it.
// clipdemo/map_charts.py packs what it gets and says why it is drawn like this. Nothing from a sample is ever HTML.

const TRAVEL = 1600; // milliseconds from one model to the next when it is played
const SWITCH = 600; // and when another model is shown
const CLOSEST = 200; // of the zoom, where 1 shows all points
const WIDEST = 0.5;
const MOST_NAMED = 100; // sentences in sight whose names are looked for a place for
const REST = 400; // milliseconds without the page's wheel before the wheel zooms
const NEAR = 9; // pixels from a point at which hovering finds it
const MOST_CORNERS = 200; // of an area that is drawn round points
const FADED = 0.12; // of the colour of points outside that area

const ICONS = {
  move: '<path d="M12 2v20M2 12h20M12 2l-3 3M12 2l3 3M12 22l-3-3M12 22l3-3M2 12l3-3M2 12l3 3M22 12l-3-3M22 12l-3 3"/>',
  lasso:
    '<path d="M7 17c-3-1-5-3-5-6 0-4 4-7 10-7s10 3 10 7-4 7-10 7c-1 0-2 0-3-.3"/><circle cx="8" cy="17" r="2"/><path d="M8 19c0 2-1 3-3 3"/>',
  rectangle: '<rect x="3" y="5" width="18" height="14" stroke-dasharray="3 2.4"/>',
  clear: '<path d="M6 6l12 12M18 6L6 18"/>',
  closer: '<path d="M12 5v14M5 12h14"/>',
  wider: '<path d="M5 12h14"/>',
  all: '<path d="M3 9V3h6M21 9V3h-6M3 15v6h6M21 15v6h-6"/>',
  save: '<path d="M12 3v12M7 11l5 5 5-5M4 20h16"/>',
  play: '<path d="M7 4l13 8-13 8z" fill="currentColor"/>',
  pause: '<path d="M8 5v14M16 5v14" stroke-width="3"/>',
};
const TOOLS = {
  move: "Move the map",
  lasso: "Draw round points",
  rectangle: "Draw a rectangle round points",
  clear: "Let go of the points",
  closer: "Closer",
  wider: "Wider",
  all: "Show all",
  save: "Save as PNG",
};

export default function ({ data, parentElement, setStateValue }) {
  let root = parentElement.querySelector(".map");
  if (!root) {
    root = element("div", "map");
    parentElement.append(root);
    root.drawn = new PointMap(root);
  }
  root.drawn.tell = (brush) => setStateValue("brush", brush);
  root.drawn.show(unpacked(data));
  root.drawn.listen();
  const turn = (root.turn = (root.turn ?? 0) + 1);
  return () => {
    if (root.turn === turn) root.drawn.rest(); // an older call may be cleaned up after a newer one
  };
}

// ---- what comes from the server: the length of a header, the header as JSON, and the arrays that it names

function unpacked(bytes) {
  const whole = bytes.slice().buffer; // begins at 0, so numbers lie where they may
  const length = new DataView(whole).getUint32(0, true);
  const told = JSON.parse(new TextDecoder().decode(new Uint8Array(whole, 4, length)));
  let at = 4 + length;
  const taken = (Kind, count) => {
    const part = new Kind(whole, at, count);
    at += part.byteLength;
    return part;
  };
  const n = told.n;
  const m = told.sentences.length;
  const ends = told.ends.map(() => ({ images: taken(Float32Array, 2 * n), texts: taken(Float32Array, 2 * m) }));
  return { ...told, ends, what: taken(Uint32Array, n), caption: taken(Uint32Array, n), group: taken(Uint8Array, n) };
}

// ---- the map

class PointMap {
  constructor(root) {
    this.root = root;
    this.hidden = new Set();
    this.zoom = 1;
    this.centre = null;
    this.share = 0;
    this.tool = "move";
    this.brush = null; // {area: corners in the map's units} or {point: place}
    this.pointers = new Map();
    this._build();
  }

  _build() {
    this.legend = element("div", "legend");
    this.tools = element("div", "tools");
    this.field = element("div", "field");
    this.points = element("canvas");
    this.above = element("canvas");
    this.tip = element("div", "tip");
    this.axis = element("div", "axis");
    this.way = element("div", "way");
    this.theme = element("div", "theme"); // changes colour with the theme, and says so
    this.above.tabIndex = 0;
    this.above.setAttribute("role", "img");
    this.tip.append(element("b"), element("div"));
    this.tip.hidden = true;
    this.field.append(this.points, this.above, this.tip, this.theme);
    this.root.append(this.legend, this.tools, this.field, this.axis, this.way);
    this.buttons = {};
    for (const [name, title] of Object.entries(TOOLS)) {
      const button = iconButton(name, title);
      button.addEventListener("click", () => this._use(name));
      this.buttons[name] = button;
      this.tools.append(button);
    }
    this._buildWay();
    this._follow();
  }

  _buildWay() {
    this.play = iconButton("play", "Play");
    this.slider = element("input");
    Object.assign(this.slider, { type: "range", min: 0, max: 1000, value: 0 });
    this.slider.setAttribute("aria-label", "Place on the way");
    this.from = element("button", "end");
    this.to = element("button", "end");
    this.way.append(this.play, this.from, this.slider, this.to);
    this.play.addEventListener("click", () => (this.going ? this._stop() : this._travel(this.share < 1 ? 1 : 0)));
    this.from.addEventListener("click", () => this._travel(0));
    this.to.addEventListener("click", () => this._travel(1));
    this.slider.addEventListener("input", () => {
      this._stop();
      this.share = this.slider.value / 1000;
      this._placed();
    });
  }

  listen() {
    if (this.watching) return;
    this.watching = new ResizeObserver(() => this._sized());
    this.watching.observe(this.field);
    window.addEventListener("wheel", this._pageWheel, { capture: true, passive: true });
  }

  rest() {
    this.watching?.disconnect();
    this.watching = null;
    this._stop();
    window.removeEventListener("wheel", this._pageWheel, { capture: true });
  }

  /** Takes in what the server says. Zoom, hidden groups and what was drawn round stay. */
  show(data) {
    const before = this.data;
    const same = before && before.n === data.n && before.sentences.length === data.sentences.length;
    const leaves = same ? { images: this.at.images, texts: this.at.texts } : null;
    this._stop();
    this.data = data;
    if (data.ends.length < 2 || !same || before.way !== data.way) this.share = 0;
    this.above.setAttribute("aria-label", data.alt);
    this.axis.textContent = data.axis;
    this.way.hidden = data.ends.length < 2;
    [this.from.textContent, this.to.textContent] = [data.titles[0], data.titles[1] ?? ""];
    for (const name of ["lasso", "rectangle", "clear"]) this.buttons[name].hidden = data.ends.length > 1;
    if (data.ends.length > 1) this.tool = "move";
    this.slider.value = Math.round(1000 * this.share);
    this.layers = layered(data);
    this._drawLegend();
    this._drawTools();
    if (leaves && before.way !== data.way) this._switch(leaves);
    else this._placed();
  }

  // ---- places

  /** Points where the share of the way says; they are sent for both ends only. */
  _placed() {
    const [a, b] = this.data.ends;
    this.at = b ? { images: mixed(a.images, b.images, this.share), texts: mixed(a.texts, b.texts, this.share) } : a;
    this.slider.value = Math.round(1000 * this.share);
    this._selected();
    this.going ? this._paint() : this.draw();
  }

  _travel(goal) {
    const start = this.share;
    this._animate(TRAVEL * Math.abs(goal - start), (part) => {
      this.share = start + (goal - start) * part;
      this._placed();
    });
  }

  _switch(leaves) {
    const [a] = this.data.ends;
    this._animate(SWITCH, (part) => {
      this.at =
        part < 1 ? { images: mixed(leaves.images, a.images, part), texts: mixed(leaves.texts, a.texts, part) } : a;
      this._selected();
      this._paint();
    });
  }

  /** Calls `step` with parts of the way, slow at both ends, until it is gone; at once where motion is unwelcome. */
  _animate(milliseconds, step) {
    this._stop();
    if (matchMedia("(prefers-reduced-motion: reduce)").matches || milliseconds < 1) return step(1);
    const began = performance.now();
    const look = (now) => {
      const part = Math.min(1, Math.max(0, (now - began) / milliseconds));
      this.going = part < 1 ? requestAnimationFrame(look) : null;
      step(part < 0.5 ? 4 * part ** 3 : 1 - (2 - 2 * part) ** 3 / 2);
      if (part === 1) this._drawPlay();
    };
    this.going = requestAnimationFrame(look);
    this._drawPlay();
  }

  _stop() {
    if (this.going) cancelAnimationFrame(this.going);
    this.going = null;
    this._drawPlay();
  }

  _drawPlay() {
    face(this.play, this.going ? "pause" : "play", this.going ? "Pause" : "Play");
  }

  // ---- from the map's units to pixels and back; one unit is as long both ways

  _sized() {
    const { width, height } = this.field.getBoundingClientRect();
    if (!width || !height) return;
    this.width = width;
    this.height = height;
    this.ratio = Math.min(2, window.devicePixelRatio || 1);
    for (const canvas of [this.points, this.above]) {
      canvas.width = Math.round(width * this.ratio);
      canvas.height = Math.round(height * this.ratio);
    }
    this.image = null;
    this.draw();
  }

  get scale() {
    const [left, right, bottom, top] = this.data.bounds;
    return this.zoom * Math.min(this.width / (right - left), this.height / (top - bottom));
  }

  get middle() {
    const [left, right, bottom, top] = this.data.bounds;
    return this.centre ?? [(left + right) / 2, (bottom + top) / 2];
  }

  _pixel(x, y) {
    const [cx, cy] = this.middle;
    const scale = this.scale;
    return [this.width / 2 + (x - cx) * scale, this.height / 2 - (y - cy) * scale];
  }

  _unit(px, py) {
    const [cx, cy] = this.middle;
    const scale = this.scale;
    return [cx + (px - this.width / 2) / scale, cy - (py - this.height / 2) / scale];
  }

  /** Zooms by a factor, with what lies under a pixel staying there. */
  _zoomed(factor, px = this.width / 2, py = this.height / 2) {
    const [x, y] = this._unit(px, py);
    this.zoom = Math.min(CLOSEST, Math.max(WIDEST, this.zoom * factor));
    const scale = this.scale;
    this.centre = [x - (px - this.width / 2) / scale, y + (py - this.height / 2) / scale];
    this.draw();
  }

  // ---- drawing: at most once a frame

  draw() {
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = null;
      this._paint();
    });
  }

  _paint() {
    if (!this.data || !this.at || !this.width) return;
    this._colours();
    this._drawPoints();
    this._drawAbove();
  }

  _colours() {
    const style = getComputedStyle(this.root);
    const of = (name) => style.getPropertyValue(name).trim();
    this.ground = of("--st-background-color") || "#fff";
    this.ink = of("--st-text-color") || "#000";
    this.accent = of("--st-primary-color") || "#0072B2";
    this.font = of("--st-font") || "sans-serif";
  }

  _drawPoints() {
    const context = this.points.getContext("2d", { alpha: false });
    const { width, height } = this.points;
    if (!this.image) {
      this.image = context.createImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }
    this.pixels.fill(packed(this.ground));
    for (const layer of this.layers) this._stampAll(layer, this.chosen ? FADED : layer.opacity, null);
    if (this.chosen) for (const layer of this.layers) this._stampAll(layer, layer.opacity, this.chosen);
    context.putImageData(this.image, 0, 0);
  }

  /** Lays their colours over the pixels of a layer's points, or of those that are `chosen`. */
  _stampAll(layer, opacity, chosen) {
    const { width, height } = this.points;
    const { pixels, data } = this;
    const { group, groups } = data;
    const [cx, cy] = this.middle;
    const scale = this.scale * this.ratio;
    const places = this.at.images;
    const { dx, dy, cover, reach } = stamped(layer, this.ratio);
    const count = dx.length;
    const hidden = groups.map((one) => this.hidden.has(one.name));
    const colours = groups.map((one) => packed(one.colour));
    const offsets = Int32Array.from(dx, (x, k) => dy[k] * width + x);
    const strength = Int32Array.from(cover, (share) => Math.round(256 * opacity * share));
    for (const i of layer.members) {
      if (hidden[group[i]] || (chosen && !chosen[i])) continue;
      const x = Math.round(width / 2 + (places[2 * i] - cx) * scale);
      const y = Math.round(height / 2 - (places[2 * i + 1] - cy) * scale);
      if (x < -reach || y < -reach || x >= width + reach || y >= height + reach) continue;
      const whole = x >= reach && y >= reach && x < width - reach && y < height - reach;
      const here = y * width + x;
      const colour = colours[group[i]];
      const redBlue = colour & 0xff00ff;
      const green = colour & 0x00ff00;
      for (let k = 0; k < count; k++) {
        if (!whole && (x + dx[k] < 0 || x + dx[k] >= width || y + dy[k] < 0 || y + dy[k] >= height)) continue;
        const place = here + offsets[k];
        const old = pixels[place];
        const share = strength[k];
        const rest = 256 - share;
        // two channels at a time: 8 bits apart, they do not meet
        const rb = ((Math.imul(old & 0xff00ff, rest) + Math.imul(redBlue, share)) >>> 8) & 0xff00ff;
        const g = ((Math.imul(old & 0x00ff00, rest) + Math.imul(green, share)) >>> 8) & 0x00ff00;
        pixels[place] = 0xff000000 | rb | g;
      }
    }
  }

  _drawAbove() {
    const context = this.above.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    const isWay = this.data.ends.length > 1;
    if (this.brush?.area && !isWay)
      this._drawArea(
        context,
        this.brush.area.map(([x, y]) => this._pixel(x, y)),
      );
    if (this.drawing) this._drawArea(context, this.drawing);
    if (!this.hidden.has(this.data.sentence)) this._drawSentences(context);
    if (this.found?.image !== undefined) this._ring(context, this.found.image);
    else if (this.brush?.point !== undefined && !isWay) this._ring(context, this.brush.point);
  }

  _drawArea(context, corners) {
    context.beginPath();
    corners.forEach(([x, y]) => context.lineTo(x, y));
    context.closePath();
    context.fillStyle = context.strokeStyle = this.accent;
    context.globalAlpha = 0.1;
    context.fill();
    context.globalAlpha = 1;
    context.lineWidth = 1.5;
    context.stroke();
  }

  _ring(context, place) {
    const [x, y] = this._pixel(this.at.images[2 * place], this.at.images[2 * place + 1]);
    context.beginPath();
    context.arc(x, y, 8, 0, 7);
    context.lineWidth = 2;
    context.strokeStyle = this.ink;
    context.stroke();
  }

  /** White diamonds with dark edges, and names beside them as far as these do not lie on one another. */
  _drawSentences(context) {
    const texts = this.at.texts;
    const spots = [];
    for (let i = 0; i < texts.length / 2; i++) spots.push(this._pixel(texts[2 * i], texts[2 * i + 1]));
    const seen = ([x, y]) => x > -20 && y > -20 && x < this.width + 20 && y < this.height + 20;
    context.lineJoin = "round";
    spots.forEach(([x, y], i) => seen([x, y]) && diamond(context, x, y, this.found?.text === i ? 9.5 : 7.5));
    context.font = `600 13px ${this.font}`;
    context.textBaseline = "middle";
    const taken = spots.filter(seen).map(([x, y]) => [x - 8, y - 8, x + 8, y + 8]);
    let tried = 0;
    spots.forEach(([x, y], i) => {
      if (!seen([x, y]) || ++tried > MOST_NAMED) return;
      const name = this.data.sentences[i];
      const wide = context.measureText(name).width;
      const ways = [
        [x - wide / 2, y - 19],
        [x - wide / 2, y + 19],
        [x + 13, y],
        [x - 13 - wide, y],
        [x + 8, y - 14],
        [x + 8, y + 14],
        [x - 8 - wide, y - 14],
        [x - 8 - wide, y + 14],
      ];
      const spot = ways.find(([left, line]) => {
        const box = [left, line - 8, left + wide, line + 8];
        return left > 2 && left + wide < this.width - 2 && !taken.some((other) => meet(box, other));
      });
      if (!spot) return;
      taken.push([spot[0], spot[1] - 8, spot[0] + wide, spot[1] + 8]);
      context.lineWidth = 4;
      context.strokeStyle = this.ground;
      context.strokeText(name, ...spot);
      context.fillStyle = this.ink;
      context.fillText(name, ...spot);
    });
  }

  // ---- the pointer

  _follow() {
    const canvas = this.above;
    canvas.addEventListener("pointerdown", (event) => this._down(event));
    canvas.addEventListener("pointermove", (event) => this._moved(event));
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => this._up(event));
    canvas.addEventListener("pointerleave", () => this._hover(null));
    canvas.addEventListener("dblclick", () => this._use("all"));
    canvas.addEventListener("wheel", (event) => this._wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this._key(event));
    this.theme.addEventListener("transitionend", () => this.draw());
    this._pageWheel = (event) => {
      if (!event.composedPath().includes(canvas)) this.scrolled = performance.now();
    };
  }

  _spot(event) {
    const box = this.above.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  _down(event) {
    if (event.button) return;
    this.above.setPointerCapture(event.pointerId);
    const spot = this._spot(event);
    this.pointers.set(event.pointerId, spot);
    this.pressed = spot;
    this.still = true;
    this._hover(null);
    if (this.tool !== "move" && this.pointers.size === 1) this.drawing = [spot];
    if (this.pointers.size > 1) this.drawing = null; // two fingers move and zoom
  }

  _moved(event) {
    const spot = this._spot(event);
    const last = this.pointers.get(event.pointerId);
    if (!last) return this._hover(spot);
    this.pointers.set(event.pointerId, spot);
    if (this.pointers.size > 1 || distance(spot, this.pressed) > 4) this.still = false;
    if (this.pointers.size > 1) {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
      this._dragged(spot[0] - last[0], spot[1] - last[1], 0.5);
      this._zoomed(distance(spot, other) / Math.max(1, distance(last, other)), ...other);
    } else if (this.drawing) {
      this._drawTo(spot);
    } else if (this.tool === "move") {
      this._dragged(spot[0] - last[0], spot[1] - last[1], 1);
    }
    this.draw();
  }

  _dragged(dx, dy, share) {
    const [cx, cy] = this.middle;
    const scale = this.scale;
    this.centre = [cx - (share * dx) / scale, cy + (share * dy) / scale];
  }

  _drawTo(spot) {
    const [first] = this.drawing;
    if (this.tool === "rectangle") this.drawing = [first, [spot[0], first[1]], spot, [first[0], spot[1]]];
    else if (distance(spot, this.drawing.at(-1)) > 2) this.drawing.push(spot);
  }

  _up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    const spot = this._spot(event);
    const drawn = this.drawing;
    this.drawing = null;
    if (event.type === "pointercancel") return this.draw();
    if (drawn && !this.still && drawn.length > 2) {
      const step = Math.ceil(drawn.length / MOST_CORNERS);
      this._brushed({ area: drawn.filter((_, i) => i % step === 0).map(([x, y]) => this._unit(x, y)) });
    } else if (this.still && this.data.ends.length < 2) {
      const found = this._nearest(spot);
      if (found?.image !== undefined) this._brushed({ point: found.image });
    }
    this.draw();
  }

  _wheel(event) {
    const now = performance.now();
    if (!event.ctrlKey && now - (this.scrolled ?? -REST) < REST) {
      // a page that scrolls goes on scrolling
      this.scrolled = now;
      return;
    }
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode ? 30 : 1);
    this._zoomed(
      Math.exp(-Math.max(-200, Math.min(200, pixels)) * (event.ctrlKey ? 0.01 : 0.002)),
      ...this._spot(event),
    );
  }

  _key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's own zoom and way back
    const by = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    const tool = { "+": "closer", "=": "closer", "-": "wider", 0: "all", Escape: "clear" }[event.key];
    if (!by && !tool) return;
    event.preventDefault();
    if (by) {
      this._dragged(...by, 1);
      this.draw();
    } else this._use(tool);
  }

  /** The sentence or the visible point that lies next to a pixel, drawn last first; null where none is near. */
  _nearest([px, py]) {
    const { images, texts } = this.at;
    let least = NEAR ** 2;
    let found = null;
    const look = (places, i, kind) => {
      const [x, y] = this._pixel(places[2 * i], places[2 * i + 1]);
      const far = (x - px) ** 2 + (y - py) ** 2;
      if (far < least || (far === least && found)) [least, found] = [far, { [kind]: i }];
    };
    if (!this.hidden.has(this.data.sentence)) for (let i = 0; i < texts.length / 2; i++) look(texts, i, "text");
    if (found) return found;
    const [x, y] = this._unit(px, py);
    const reach = NEAR / this.scale;
    for (let i = 0; i < this.data.n; i++) {
      if (Math.abs(images[2 * i] - x) > reach || Math.abs(images[2 * i + 1] - y) > reach) continue;
      if (!this.hidden.has(this.data.groups[this.data.group[i]].name)) look(images, i, "image");
    }
    return found;
  }

  _hover(spot) {
    this.over = spot;
    if (this.looking) return;
    this.looking = requestAnimationFrame(() => {
      this.looking = null;
      if (!this.at || !this.width) return;
      const found = this.over && !this.going ? this._nearest(this.over) : null;
      if (JSON.stringify(found) === JSON.stringify(this.found ?? null)) return;
      this.found = found;
      this._tell(found);
      this._drawAbove();
    });
  }

  _tell(found) {
    this.tip.hidden = !found;
    if (!found) return;
    const [title, text] = this.tip.children;
    const { data, at } = this;
    const isText = found.text !== undefined;
    const i = isText ? found.text : found.image;
    title.textContent = isText ? data.sentences[i] : data.whats[data.what[i]];
    text.textContent = isText ? "sentence of this class" : data.captions[data.caption[i]];
    const places = isText ? at.texts : at.images;
    const [x, y] = this._pixel(places[2 * i], places[2 * i + 1]);
    const wide = this.tip.offsetWidth;
    const high = this.tip.offsetHeight;
    this.tip.style.left = `${Math.max(4, Math.min(this.width - wide - 4, x + 14))}px`;
    this.tip.style.top = `${y + 16 + high < this.height ? y + 16 : Math.max(4, y - 16 - high)}px`;
  }

  // ---- what is drawn round

  _brushed(brush) {
    this.brush = brush && { ...brush, hidden: [...this.hidden] };
    this.tell(this.brush);
    this._selected();
    this._drawTools();
    this.draw();
  }

  /** Marks the points inside the area; the server finds the same ones by the same rule, `map_charts.brushed`. */
  _selected() {
    this.chosen = null;
    if (!this.brush?.area || this.data.ends.length > 1) return;
    const { area } = this.brush;
    const { images } = this.at;
    this.chosen = new Uint8Array(this.data.n);
    for (let i = 0; i < this.data.n; i++) this.chosen[i] = inside(images[2 * i], images[2 * i + 1], area) ? 1 : 0;
  }

  // ---- buttons

  _use(name) {
    if (name === "closer" || name === "wider") return this._zoomed(name === "closer" ? 1.5 : 1 / 1.5);
    if (name === "clear") return this._brushed(null);
    if (name === "save") return this._save();
    if (name === "all") [this.zoom, this.centre] = [1, null];
    else this.tool = name;
    this._drawTools();
    this.draw();
  }

  _drawTools() {
    for (const name of ["move", "lasso", "rectangle"]) {
      this.buttons[name].setAttribute("aria-pressed", String(this.tool === name));
    }
    this.buttons.clear.disabled = !this.brush;
    this.above.dataset.tool = this.tool;
  }

  _drawLegend() {
    const { data } = this;
    const entries = data.groups.slice();
    if (data.sentences.length) entries.push({ name: data.sentence, symbol: "diamond", colour: "#fff" });
    this.legend.replaceChildren(
      ...entries.map((entry) => {
        const button = element("button", "entry");
        button.append(swatch(entry), entry.name);
        button.title = "Hide or show; twice: only this";
        button.setAttribute("aria-pressed", String(!this.hidden.has(entry.name)));
        button.addEventListener("click", (event) => this._toggle(entry.name, entries, event.detail > 1));
        return button;
      }),
    );
  }

  _toggle(name, entries, alone) {
    const others = entries.filter((entry) => entry.name !== name && entry.name !== this.data.sentence);
    if (alone) {
      const isAlone = others.every((entry) => this.before?.has(entry.name));
      this.hidden = new Set(isAlone ? [] : others.map((entry) => entry.name));
    } else {
      this.before = new Set(this.hidden);
      this.hidden.has(name) ? this.hidden.delete(name) : this.hidden.add(name);
    }
    [...this.legend.children].forEach((button, i) =>
      button.setAttribute("aria-pressed", String(!this.hidden.has(entries[i].name))),
    );
    if (this.brush) this._brushed({ ...this.brush });
    this.draw();
  }

  /** The map as it is seen, with its legend. */
  _save() {
    const names = [...this.legend.children].filter((entry) => entry.getAttribute("aria-pressed") === "true");
    const line = 26;
    const sheet = element("canvas");
    const context = sheet.getContext("2d");
    const rows = [[]];
    context.font = `13px ${this.font}`;
    let x = 0;
    for (const entry of names) {
      const wide = context.measureText(entry.textContent).width + 40;
      if (x + wide > this.width) [x] = [0, rows.push([])];
      rows.at(-1).push([x, entry]);
      x += wide;
    }
    sheet.width = this.points.width;
    sheet.height = this.points.height + Math.round(rows.length * line * this.ratio);
    context.scale(this.ratio, this.ratio);
    context.fillStyle = this.ground;
    context.fillRect(0, 0, this.width, this.height + rows.length * line);
    context.font = `13px ${this.font}`;
    context.textBaseline = "middle";
    rows.forEach((row, r) =>
      row.forEach(([left, entry]) => {
        context.drawImage(entry.firstChild, left + 8, r * line + 5, 16, 16);
        context.fillStyle = this.ink;
        context.fillText(entry.textContent, left + 28, r * line + 14);
      }),
    );
    for (const canvas of [this.points, this.above])
      context.drawImage(canvas, 0, rows.length * line, this.width, this.height);
    sheet.toBlob((blob) => {
      const link = element("a");
      link.href = URL.createObjectURL(blob);
      link.download = "map.png";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }
}

// ---- pieces

function element(name, kind = "") {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (name === "button") made.type = "button";
  return made;
}

function iconButton(name, title) {
  const button = element("button", "icon");
  face(button, name, title);
  return button;
}

function face(button, name, title) {
  if (!button || button.title === title) return;
  button.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true">${ICONS[name]}</svg>`;
  button.title = title;
  button.setAttribute("aria-label", title);
}

function swatch(entry) {
  const canvas = element("canvas");
  canvas.width = canvas.height = 32;
  const context = canvas.getContext("2d");
  context.scale(2, 2);
  if (entry.symbol === "diamond") diamond(context, 8, 8, 6);
  else {
    const { dx, dy, cover } = stamped({ ...entry, size: Math.min(12, entry.size + 4) }, 2);
    context.setTransform(1, 0, 0, 1, 16, 16);
    context.fillStyle = entry.colour;
    dx.forEach((x, k) => {
      context.globalAlpha = cover[k];
      context.fillRect(x, dy[k], 1, 1);
    });
  }
  return canvas;
}

function diamond(context, x, y, radius) {
  context.beginPath();
  context.moveTo(x, y - radius);
  context.lineTo(x + radius, y);
  context.lineTo(x, y + radius);
  context.lineTo(x - radius, y);
  context.closePath();
  context.fillStyle = "#fff";
  context.strokeStyle = "#000";
  context.lineWidth = 2.2;
  context.fill();
  context.stroke();
}

const stamps = new Map();

/** The pixels of a symbol about its middle, and how far each is covered, found by 16 looks into each. */
function stamped({ symbol, size }, ratio) {
  const name = `${symbol} ${size} ${ratio}`;
  if (stamps.has(name)) return stamps.get(name);
  const half = (size * ratio) / 2;
  const reach = Math.ceil(half + 1);
  const dx = [];
  const dy = [];
  const cover = [];
  const holds = {
    circle: (x, y) => x * x + y * y <= half * half,
    square: (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= half * 0.89,
    x: (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= half && Math.min(Math.abs(x - y), Math.abs(x + y)) <= half * 0.6,
  }[symbol];
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      let share = 0;
      for (let k = 0; k < 16; k++) share += holds(x + ((k % 4) - 1.5) / 4, y + ((k >> 2) - 1.5) / 4) / 16;
      if (!share) continue;
      dx.push(x);
      dy.push(y);
      cover.push(share);
    }
  }
  const made = { dx, dy, cover, reach };
  stamps.set(name, made);
  return made;
}

/** A colour as the pixels of an image have it, whatever CSS calls it. */
const packs = new Map();
function packed(colour) {
  if (!packs.has(colour)) {
    const context = element("canvas").getContext("2d");
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b] = context.getImageData(0, 0, 1, 1).data;
    packs.set(colour, (0xff000000 | (b << 16) | (g << 8) | r) >>> 0);
  }
  return packs.get(colour);
}

/** Groups of one look as one layer, the faintest at the bottom. In a layer no group lies on all others: they are mixed. */
function layered({ groups, group, n }) {
  const layers = new Map();
  const of = [];
  groups.forEach(({ symbol, size, opacity }, g) => {
    const look = `${symbol} ${size} ${opacity}`;
    if (!layers.has(look)) layers.set(look, { symbol, size, opacity, members: [] });
    of[g] = layers.get(look).members;
  });
  for (let i = 0; i < n; i++) of[group[i]].push(i);
  for (const layer of layers.values()) layer.members = mingled(layer.members);
  return [...layers.values()].sort((a, b) => a.opacity - b.opacity);
}

/** The same places in an order that goes over all of them again and again, the same one every time. */
function mingled(members) {
  const n = members.length;
  const made = new Uint32Array(n);
  let step = Math.max(1, Math.round(0.618 * n));
  let at = 0;
  const shared = (a, b) => (b ? shared(b, a % b) : a);
  while (shared(step, n) > 1) step++;
  for (let k = 0; k < n; k++, at = (at + step) % n) made[k] = members[at];
  return made;
}

function mixed(a, b, share) {
  if (share <= 0) return a;
  if (share >= 1) return b;
  const made = new Float32Array(a.length);
  for (let i = 0; i < a.length; i++) made[i] = a[i] + (b[i] - a[i]) * share;
  return made;
}

/** Whether a ray to the right crosses the area's edges an odd number of times. */
function inside(x, y, corners) {
  let odd = false;
  for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
    const [ax, ay] = corners[i];
    const [bx, by] = corners[j];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
  }
  return odd;
}

const distance = ([ax, ay], [bx, by]) => Math.hypot(ax - bx, ay - by);
const meet = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];

"use strict";
(() => {
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const svg = document.getElementById("graph"), details = document.getElementById("details");
  const strip = document.getElementById("strip"), hits = document.getElementById("hits");
  const search = document.getElementById("search"), colour = document.getElementById("colour");
  const NS = "http://www.w3.org/2000/svg";
  const boxes = [...svg.querySelectorAll(".node")], lines = [...svg.querySelectorAll(".edges path")];
  const byId = new Map(facts.nodes.map((node, i) => [node.id, i]));
  const above = facts.nodes.map(() => []), below = facts.nodes.map(() => []);
  for (const [a, b] of facts.edges) { above[b].push(a); below[a].push(b); }
  const places = boxes.map(box => {
    const at = box.transform.baseVal[0].matrix, rect = box.firstElementChild;
    return { x: at.e, y: at.f, w: +rect.getAttribute("width"), h: +rect.getAttribute("height") };
  });
  const whole = { ...rectOf(svg.viewBox.baseVal) };
  let view = { ...whole }, chosen = -1, found = [];

  function rectOf(box) { return { x: box.x, y: box.y, w: box.width, h: box.height }; }

  // ------------------------------------------------------------------ elements

  function make(tag, text, className) {
    const element = document.createElement(tag);
    if (text !== undefined && text !== null) element.textContent = text;
    if (className) element.className = className;
    return element;
  }
  function shape(tag, attributes) {
    const element = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }
  function number(value, digits = 4) {
    if (value === null || value === undefined) return "–";
    return Number.isInteger(value) ? value.toLocaleString("en") : Number(value.toPrecision(digits)).toString();
  }

  // ---------------------------------------------------------------------- view

  function show() {
    const size = svg.getBoundingClientRect();
    view.h = view.w * size.height / Math.max(size.width, 1);
    svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.w} ${view.h}`);
    const seen = strip.querySelector(".seen");
    seen.style.top = `${100 * Math.max(view.y - whole.y, 0) / whole.h}%`;
    seen.style.height = `${100 * Math.min(view.h / whole.h, 1)}%`;
  }
  function fit() {
    const size = svg.getBoundingClientRect();
    view.w = Math.max(whole.w, whole.h * size.width / Math.max(size.height, 1));
    view.x = whole.x + whole.w / 2 - view.w / 2;
    view.y = whole.y;
    show();
  }
  function zoom(factor, x, y) {
    const size = svg.getBoundingClientRect();
    const fx = x === undefined ? 0.5 : (x - size.left) / size.width;
    const fy = y === undefined ? 0.5 : (y - size.top) / size.height;
    const w = Math.min(Math.max(view.w * factor, 120), 4 * Math.max(whole.w, whole.h));
    view.x += (view.w - w) * fx;
    view.y += view.h * (1 - w / view.w) * fy;
    view.w = w;
    show();
  }
  function centre(i) {
    const at = places[i], size = svg.getBoundingClientRect();
    if (size.width / view.w < 0.45) { // too small to be read
      view.w = size.width;
      show();
    }
    view.x = at.x + at.w / 2 - view.w / 2;
    view.y = at.y + at.h / 2 - view.h / 2;
    if (whole.h > view.h) view.y = Math.min(Math.max(view.y, whole.y), whole.y + whole.h - view.h);
    show();
  }
  function begin() {
    const size = svg.getBoundingClientRect(), first = places[0] || { x: 0, y: 0, w: 0 };
    view.w = size.width / 1.05;
    view.x = first.x + first.w / 2 - view.w / 2;
    view.y = whole.y;
    if (whole.w < view.w) view.x = whole.x + whole.w / 2 - view.w / 2;
    show();
  }

  const pointers = new Map();
  let moved = 0;
  svg.addEventListener("pointerdown", event => {
    pointers.set(event.pointerId, event);
    moved = 0;
  });
  svg.addEventListener("pointermove", event => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const size = svg.getBoundingClientRect(), scale = view.w / size.width;
    if (pointers.size === 2) {
      const [other] = [...pointers.values()].filter(p => p.pointerId !== event.pointerId);
      const distance = p => Math.hypot(p.clientX - other.clientX, p.clientY - other.clientY);
      if (distance(event) > 0) zoom(distance(before) / distance(event), other.clientX, other.clientY);
    } else {
      moved += Math.abs(event.clientX - before.clientX) + Math.abs(event.clientY - before.clientY);
      if (moved > 4 && !svg.hasPointerCapture(event.pointerId)) {
        svg.setPointerCapture(event.pointerId);
        svg.classList.add("dragged");
      }
      view.x -= (event.clientX - before.clientX) * scale;
      view.y -= (event.clientY - before.clientY) * scale;
      show();
    }
    pointers.set(event.pointerId, event);
  });
  for (const name of ["pointerup", "pointercancel", "pointerleave"])
    svg.addEventListener(name, event => {
      if (name === "pointerleave" && svg.hasPointerCapture(event.pointerId)) return;
      pointers.delete(event.pointerId);
      svg.classList.remove("dragged");
    });
  svg.addEventListener("wheel", event => {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      zoom(Math.exp(event.deltaY * 0.004), event.clientX, event.clientY);
      return;
    }
    const scale = view.w / svg.getBoundingClientRect().width, y = view.y + event.deltaY * scale;
    const ends = event.deltaY < 0 ? view.y <= whole.y : view.y + view.h >= whole.y + whole.h;
    if (ends) return; // the page scrolls on
    event.preventDefault();
    view.y = y;
    view.x += event.deltaX * scale;
    show();
  }, { passive: false });
  svg.addEventListener("click", event => {
    const box = event.target.closest(".node");
    if (box && moved <= 4) choose(+box.dataset.i, false);
  });
  document.getElementById("in").addEventListener("click", () => zoom(0.7));
  document.getElementById("out").addEventListener("click", () => zoom(1 / 0.7));
  document.getElementById("fit").addEventListener("click", fit);
  window.addEventListener("resize", show);
  window.addEventListener("beforeprint", () =>
    svg.setAttribute("viewBox", `${whole.x} ${whole.y} ${whole.w} ${whole.h}`));
  window.addEventListener("afterprint", show);

  // --------------------------------------------------------------------- strip

  function paint() {
    const key = colour.value;
    document.body.classList.toggle("by-share", key === "share" || key === "time");
    strip.replaceChildren(make("i", null, "seen"));
    boxes.forEach((box, i) => {
      const kind = box.dataset[key];
      box.setAttribute("class", box.getAttribute("class").replace(/\bb[0-9n]\b/, kind));
      if (kind === "bn") return;
      const mark = make("i", null, kind);
      mark.style.top = `${100 * (places[i].y - whole.y) / whole.h}%`;
      mark.style.height = `${100 * places[i].h / whole.h}%`;
      strip.append(mark);
    });
    strip.append(strip.firstElementChild);
    show();
  }
  strip.addEventListener("click", event => {
    const size = strip.getBoundingClientRect();
    view.y = whole.y + whole.h * (event.clientY - size.top) / size.height - view.h / 2;
    show();
  });
  colour.addEventListener("change", paint);

  // -------------------------------------------------------------------- choose

  function choose(i, moves = true) {
    if (!(i >= 0 && i < boxes.length)) return;
    if (chosen >= 0) boxes[chosen].classList.remove("chosen");
    chosen = i;
    boxes[i].classList.add("chosen");
    for (const line of lines)
      line.classList.toggle("near", +line.dataset.a === i || +line.dataset.b === i);
    const id = facts.nodes[i].id;
    for (const held of document.querySelectorAll(".held"))
      held.classList.toggle("chosen", held.dataset.id === id);
    if (moves) centre(i);
    details.replaceChildren(...told(facts.nodes[i]));
    details.scrollTop = 0;
  }
  function walk(step) {
    if (chosen < 0) return choose(0);
    const next = { up: above[chosen][0], down: below[chosen][0] }[step];
    if (next !== undefined) return choose(next);
    if (step === "left" || step === "right") {
      const y = places[chosen].y, x = places[chosen].x, side = step === "left" ? -1 : 1;
      const row = places.map((p, i) => [p, i]).filter(([p]) => Math.abs(p.y - y) < 2 && (p.x - x) * side > 1);
      row.sort((a, b) => (a[0].x - b[0].x) * side);
      if (row.length) choose(row[0][1]);
    }
  }
  const KEYS = { ArrowUp: "up", ArrowDown: "down", ArrowLeft: "left", ArrowRight: "right" };
  svg.addEventListener("keydown", event => {
    if (KEYS[event.key]) walk(KEYS[event.key]);
    else if (event.key === "+" || event.key === "=") zoom(0.7);
    else if (event.key === "-") zoom(1 / 0.7);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", event => {
    if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
      event.preventDefault();
      search.focus();
    }
  });
  document.addEventListener("click", event => {
    const jump = event.target.closest(".jump, .held");
    if (!jump || !byId.has(jump.dataset.id)) return;
    choose(byId.get(jump.dataset.id));
    document.getElementById("graph-section").scrollIntoView();
    svg.focus({ preventScroll: true });
  });

  // -------------------------------------------------------------------- search

  function find() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = !words.length ? [] : facts.nodes.flatMap((node, i) => {
      const text = `${node.id} ${node.title} ${node.kind} ${node.type} ${node.output || ""}`.toLowerCase();
      return words.every(word => text.includes(word)) ? [i] : [];
    });
    boxes.forEach((box, i) => box.classList.toggle("hit", found.includes(i)));
    svg.classList.toggle("searching", words.length > 0);
    hits.textContent = words.length ? `${found.length} found` : "";
    if (found.length) centre(found[0]);
  }
  search.addEventListener("input", find);
  search.addEventListener("keydown", event => {
    if (event.key === "Enter" && found.length) {
      const place = found.indexOf(chosen), step = event.shiftKey ? -1 : 1;
      choose(found[(place + step + found.length) % found.length]);
    } else if (event.key === "Escape") {
      search.value = "";
      find();
      svg.focus();
    }
  });

  // ------------------------------------------------------------------- details

  function told(node) {
    const parts = [make("h4", node.title), make("p", `${node.kind}, ${node.type}`, "quiet")];
    if (node.output) parts.push(make("p", `the output ${node.output}`, "quiet"));
    parts.push(...ofError(node), ...ofValues(node), ...ofIntegers(node), ...ofChannels(node), ...ofPasses(node));
    parts.push(make("h3", "Numbers"), table(numbers(node)));
    if ((node.constants || []).length) {
      parts.push(make("h3", "Constants"));
      parts.push(table(node.constants.map(c => [
        c.id, c.numbers ? c.numbers.map(v => number(v, 6)).join(", ") : `${number(c.least)} to ${number(c.most)}`, c.type])));
    }
    parts.push(make("h3", "Text"), make("pre", node.text));
    return parts;
  }
  function numbers(node) {
    const rows = [];
    if (node.q) {
      rows.push(["scale", number(node.q.scale, 9)], ["zero point", String(node.q.zero_point)]);
      rows.push(["range", `${number(node.q.low)} to ${number(node.q.high)}, ${node.q.bits} bits`]);
    }
    if (node.room !== null && node.room !== undefined) rows.push(["head-room of sums", `${node.room.toFixed(1)} bits, certified`]);
    if (node.us !== undefined && node.us !== null)
      rows.push(["time", `${number(node.us, 3)} us of a run, ${number(100 * node.us / facts.times.sum, 2)} %, on ${facts.times.isa}`]);
    if (node.kernels && node.kernels.length) rows.push(["kernels", node.kernels.join(", ")]);
    else if (node.kernels) rows.push(["kernels", "computed in another op's"]);
    return rows;
  }
  function table(rows) {
    const element = make("table"), body = make("tbody");
    for (const row of rows) {
      const line = make("tr");
      row.forEach((cell, i) => line.append(make("td", cell, i && row.length > 2 ? "n" : "")));
      body.append(line);
    }
    element.append(body);
    return element;
  }
  function ofError(node) {
    const error = node.error;
    if (!error) return [];
    const parts = [make("h3", "Errors")], rows = [];
    const line = (name, f) => f && rows.push([name, f.db === null ? "exact" : `${f.db.toFixed(1)} dB`,
      `cos ${f.cosine === null ? "–" : f.cosine.toFixed(5)}`, `max ${number(f.steps, 3)} steps`]);
    line("alone", error.isolated);
    line("in all", error.cumulative);
    parts.push(table(rows));
    if (error.reason) parts.push(make("p", `No error of its own: ${error.reason}.`, "quiet"));
    if (error.share !== undefined)
      parts.push(make("p", `${number(100 * error.share, 3)} % of the error at the outputs.`));
    if (error.causes) {
      const total = Object.values(error.causes).reduce((a, b) => a + (b || 0), 0) || 1;
      const bar = make("span", null, "causes wide"), key = make("p", null, "key");
      for (const [cause, share] of Object.entries(error.causes)) {
        const part = make("i", null, `c-${cause}`);
        part.style.width = `${100 * (share || 0) / total}%`;
        bar.append(part);
        if (share > 0.0005) key.append(make("i", `${cause} ${number(100 * share, 2)} %`, `c-${cause}`));
      }
      parts.push(bar, key);
      parts.push(make("p", `${number(100 * error.isolated.bias, 2)} % is the mean error of channels; ` +
        `${number(100 * error.clipped, 2)} % of the results are clipped.`, "quiet"));
    }
    return parts;
  }

  const W = 396, H = 120, BASE = 96;
  function plot(label) {
    return shape("svg", { class: "plot", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label });
  }
  function label(x, y, text, anchor) {
    const element = shape("text", { x, y, "text-anchor": anchor });
    element.textContent = text;
    return element;
  }
  function ofValues(node) {
    const values = node.values;
    if (!values || !node.q) return [];
    const picture = plot("histogram of the float values, and the chosen range");
    const x = v => W * (v - values.low) / (values.high - values.low || 1);
    picture.append(shape("rect", { class: "range", x: x(node.q.low), y: 0, width: x(node.q.high) - x(node.q.low), height: BASE }));
    const most = Math.log1p(Math.max(...values.counts)), step = W / values.counts.length;
    values.counts.forEach((count, i) => {
      const h = most ? (BASE - 4) * Math.log1p(count) / most : 0;
      picture.append(shape("rect", { class: "v", x: i * step, y: BASE - h, width: Math.max(step - 1, 1), height: h }));
    });
    picture.append(label(0, H - 8, number(values.low), "start"), label(W, H - 8, number(values.high), "end"));
    const rows = Object.entries(values.ranges).map(([name, [low, high]]) => [name, `${number(low)} to ${number(high)}`]);
    const listed = table(rows);
    [...listed.querySelectorAll("tr")].forEach((row, i) => {
      const [low, high] = values.ranges[rows[i][0]];
      row.addEventListener("pointerenter", () => {
        for (const v of [low, high]) picture.append(shape("line", { class: "other", x1: x(v), x2: x(v), y1: 0, y2: BASE }));
      });
      row.addEventListener("pointerleave", () => picture.querySelectorAll(".other").forEach(e => e.remove()));
    });
    const chosenRow = `shaded: the chosen range, ${number(node.q.low)} to ${number(node.q.high)}; values from ` +
      `${number(values.least)} to ${number(values.most)}; counts are logarithmic`;
    return [make("h3", "Float values"), picture, make("p", chosenRow, "quiet"),
      make("h3", "What estimators choose"), listed];
  }
  function ofIntegers(node) {
    const integers = node.integers;
    if (!integers) return [];
    const { low, width, counts, used } = integers, picture = plot("histogram of the integer network's values");
    const most = Math.log1p(Math.max(...counts)), step = W / counts.length;
    counts.forEach((count, i) => {
      const h = most ? (BASE - 4) * Math.log1p(count) / most : 0;
      if (count) picture.append(shape("rect", { class: "v", x: i * step, y: BASE - h, width: step, height: h }));
    });
    picture.append(shape("line", { class: "base", x1: 0, x2: W, y1: BASE, y2: BASE }));
    picture.append(label(0, H - 8, number(low), "start"), label(W, H - 8, number(low + width * counts.length - 1), "end"));
    const told = `integers from ${number(used[0])} to ${number(used[1])}; ${number(100 * integers.at_ends, 3)} % are at an end of ` +
      `the range; ${width > 1 ? `a bar is ${width} integers, and ` : ""}counts are logarithmic`;
    return [make("h3", "Values of the integer network"), picture, make("p", told, "quiet")];
  }
  function ofChannels(node) {
    const channels = node.channels;
    if (!channels) return [];
    const { before, after } = channels, picture = plot("largest weight of each channel");
    const positive = [...after, ...(before || [])].filter(v => v > 0);
    const least = Math.log(Math.min(...positive)), span = Math.log(Math.max(...positive)) - least || 1;
    const order = after.map((_, i) => i).sort((a, b) => (before || after)[a] - (before || after)[b]);
    const step = W / after.length, y = v => v > 0 ? 4 + (BASE - 12) * (1 - (Math.log(v) - least) / span) : BASE;
    order.forEach((channel, place) => {
      const w = Math.max(step * 0.8, 1);
      if (before) picture.append(shape("rect", { class: "before", x: place * step, y: y(before[channel]), width: w, height: BASE - y(before[channel]) }));
      picture.append(shape("circle", { class: "after", cx: place * step + w / 2, cy: y(after[channel]), r: Math.min(Math.max(w / 2, 1.2), 3) }));
    });
    picture.append(label(0, H - 8, `${number(Math.exp(least), 3)} to ${number(Math.exp(least + span), 3)}, logarithmic`, "start"));
    const ratio = list => Math.max(...list) / Math.min(...list.filter(v => v > 0));
    const text = before
      ? `bars: before equalization, ${number(ratio(before), 3)} times apart; dots: after, ${number(ratio(after), 3)}`
      : `${number(ratio(after), 3)} times apart; not equalized`;
    return [make("h3", `Largest weight of ${channels.count} channels`), picture, make("p", text, "quiet")];
  }

  function ofPasses(node) {
    if (!node.behind.length) return [];
    const rows = node.behind.map(([place, db]) => [`${place + 1} ${facts.passes[place]}`, `${db.toFixed(1)} dB`]);
    const listed = table(rows);
    listed.querySelectorAll("td:last-child").forEach(cell => { cell.className = "n"; });
    return [make("h3", "Ratio to the model's tensor, behind passes that changed it"), listed];
  }

  paint();
  begin();
  const asked = decodeURIComponent(location.hash.slice(1));
  if (asked.startsWith("op=") && byId.has(asked.slice(3))) choose(byId.get(asked.slice(3)));
  document.body.dataset.ready = "yes";
})();

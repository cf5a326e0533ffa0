// The picture of one zone's signal: the last minute, with the bands or thresholds that decide.

export const span = 60_000; // milliseconds shown

const bandOf = { short: "--band-tamper", open: "--band-tamper", normal: "--band-normal", alarm: "--band-alarm" };
const gap = 2000; // milliseconds without a scan that are more than a pause
const foot = 14; // pixels for the time axis

let colours = null; // of the scheme; read again when it changes

export function forgetColours() { colours = null; }

function palette() {
  if (!colours) {
    const style = getComputedStyle(document.documentElement);
    const names = ["trace", "rule", "edge", "grid", "quiet", "ink", "card", "band-normal", "band-alarm", "band-tamper", "bad", "still-bg"];
    colours = Object.fromEntries(names.map((n) => ["--" + n, style.getPropertyValue("--" + n).trim()]));
  }
  return colours;
}

// scale says what percent the top and the bottom stand for. A loop has the whole supply; a sensor that swings by a few
// points around its baseline is magnified, with its thresholds in sight.
export function scale(zone, values) {
  if (zone.signal === "contact" || zone.signal === "edges") return { low: -15, high: 115 };
  if (zone.signal !== "analog") return { low: 0, high: 100 };
  let low = Infinity, high = -Infinity;
  const see = (v) => { if (v !== null && v !== undefined) { low = Math.min(low, v); high = Math.max(high, v); } };
  values.forEach(see);
  for (const t of zone.thresholds) see(t.percent);
  see(zone.level?.baseline);
  if (low > high) return { low: 0, high: 100 };
  const room = Math.max((high - low) * 0.12, 0.5);
  return { low: low - room, high: high + room };
}

// bands makes ranges of the ends that thresholds name: two of a name are both ends; of one alone, the other is the end of
// the scale, on the side where no other band is.
export function bands(thresholds) {
  const ends = new Map();
  for (const t of thresholds) if (t.name in bandOf) ends.set(t.name, [...(ends.get(t.name) ?? []), t.percent]);
  const all = [];
  for (const [name, at] of ends) {
    if (at.length > 1) { all.push({ name, low: Math.min(...at), high: Math.max(...at) }); continue; }
    const others = [...ends].filter(([n]) => n !== name).flatMap(([, v]) => v);
    const below = others.some((v) => v < at[0]), above = others.some((v) => v > at[0]);
    if (below !== above) all.push(below ? { name, low: at[0], high: 100 } : { name, low: 0, high: at[0] });
    else all.push({ name, low: at[0], high: at[0] });
  }
  return all;
}

// draw paints frames[i][column] over the last minute before now.
export function draw(canvas, zone, frames, column, now) {
  const ratio = Math.min(devicePixelRatio || 1, 3);
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width || !height) return;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const c = canvas.getContext("2d"), ink = palette();
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, width, height);
  const values = frames.map((f) => f[column]);
  const { low, high } = scale(zone, values);
  const bottom = height - foot;
  const x = (t) => width - ((now - t) / span) * width;
  const y = (v) => bottom - ((Math.max(low, Math.min(high, v)) - low) / (high - low)) * bottom;
  c.font = "11px system-ui, sans-serif";
  c.textBaseline = "middle";

  const labels = [];
  for (const b of bands(zone.thresholds)) {
    const top = y(b.high), base = y(b.low);
    c.fillStyle = ink[bandOf[b.name]];
    c.fillRect(0, top, width, base - top);
    for (const [edge, at] of [[b.low, base], [b.high, top]]) if (edge > 0 && edge < 100) line(c, width, at, ink["--edge"], []);
    labels.push({ text: b.name, y: (top + base) / 2, room: base - top || Infinity });
  }

  c.strokeStyle = ink["--grid"];
  c.lineWidth = 1;
  c.beginPath();
  for (let s = 10; s < 60; s += 10) {
    const at = Math.round((s / 60) * width) + 0.5;
    c.moveTo(at, 0);
    c.lineTo(at, bottom);
  }
  c.stroke();
  line(c, width, bottom, ink["--grid"], []);

  unknown(c, frames, column, x, bottom, ink["--still-bg"]);

  for (const t of zone.thresholds) {
    if (t.name in bandOf) continue;
    line(c, width, y(t.percent), t.name === "enter" ? ink["--bad"] : ink["--rule"], t.name === "enter" ? [5, 3] : [2, 3]);
    labels.push({ text: t.name, y: y(t.percent), room: Infinity, x: t.name === "leave" ? 44 : 4 });
  }
  const baseline = zone.level?.baseline;
  if (baseline !== null && baseline !== undefined) {
    line(c, width, y(baseline), ink["--rule"], [1, 2]);
    labels.push({ text: "baseline", y: y(baseline), room: Infinity, x: 86 });
  }
  if (zone.signal === "contact" || zone.signal === "edges") {
    labels.push({ text: "active", y: y(100), room: Infinity }, { text: "quiet", y: y(0), room: Infinity });
  }

  trace(c, frames, column, x, y, ink["--trace"]);
  label(c, labels, bottom, ink);

  c.fillStyle = ink["--quiet"];
  c.textAlign = "left";
  c.fillText("60 s ago", 6, height - foot / 2);
  c.textAlign = "center";
  c.fillText("30", width / 2, height - foot / 2);
  c.textAlign = "right";
  c.fillText("now", width - 6, height - foot / 2);
}

function line(c, width, at, colour, dash) {
  c.save();
  c.strokeStyle = colour;
  c.lineWidth = 1;
  c.setLineDash(dash);
  c.beginPath();
  c.moveTo(0, Math.round(at) + 0.5);
  c.lineTo(width, Math.round(at) + 0.5);
  c.stroke();
  c.restore();
}

// unknown hatches the time in which the input could not be read.
function unknown(c, frames, column, x, bottom, colour) {
  c.fillStyle = colour;
  let from = null, last = null;
  const fill = (to) => { if (from !== null) c.fillRect(x(from), 0, Math.max(1, x(to) - x(from)), bottom); from = null; };
  for (const f of frames) {
    if (f[column] === null) from ??= last ?? f[0];
    else fill(f[0]);
    last = f[0];
  }
  if (last !== null) fill(last);
}

// trace draws the signal: of each column of pixels the least and the greatest, so that no pulse is lost.
function trace(c, frames, column, x, y, colour) {
  c.strokeStyle = colour;
  c.lineWidth = 1.6;
  c.lineJoin = "round";
  c.beginPath();
  let pen = false, pixel = null, least = 0, most = 0, end = 0, before = -Infinity;
  const flush = () => {
    if (pixel === null) return;
    if (pen) c.lineTo(pixel, least); else c.moveTo(pixel, least);
    if (most !== least) c.lineTo(pixel, most);
    c.lineTo(pixel, end);
    pen = true;
    pixel = null;
  };
  for (const f of frames) {
    const v = f[column];
    // Across a time without scans nothing is known, and no line goes.
    if (v === null || v === undefined || f[0] - before > gap) { flush(); pen = false; }
    before = f[0];
    if (v === null || v === undefined) continue;
    const at = Math.round(x(f[0]) * 2) / 2, h = y(v);
    if (at === pixel) { least = Math.min(least, h); most = Math.max(most, h); end = h; continue; }
    flush();
    pixel = at; least = most = end = h;
  }
  flush();
  c.stroke();
}

// label writes the names at the left, on a plate so that the signal does not cross them, and none over another.
function label(c, labels, bottom, ink) {
  c.textAlign = "left";
  const taken = [];
  for (const l of labels) {
    if (l.room < 11) continue;
    const left = l.x ?? 4, at = Math.max(8, Math.min(bottom - 8, l.y)), w = c.measureText(l.text).width;
    if (taken.some((t) => Math.abs(t.at - at) < 13 && left < t.right && t.left < left + w + 6)) continue;
    taken.push({ at, left, right: left + w + 6 });
    c.globalAlpha = 0.82;
    c.fillStyle = ink["--card"];
    c.fillRect(left, at - 7, w + 6, 14);
    c.globalAlpha = 1;
    c.fillStyle = ink["--ink"];
    c.fillText(l.text, left + 3, at + 0.5);
  }
}

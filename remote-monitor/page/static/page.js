// The page as a whole: one stream from the monitor, what is known, and when it is shown.

import { draw, forgetColours, span } from "./signal.js";
import * as view from "./view.js";
import { el, make, show, text } from "./view.js";

const silence = 5000; // milliseconds without a word that mean the connection is gone
const listed = 40; // events shown before anyone asks for all

let head = {}, live = {}, zones = [], groups = [], outputs = [], brokers = [], events = [];
let frames = []; // [milliseconds, percent, …], oldest first
let epoch = 0, last = "", seq = 0;
let session = false, noButtons = "";
let offset = 0; // of the monitor's clock from this browser's, milliseconds
let heard = 0, source = null, again = 0, asked = null, everything = false;

const cards = new Map();
const now = () => Date.now() + offset;

// --- the stream

function connect() {
  clearTimeout(again);
  source?.close();
  heard = performance.now();
  source = new EventSource("events" + (last ? `?last=${encodeURIComponent(last)}` : ""));
  const on = (name, f) => source.addEventListener(name, (e) => {
    heard = performance.now();
    show(el("lost"), false);
    f(JSON.parse(e.data), e);
  });
  on("hello", (h) => {
    // A program that was started anew counts from the beginning, and so does a stream that starts there.
    if (h.epoch !== epoch || h.after === 0) frames = [];
    epoch = h.epoch;
    session = h.session;
    noButtons = h.buttons;
    seq = 0;
  });
  on("status", (s) => { zones = []; apply(s); });
  on("delta", (d) => {
    // A gap cannot be mended: begin again.
    if (d.seq !== seq + 1) return connect();
    apply(d);
  });
  on("frames", (f, e) => {
    last = e.lastEventId;
    frames.push(...f);
    const newest = frames.at(-1)[0];
    frames = frames.slice(frames.findIndex((x) => x[0] > newest - span - 1000));
    paint();
  });
  // The browser tries again by itself, but not after an answer that was no stream.
  source.addEventListener("error", () => {
    lost();
    if (source.readyState === EventSource.CLOSED) again = setTimeout(connect, 3000);
  });
}

function lost() {
  text(el("lost"), "The connection to the monitor is lost. What you see is as it was; trying again …");
  show(el("lost"), true);
}

function apply(m) {
  seq = m.seq;
  if (m.head) head = m.head;
  if (m.groups) groups = m.groups;
  if (m.outputs) outputs = m.outputs;
  if (m.brokers) brokers = m.brokers;
  for (const z of m.zones ?? []) {
    const i = zones.findIndex((x) => x.id === z.id);
    if (i < 0) zones.push(z); else zones[i] = { ...z, level: zones[i].level };
  }
  if (m.levels) zones.forEach((z, i) => { z.level = m.levels[i]; });
  if (m.live) {
    live = m.live;
    offset = Date.parse(live.time) - Date.now();
  }
  if (m.events) {
    events = (m.allEvents ? m.events : m.events.concat(events)).slice(0, 200);
    listEvents();
  }
  render();
}

// --- what is shown

function render() {
  const t = now(), buttons = !noButtons;
  text(el("device"), head.device || "Remote Monitor");
  const title = worst();
  if (document.title !== title) document.title = title;
  text(el("board"), [head.board || "no board", head.version && `version ${head.version}`].filter(Boolean).join(" · "));
  show(el("trouble"), !!head.trouble);
  text(el("trouble"), head.trouble ? `The board does not answer: ${head.trouble}` : "");
  show(el("unhealthy"), !head.healthy && !head.trouble);
  text(el("unhealthy"), head.healthy ? "" : `Not healthy: ${head.unhealthy || "not ready yet"}`);
  summary();
  facts(t);

  const box = el("zones");
  if (!zones.length) box.replaceChildren(make("p", "quiet", "No zones are configured, so nothing is watched."));
  else if (zones.length !== cards.size || zones.some((z) => !cards.has(z.id))) {
    cards.clear();
    for (const z of zones) cards.set(z.id, view.zoneCard(z));
    box.replaceChildren(...cards.values());
    cards.forEach((c) => watcher.observe(c));
  }
  for (const z of zones) view.zone(cards.get(z.id), z, groups.find((g) => g.id === z.group), t);

  section("groups", groups, (row, g) => view.group(row, g, buttons, press));
  section("outputs", outputs, (row, o) => view.output(row, o, buttons, press));
  section("brokers", brokers, view.broker);
  show(el("buttons"), !!noButtons && outputs.length + groups.length > 0);
  text(el("buttons"), noButtons);
  show(el("lock"), buttons && outputs.length + groups.length > 0);
  text(el("lock"), session ? "Lock buttons" : "Unlock buttons");
  tick();
}

function section(id, things, fill) {
  show(el(id).closest("section"), things.length > 0);
  view.rows(el(id), things, fill);
}

function worst() {
  const bad = ["alarm", "tamper", "fault", "pre_alarm"].map((s) => [s, zones.filter((z) => z.state === s).length]).find(([, n]) => n);
  const name = head.device || "Remote Monitor";
  return bad ? `${bad[1]} ${view.states[bad[0]].word.toLowerCase()} – ${name}` : name;
}

function summary() {
  const counts = Object.keys(view.states).map((s) => [s, zones.filter((z) => z.state === s).length]).filter(([, n]) => n);
  view.put(el("summary"), JSON.stringify([counts, head.healthy]), () => [
    ...counts.map(([s, n]) => view.badge(`${n} ${view.states[s].word.toLowerCase()}`, view.states[s].icon, view.states[s].tone)),
    head.healthy ? view.badge("healthy", "normal", "good") : view.badge("not healthy", "fault", "warn"),
  ]);
}

function facts(t) {
  const all = [
    ["Up", head.started ? view.ago(t - Date.parse(head.started)) : "–"],
    ["Scan", live.tookSeconds === undefined ? "–" : `${(live.tookSeconds * 1000).toFixed(0)} ms`],
    ["Late", live.lagSeconds === undefined ? "–" : `${(live.lagSeconds * 1000).toFixed(0)} ms`],
    ...(live.supply ? [["Supply", `${live.supply.toFixed(2)} V`]] : []),
  ];
  const list = el("facts");
  if (list.children.length !== all.length) list.replaceChildren(...all.map(() => make("div", "", make("dt"), make("dd"))));
  all.forEach(([k, v], i) => {
    text(list.children[i].firstChild, k);
    text(list.children[i].lastChild, v);
  });
}

function listEvents() {
  const names = new Map([...zones.map((z) => [z.id, z.name]), ...outputs.map((o) => [o.id, o.label])]);
  const all = el("serious").checked ? events.filter((e) => view.serious.has(e.event)) : events;
  const some = everything ? all : all.slice(0, listed);
  const items = some.map((e) => view.event(e, names));
  el("events").replaceChildren(...(items.length ? items : [make("li", "quiet", "Nothing has happened yet.")]));
  show(el("more"), some.length < all.length);
  text(el("more"), `Show all ${all.length}`);
}

// --- what moves by itself

const seen = new Set();
const watcher = new IntersectionObserver((entries) => {
  for (const e of entries) if (e.isIntersecting) seen.add(e.target); else seen.delete(e.target);
  paint();
});

function paint() {
  if (document.hidden || !frames.length) return;
  const newest = frames.at(-1)[0];
  // The signal moves with the scans; when none come although the monitor is there, with the clock.
  const at = el("lost").hidden && now() - newest > 2000 ? now() : newest;
  zones.forEach((z, i) => {
    const card = cards.get(z.id);
    if (card && seen.has(card)) draw(card.querySelector("canvas"), z, frames, i + 1, at);
  });
}

function tick() {
  const t = now();
  for (const z of zones) if (cards.has(z.id)) view.sinces(cards.get(z.id), z, t);
  for (const [list, things] of [[el("outputs"), outputs], [el("groups"), groups]]) {
    things.forEach((x, i) => { if (list.children[i]) view.countdown(list.children[i], x, t); });
  }
}

setInterval(() => {
  tick();
  if (frames.length && now() - frames.at(-1)[0] > 2000) paint();
  if (source && performance.now() - heard > silence) {
    lost();
    connect();
  }
}, 1000);

// --- buttons

async function post(path, body) {
  const r = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const said = await r.json().catch(() => ({ error: `the monitor answered ${r.status}` }));
  return { ...said, code: r.status };
}

async function press(button, what, id, body) {
  const label = button.getAttribute("aria-label");
  button.disabled = true;
  try {
    const a = await post(`api/${what}/${encodeURIComponent(id)}`, body);
    if (a.code === 401) {
      session = false;
      render();
      return unlock(() => press(button, what, id, body));
    }
    if (a.error) return answer(a.error, "bad");
    answer(`${label}: ${a.status}${a.reason ? ` – ${a.reason}` : ""}`, a.code === 200 ? "good" : "bad");
    // A window that has to stay open is no reason to leave the house unarmed.
    if (a.code === 409 && body.action === "arm") offer(`Arm ${id} anyway`, what, id, { action: "arm_force" });
  } catch {
    answer("The monitor cannot be reached; nothing is known of what was pressed.", "bad");
  } finally {
    button.disabled = false;
  }
}

let fade = 0;
function answer(words, tone) {
  const e = el("answer");
  e.className = `banner ${tone}`;
  text(e, words);
  show(e, true);
  clearTimeout(fade);
  fade = setTimeout(() => show(e, false), 8000);
}

// offer adds a button to the answer.
function offer(label, what, id, body) {
  const b = make("button", "", label);
  b.type = "button";
  b.setAttribute("aria-label", label);
  b.addEventListener("click", () => press(b, what, id, body));
  el("answer").append(" ", b);
  clearTimeout(fade);
}

function unlock(then) {
  asked = then ?? null;
  text(el("login-error"), "");
  el("token").value = "";
  el("login").showModal();
  el("token").focus();
}

el("lock").addEventListener("click", async () => {
  if (!session) return unlock();
  await post("api/logout", {}).catch(() => {});
  session = false;
  render();
});
el("login-cancel").addEventListener("click", () => el("login").close());
el("login-form").addEventListener("submit", async (e) => {
  e.preventDefault();
  const a = await post("api/login", { token: el("token").value }).catch(() => ({ error: "the monitor cannot be reached" }));
  if (a.error) return text(el("login-error"), a.error);
  session = true;
  el("login").close();
  render();
  asked?.();
  asked = null;
});

el("serious").addEventListener("change", listEvents);
el("more").addEventListener("click", () => { everything = true; listEvents(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { forgetColours(); paint(); });
addEventListener("resize", paint);

// A page nobody looks at asks for nothing after a minute.
let idle = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(idle);
  if (document.hidden) {
    idle = setTimeout(() => { source?.close(); source = null; }, 60_000);
  } else if (!source) {
    connect();
  } else {
    paint();
  }
});

const minutes = -new Date().getTimezoneOffset();
text(el("zone-of-time"), `Times are this browser’s, UTC${minutes ? (minutes > 0 ? "+" : "−") + String(Math.floor(Math.abs(minutes) / 60)).padStart(2, "0") + ":" + String(Math.abs(minutes) % 60).padStart(2, "0") : ""}`);
connect();

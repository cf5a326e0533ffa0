// What things look like: each function brings one piece of the page in line with what is known, and touches nothing
// that is right already, so that a screen reader and a finger are not disturbed.

const svg = "http://www.w3.org/2000/svg";

export const states = {
  normal: { word: "Normal", icon: "normal", tone: "good" },
  pre_alarm: { word: "Pre-alarm", icon: "pre_alarm", tone: "warn" },
  alarm: { word: "Alarm", icon: "alarm", tone: "bad" },
  tamper: { word: "Tamper", icon: "tamper", tone: "odd" },
  fault: { word: "Fault", icon: "fault", tone: "warn" },
};
const groupStates = {
  disarmed: { word: "Disarmed", icon: "disarmed", tone: "still" },
  exit: { word: "Exit delay", icon: "pre_alarm", tone: "on" },
  armed: { word: "Armed", icon: "armed", tone: "on" },
  entry: { word: "Entry delay", icon: "pre_alarm", tone: "warn" },
  alarm: { word: "Alarm", icon: "alarm", tone: "bad" },
};
const stages = {
  spike: "single spike", common_mode: "several inputs at once", width: "too short", count: "too few pulses", refractory: "told lately",
  confirm: "no second zone", quarantine: "in quarantine", swinger: "too many alarms", warm_up: "warming up", walk_test: "walk test", disarmed: "disarmed",
};
const kinds = {
  alarm: ["Alarm", "bad"], alarm_again: ["Alarm again", "still"], confirmed: ["Confirmed", "bad"], pre_alarm: ["Pre-alarm", "warn"], tamper: ["Tamper", "odd"], fault: ["Fault", "warn"],
  restore: ["Restore", "good"], motion: ["Motion", "on"], still: ["Still", "still"], silent: ["Silent", "warn"], quarantine: ["Quarantine", "warn"],
  swinger: ["Swinger", "warn"], exit: ["Exit delay", "on"], armed: ["Armed", "on"], entry: ["Entry delay", "warn"], disarmed: ["Disarmed", "still"],
  refused: ["Refused", "warn"], common_mode: ["Common mode", "still"], warm: ["Warmed up", "still"], walk_test: ["Walk test", "on"],
  on: ["On", "on"], off: ["Off", "still"], forced_off: ["Forced off", "warn"], found_energised: ["Found on", "warn"], output_fault: ["Output fault", "bad"],
  output_unconfirmed: ["Not confirmed", "bad"], expander_reset: ["Expander reset", "warn"], output_restore: ["Output restored", "good"],
  start: ["Start", "still"], stop: ["Stop", "still"], heartbeat: ["Heartbeat", "still"],
};
export const serious = new Set(["alarm", "confirmed", "tamper", "fault", "silent", "refused", "entry", "output_fault", "output_unconfirmed", "expander_reset", "found_energised", "forced_off"]);

export const el = (id) => document.getElementById(id);

export function make(tag, cls, ...inside) {
  const e = document.createElement(tag);
  if (cls) e.className = cls;
  e.append(...inside);
  return e;
}

export function icon(name) {
  const s = document.createElementNS(svg, "svg"), u = document.createElementNS(svg, "use");
  s.setAttribute("class", "icon");
  s.setAttribute("aria-hidden", "true");
  u.setAttribute("href", "#i-" + name);
  s.append(u);
  return s;
}

export function text(e, s) { if (e.textContent !== s) e.textContent = s; }
export function show(e, on) { if (e.hidden === on) e.hidden = !on; }
export function badge(word, name, tone, cls = "") { return make("span", `badge tone-${tone} ${cls}`, ...(name ? [icon(name)] : []), word); }

// put replaces what is inside e, but only when key says that it differs.
export function put(e, key, build) {
  if (e.dataset.key === key) return;
  e.dataset.key = key;
  e.replaceChildren(...build());
}

const two = (n) => String(n).padStart(2, "0");

// clock writes a time as people here read it; of another day with its date.
export function clock(when, now = Date.now()) {
  const d = new Date(when), hms = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
  const today = new Date(now).toDateString() === d.toDateString();
  return today ? hms : `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${hms}`;
}

export function stamp(when) {
  const t = make("time", "", clock(when));
  t.dateTime = when;
  t.title = when.replace("T", " ").replace(/\.\d+Z$/, " UTC");
  return t;
}

export function ago(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 90) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${two(Math.floor(s / 60) % 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

const known = (v) => v !== null && v !== undefined;

export function zoneCard(z) {
  const card = make("article", "zone"), id = "z-" + z.id;
  const title = make("h3", "", z.name);
  title.id = id;
  card.setAttribute("aria-labelledby", id);
  const value = make("div", "value", make("b"), make("span", "quiet"));
  const canvas = make("canvas");
  canvas.setAttribute("role", "img");
  card.append(make("div", "top", make("div", "", title, make("p", "quiet where")), value), make("div", "state"), make("p", "reason quiet"), canvas, make("div", "why"));
  return card;
}

export function zone(card, z, group, now) {
  const s = states[z.state] ?? { word: z.state, icon: "info", tone: "still" };
  const cls = `zone tone-${s.tone}`;
  if (card.className !== cls) card.className = cls;
  card.dataset.state = z.state;
  text(card.querySelector(".where"), [z.type, z.location, z.pin].filter(Boolean).join(" · "));
  const away = Date.parse(z.quarantined ?? "") > now;
  put(card.querySelector(".state"), JSON.stringify([z.state, z.group, group?.state, z.motion, away && z.quarantined, z.swinger, z.warmUp, z.silent, z.alarmsToday, z.since]), () => {
    const all = [badge(s.word, s.icon, s.tone, "main"), make("span", "quiet since")];
    if (z.motion) all.push(badge("Motion", "motion", "on"));
    const g = groupStates[group?.state];
    if (z.group) all.push(badge(g ? `${z.group}: ${g.word.toLowerCase()}` : z.group, g?.icon === "disarmed" ? "disarmed" : "armed", "still"));
    if (away) all.push(badge(`Quarantine until ${clock(z.quarantined)}`, "pre_alarm", "warn"));
    if (z.swinger) all.push(badge("Swinger: left out", "info", "warn"));
    if (z.warmUp) all.push(badge("Warming up", "pre_alarm", "still"));
    if (z.silent) all.push(badge("Silent for days", "info", "warn"));
    if (z.alarmsToday) all.push(badge(`${z.alarmsToday} alarm${z.alarmsToday === 1 ? "" : "s"} in 24 h`, "", "still"));
    return all;
  });
  sinces(card, z, now);
  const reason = card.querySelector(".reason");
  show(reason, z.state !== "normal" && !!z.reason);
  text(reason, z.reason ?? "");
  put(card.querySelector(".why"), JSON.stringify([z.suppressed, z.suppressedToday]), () => {
    if (!z.suppressed.length) return [make("span", "quiet", "Nothing was turned down lately.")];
    const list = make("ul");
    for (const c of z.suppressed.slice(0, 3)) list.append(make("li", "", stamp(c.time), make("span", "", make("b", "", stages[c.stage] ?? c.stage), c.reason ? `: ${c.reason}` : "")));
    const h = make("h4", "", z.suppressedToday ? `Turned down, ${z.suppressedToday} in 24 h` : "Turned down lately");
    return [h, list];
  });
  level(card, z);
}

export function level(card, z) {
  const l = z.level ?? {}, line = z.signal === "contact" || z.signal === "edges";
  const percent = !known(l.percent) ? "unknown" : line ? (l.percent > 50 ? "active" : "quiet") : `${l.percent.toFixed(1)} %`;
  text(card.querySelector(".value b"), percent);
  text(card.querySelector(".value span"), known(l.volts) && !line ? `${l.volts.toFixed(2)} V` : "");
  const canvas = card.querySelector("canvas");
  const says = `Signal of ${z.name} in the last 60 seconds; now ${percent}`;
  if (canvas.getAttribute("aria-label") !== says) canvas.setAttribute("aria-label", says);
}

export function sinces(card, z, now) {
  const e = card.querySelector(".since");
  if (e) text(e, z.since ? `for ${ago(now - Date.parse(z.since))}` : "");
}

export function group(row, g, buttons, press) {
  const s = groupStates[g.state] ?? { word: g.state, icon: "info", tone: "still" };
  put(row, JSON.stringify([g, buttons]), () => {
    const all = [make("h3", "", g.id), badge(s.word, s.icon, s.tone, g.state === "alarm" ? "strong" : "")];
    const by = g.since ? [`since ${clock(g.since)}`, g.by && `by ${g.by}`].filter(Boolean).join(" ") : g.by && `by ${g.by}`;
    const told = make("div", buttons ? "" : "wide");
    if (by) told.append(make("p", "quiet", by));
    if (g.until) told.append(make("p", "left"));
    all.push(told);
    if (buttons) {
      const arm = g.state === "disarmed";
      const b = make("button", "", arm ? "Arm" : "Disarm");
      b.type = "button";
      b.setAttribute("aria-label", `${b.textContent} ${g.id}`);
      b.addEventListener("click", () => press(b, "groups", g.id, { action: arm ? "arm" : "disarm" }));
      all.push(b);
    }
    return all;
  });
}

export function output(row, o, buttons, press) {
  put(row, JSON.stringify([{ ...o, totalOnSeconds: 0 }, buttons]), () => {
    const all = [
      make("div", "", make("h3", "", o.label), make("p", "quiet", [o.type, o.location, o.pin].filter(Boolean).join(" · "))),
      o.fault ? badge("Fault", "fault", "bad", "strong") : badge(o.on ? "On" : "Off", o.on ? "on" : "off", o.on ? "on" : "still", o.on ? "strong" : ""),
    ];
    if (o.fault) all.push(make("p", "fault wide", `${o.on ? "On" : "Off"}; ${o.fault}`));
    if (o.on !== o.wanted && !o.fault) all.push(make("p", "quiet wide", o.wanted ? "going on …" : "going off …"));
    if (o.on) all.push(make("p", "quiet wide left"));
    if (o.on && o.until) {
      const p = make("progress");
      p.max = Math.max(1, Date.parse(o.until) - Date.parse(o.since));
      p.setAttribute("aria-label", `Time left of ${o.label}`);
      all.push(p);
    }
    if (buttons) all.push(outputButtons(o, press));
    return all;
  });
}

function outputButtons(o, press) {
  const bar = make("div", "buttons"), seconds = make("input", "seconds");
  const add = (word, action, timed) => {
    const b = make("button", "", word);
    b.type = "button";
    b.setAttribute("aria-label", `${word}: ${o.label}`);
    b.addEventListener("click", () => {
      if (timed && !seconds.reportValidity()) return;
      press(b, "outputs", o.id, { action, ...(timed && seconds.value ? { seconds: Number(seconds.value) } : {}) });
    });
    bar.append(b);
  };
  if (o.momentary) add("Pulse", "pulse", true);
  else add("On", "on", true);
  add("Off", "off", false);
  Object.assign(seconds, { type: "number", min: "0", max: "86400", step: "any", inputMode: "decimal" });
  seconds.setAttribute("aria-label", `Seconds on: ${o.label}`);
  bar.append(make("span", "after", "for", seconds, "s"));
  return bar;
}

// countdown writes the time left and moves the bar.
export function countdown(row, x, now) {
  const left = row.querySelector(".left");
  if (!left) return;
  const ms = x.until ? Date.parse(x.until) - now : NaN;
  const by = x.source ? `by ${x.source}` : "";
  text(left, Number.isNaN(ms) ? [`on for ${ago(now - Date.parse(x.since))}`, by].filter(Boolean).join(", ") : [`${Math.max(0, Math.ceil(ms / 1000))} s left`, by].filter(Boolean).join(", "));
  const bar = row.querySelector("progress");
  if (bar && !Number.isNaN(ms)) bar.value = Math.max(0, Math.min(bar.max, ms));
}

export function broker(row, b) {
  put(row, JSON.stringify(b), () => {
    const all = [make("h3", "", b.name.toUpperCase()), b.connected ? badge("Connected", "link", "good") : badge("Away", "fault", "warn")];
    const facts = [b.since && `since ${clock(b.since)}`, b.waiting && `${b.waiting} waiting`, b.dropped && `${b.dropped} lost`, b.trouble].filter(Boolean);
    if (facts.length) all.push(make("p", "quiet wide", facts.join(" · ")));
    return all;
  });
}

export function event(e, names) {
  const [word, tone] = kinds[e.event] ?? [e.event, "still"];
  const about = names.get(e.zone) ?? names.get(e.output) ?? e.zone ?? e.output ?? e.group ?? "";
  const li = make("li", `tone-${tone}`, stamp(e.time), make("span", "", make("span", "kind", word), about && ` ${about}`, " ", make("span", "reason", e.reason ?? "")));
  if (e.confirmed) li.lastChild.append(" ", badge("Confirmed", "", "bad"));
  if (e.replayed) li.lastChild.append(" ", badge("Replayed", "", "still"));
  return li;
}

// rows keeps one element for each thing, in order.
export function rows(list, things, fill) {
  const have = new Map([...list.children].map((e) => [e.dataset.id, e]));
  const want = things.map((t) => {
    const row = have.get(t.id ?? t.name) ?? make("li");
    row.dataset.id = t.id ?? t.name;
    fill(row, t);
    return row;
  });
  if (want.length !== list.children.length || want.some((e, i) => list.children[i] !== e)) list.replaceChildren(...want);
}

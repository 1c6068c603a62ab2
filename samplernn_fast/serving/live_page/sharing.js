// Links that make the same sound again: what played, in the fragment of the page's address, which no server ever sees.
//
//   #m=<16 hex digits of the model's sha256>&s=<seed>&t=<temperature>&k=<top-k>&p=<top-p>&q=1&c=<changes>
//
// k and p are left out where they are off; q says that there was a prompt, which no link holds. A change is the number
// of samples since the one before it, to the base of 36, and what changed: "jk-t0.8-k20~5a-r1". k0 and p0 are off, f1
// and f0 freeze and go on, r1 is a reset.

const DIGITS = 16;
const LETTERS = { t: "temperature", k: "top_k", p: "top_p", f: "frozen", r: "reset" };
const LIMITS = { temperature: [0, 2], top_k: [1, 65536], top_p: [0, 1] };

// shared: {sha256, seed, temperature, top_k, top_p, prompted, score}, where the score is that of docs/live.md.
export function encode(shared) {
  const fields = [["m", shared.sha256.slice(0, DIGITS)], ["s", shared.seed], ["t", shared.temperature]];
  if (shared.top_k !== null) fields.push(["k", shared.top_k]);
  if (shared.top_p !== null) fields.push(["p", shared.top_p]);
  if (shared.prompted) fields.push(["q", 1]);
  if (shared.score.length) fields.push(["c", encodeScore(shared.score)]);
  return "#" + fields.map(([letter, value]) => `${letter}=${value}`).join("&");
}

function encodeScore(score) {
  let before = 0;
  return score.map(([at, changes]) => {
    const parts = [(at - before).toString(36)];
    before = at;
    for (const [letter, name] of Object.entries(LETTERS)) if (name in changes) parts.push(letter + word(changes[name]));
    return parts.join("-");
  }).join("~");
}

function word(value) {
  if (value === true) return 1;
  return value || 0; // null and false are 0
}

// What a fragment holds, or null where it is empty. Throws an Error whose message is for the listener.
export function decode(fragment) {
  if (fragment.replace("#", "") === "") return null;
  const fields = new URLSearchParams(fragment.slice(1));
  const id = fields.get("m") ?? "";
  if (!/^[0-9a-f]{16,64}$/.test(id)) throw damaged();
  return {
    id,
    seed: whole(fields.get("s"), 0, Number.MAX_SAFE_INTEGER),
    temperature: setting("temperature", fields.get("t")),
    top_k: fields.has("k") ? setting("top_k", fields.get("k")) : null,
    top_p: fields.has("p") ? setting("top_p", fields.get("p")) : null,
    prompted: fields.has("q"),
    score: decodeScore(fields.get("c")),
  };
}

const damaged = () => new Error("This address is no whole link to shared sound; the page works without it.");

function decodeScore(text) {
  if (!text) return [];
  let at = 0;
  return text.split("~").map((entry) => {
    const [step, ...parts] = entry.split("-");
    if (!/^[0-9a-z]{1,9}$/.test(step) || !parts.length) throw damaged();
    at += parseInt(step, 36);
    return [at, Object.fromEntries(parts.map(decodeChange))];
  });
}

function decodeChange(part) {
  const [name, value] = [LETTERS[part[0]], part.slice(1)];
  if (name === "reset" && value === "1") return [name, true];
  if (name === "frozen" && /^[01]$/.test(value)) return [name, value === "1"];
  if ((name === "top_k" || name === "top_p") && value === "0") return [name, null];
  if (name in LIMITS) return [name, setting(name, value)];
  throw damaged();
}

function setting(name, text) {
  const [least, most] = LIMITS[name];
  if (name === "top_k") return whole(text, least, most);
  const value = /^\d+(\.\d+)?$/.test(text ?? "") ? Number(text) : NaN;
  if (!(value >= least && value <= most) || (name === "top_p" && value === 0)) throw damaged();
  return value;
}

function whole(text, least, most) {
  const value = /^\d{1,16}$/.test(text ?? "") ? Number(text) : NaN;
  if (!(value >= least && value <= most)) throw damaged();
  return value;
}

// A score with one more change in it, in the order of positions: those that come with a shared link lie ahead.
export function insert(score, at, changes) {
  const behind = score.findLastIndex(([position]) => position <= at) + 1;
  score.splice(behind, 0, [at, changes]);
}

// Copies the text of a field. Returns whether the browser has allowed it.
export async function copy(field) {
  try {
    await navigator.clipboard.writeText(field.value);
    return true;
  } catch {
    field.select();
    return document.execCommand("copy"); // which pages of plain HTTP may do
  }
}

// A face that curves of ARKit's blendshapes move, in step with the sound above it on the page.
//
// `face_picture.py` draws the same face for files: who changes one changes the other.

const SVG = "http://www.w3.org/2000/svg";
const faces = new WeakMap();

export default function (component) {
  const { parentElement, data } = component;
  let face = faces.get(parentElement);
  if (!face) {
    face = new Face(parentElement);
    faces.set(parentElement, face);
  }
  face.update(data);
  return () => {
    face.close();
    faces.delete(parentElement);
  };
}

class Face {
  constructor(root) {
    this.root = root;
    this.svg = root.querySelector("svg");
    this.slider = root.querySelector("input");
    this.label = root.querySelector("label span");
    this.clock = root.querySelector("output");
    this.parts = {};
    for (const [name, kind] of PARTS) {
      const part = document.createElementNS(SVG, kind);
      part.setAttribute("class", name);
      this.svg.append(part);
      this.parts[name] = part;
    }
    this.following = null; // the sound that was last heard
    this.frame = 0;
    this.slider.oninput = () => this.seek(Number(this.slider.value));
    // these events do not bubble, but are seen on their way down
    this.hear = (event) => this.heard(event.target);
    for (const kind of HEARD) document.addEventListener(kind, this.hear, true);
  }

  close() {
    cancelAnimationFrame(this.frame);
    for (const kind of HEARD) document.removeEventListener(kind, this.hear, true);
  }

  update(data) {
    const bytes = Uint8Array.from(atob(data.values), (letter) => letter.charCodeAt(0));
    this.rows = bytes;
    this.names = data.names;
    this.fps = data.fps;
    this.count = bytes.length / data.names.length;
    this.seconds = this.count / this.fps;
    this.slider.max = String(this.seconds);
    this.slider.step = String(1 / this.fps);
    this.svg.setAttribute("aria-label", data.title);
    this.label.textContent = data.time;
    this.draw(Number(this.slider.value));
  }

  /** The sound that belongs to this face: the nearest one above it. */
  sound() {
    const here = this.root.getRootNode().host ?? this.root;
    const above = [...document.querySelectorAll("audio")].filter(
      (one) => here.compareDocumentPosition(one) & Node.DOCUMENT_POSITION_PRECEDING
    );
    return above[above.length - 1] ?? null;
  }

  heard(target) {
    if (!(target instanceof HTMLAudioElement) || target !== this.sound()) return;
    this.following = target;
    cancelAnimationFrame(this.frame);
    this.follow();
  }

  follow() {
    const sound = this.following;
    if (!sound?.isConnected) return;
    this.slider.value = String(sound.currentTime);
    this.draw(sound.currentTime);
    if (!sound.paused && !sound.ended) this.frame = requestAnimationFrame(() => this.follow());
  }

  seek(time) {
    this.draw(time);
    const sound = this.sound();
    if (sound && sound.readyState > 0) sound.currentTime = Math.min(time, sound.duration || time);
  }

  /** The blendshapes at a time, between two frames. */
  at(time) {
    const place = Math.max(0, Math.min(time * this.fps, this.count - 1));
    const before = Math.floor(place);
    const after = Math.min(before + 1, this.count - 1);
    const share = place - before;
    const width = this.names.length;
    return Object.fromEntries(
      this.names.map((name, index) => {
        const [a, b] = [this.rows[before * width + index], this.rows[after * width + index]];
        return [name, (a + (b - a) * share) / 255];
      })
    );
  }

  draw(time) {
    if (!this.count) return;
    const text = `${time.toFixed(2)} / ${this.seconds.toFixed(2)}`;
    this.clock.textContent = text;
    this.slider.setAttribute("aria-valuetext", text);
    for (const [name, attributes] of Object.entries(drawing(this.at(time)))) {
      for (const [key, value] of Object.entries(attributes)) this.parts[name].setAttribute(key, value);
    }
  }
}

const HEARD = ["play", "pause", "timeupdate", "seeking", "seeked", "ended"];
const PARTS = [
  ["head", "path"],
  ["eye-right", "ellipse"],
  ["eye-left", "ellipse"],
  ["pupil-right", "circle"],
  ["pupil-left", "circle"],
  ["brow-right", "path"],
  ["brow-left", "path"],
  ["nose", "path"],
  ["lips", "path"],
  ["mouth", "path"],
  ["tongue", "ellipse"],
];

/** What each part looks like for blendshapes by name; those that are missing are 0. */
export function drawing(value) {
  const of = (name) => value[name] ?? 0;
  const both = (name) => (of(`${name}Left`) + of(`${name}Right`)) / 2;
  const parts = { nose: { d: "M100 112 L94 132 L102 134" } };
  for (const [side, x, out] of [
    ["Right", 66, -1],
    ["Left", 134, 1],
  ]) {
    const wide = 1 + 0.4 * of(`eyeWide${side}`) - 0.35 * of(`eyeSquint${side}`);
    const height = Math.max(11 * wide * (1 - of(`eyeBlink${side}`)), 0.8);
    const name = side.toLowerCase();
    parts[`eye-${name}`] = { cx: x, cy: 98, rx: 16, ry: height.toFixed(2) };
    parts[`pupil-${name}`] = { cx: x, cy: 98, r: height > 3 ? Math.min(6, height).toFixed(2) : 0 };
    const down = 8 * of(`browDown${side}`);
    const inner = 74 - 12 * of("browInnerUp") + down;
    const outer = 74 - 10 * of(`browOuterUp${side}`) + down;
    const middle = (inner + outer) / 2 - 6;
    parts[`brow-${name}`] = { d: bent([x - out * 17, inner], [x, middle], [x + out * 19, outer]) };
  }
  const jaw = of("jawOpen");
  const chin = (216 + 22 * jaw - 110).toFixed(2);
  parts.head = { d: `M18 110 A82 100 0 0 1 182 110 A82 ${chin} 0 0 1 18 110 Z` };
  const wide = 29 + 9 * both("mouthStretch") + 7 * both("mouthSmile") + 4 * both("mouthDimple");
  const half = Math.max(wide - 14 * of("mouthPucker") - 8 * of("mouthFunnel"), 8);
  const corner = 158 + 6 * jaw - 8 * both("mouthSmile") + 8 * both("mouthFrown");
  const shut = 1 - 0.9 * Math.min(both("mouthPress") * 1.6, 1);
  const high =
    (1 + 7 * both("mouthUpperUp") + 5 * of("mouthFunnel") - 4 * of("mouthShrugUpper")) * shut;
  const open = 40 * Math.max(jaw - of("mouthClose"), 0) + 8 * both("mouthLowerDown");
  const low = (open + 6 * of("mouthFunnel")) * shut;
  const full = 6 + 4 * of("mouthPucker") + 3 * of("mouthFunnel") - 3 * both("mouthPress");
  const upper = Math.max(full - 5 * of("mouthRollUpper"), 1.5);
  const lower = Math.max(full + 2 - 7 * of("mouthRollLower"), 1.5);
  const x = 100 + 8 * (of("mouthLeft") - of("mouthRight"));
  parts.lips = { d: lips(x, half, corner, 158 - 2 * (high + upper), 158 + 2 * (low + lower)) };
  parts.mouth = { d: lips(x, half * 0.84, corner, 158 - 2 * high, 158 + 2 * low) };
  const tongue = of("tongueOut");
  const size = tongue > 0.05 ? 5 + 8 * tongue : 0;
  const middle = 158 + low - high + 4;
  const [rx, ry] = [size ? 11 : 0, (size * 0.75).toFixed(2)];
  parts.tongue = { cx: x.toFixed(2), cy: (middle + size / 4).toFixed(2), rx, ry };
  return parts;
}

function bent(start, towards, end) {
  const [a, b, c] = [start, towards, end].map(([x, y]) => `${x.toFixed(2)} ${y.toFixed(2)}`);
  return `M${a} Q${b} ${c}`;
}

function lips(x, half, corner, above, below) {
  const [left, right] = [[x - half, corner], [x + half, corner]];
  return `${bent(left, [x, above], right)} ${bent(right, [x, below], left).replace("M", "L")} Z`;
}

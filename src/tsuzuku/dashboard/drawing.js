// A board to draw on: what is drawn goes to Python as a PNG when the pen has rested.

const SIDE = 280; // pixels: ten for each that the model sees
const PEN = 22;
const REST = 250; // ms without the pen until the picture is sent

const boards = new WeakMap();

export default function (component) {
  const { parentElement, data } = component;
  let board = boards.get(parentElement);
  if (!board) {
    board = new Board(parentElement);
    boards.set(parentElement, board);
  }
  board.update(component, data);
  return () => {
    board.close();
    boards.delete(parentElement);
  };
}

class Board {
  constructor(root) {
    this.canvas = root.querySelector("canvas");
    this.button = root.querySelector("button");
    this.hint = root.querySelector("p");
    this.context = this.canvas.getContext("2d");
    this.timer = null;
    this.last = null;
    this.wipe();
    this.canvas.onpointerdown = (event) => this.begin(event);
    this.canvas.onpointermove = (event) => this.move(event);
    this.canvas.onpointerup = () => this.end();
    this.canvas.onpointercancel = () => this.end();
    this.button.onclick = () => {
      this.wipe();
      this.tell(null);
    };
  }

  update(component, data) {
    this.send = component.setStateValue;
    this.canvas.setAttribute("aria-label", data.label);
    this.button.textContent = data.clear;
    this.hint.textContent = data.hint;
    if (data.picture && !this.restored) this.draw(data.picture);
    this.restored = true;
  }

  close() {
    clearTimeout(this.timer);
  }

  wipe() {
    this.context.fillStyle = "#000";
    this.context.fillRect(0, 0, SIDE, SIDE);
  }

  draw(picture) {
    const image = new Image();
    image.onload = () => this.context.drawImage(image, 0, 0, SIDE, SIDE);
    image.src = picture;
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = SIDE / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  begin(event) {
    if (event.button) return;
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    clearTimeout(this.timer);
    this.last = this.place(event);
    this.line(this.last);
  }

  move(event) {
    if (!this.last) return;
    const places = event.getCoalescedEvents?.() ?? [];
    for (const one of places.length ? places : [event]) this.line(this.place(one));
  }

  line(to) {
    const { context, last } = this;
    Object.assign(context, { strokeStyle: "#fff", lineWidth: PEN, lineCap: "round" });
    context.beginPath();
    context.moveTo(...last);
    context.lineTo(...to);
    context.stroke();
    this.last = to;
  }

  end() {
    if (!this.last) return;
    this.last = null;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.tell(this.canvas.toDataURL("image/png")), REST);
  }

  tell(picture) {
    clearTimeout(this.timer);
    this.send("picture", picture);
  }
}

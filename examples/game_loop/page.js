// Draws the newest state each time the browser draws, says so to the server, and sends the direction.

const canvas = document.getElementById("world");
const status = document.getElementById("status");
const picture = canvas.getContext("2d");
const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/`);

let you = null;
let state = null;
let drawn = 0;
let direction = "0 0";

socket.addEventListener("message", ({ data }) => {
  const message = JSON.parse(data);
  if (message.you) {
    you = message.you;
    canvas.width = message.width;
    canvas.height = message.height;
  } else {
    // A state that was not drawn yet is of no use any more.
    state = message;
  }
});

socket.addEventListener("close", ({ code, reason }) => {
  status.textContent = `disconnected: ${code} ${reason}`;
});

function draw() {
  if (state && state.step !== drawn) {
    drawn = state.step;
    picture.clearRect(0, 0, canvas.width, canvas.height);
    for (const [id, x, y] of state.players) {
      picture.fillStyle = id === you ? "#2f7fc1" : "#888";
      picture.beginPath();
      picture.arc(x, y, 10, 0, 2 * Math.PI);
      picture.fill();
    }
    status.textContent = `step ${drawn}, ${state.players.length} players`;
    send(`ack ${drawn}`);
  }
  requestAnimationFrame(draw);
}

function send(message) {
  if (socket.readyState === WebSocket.OPEN) {
    socket.send(message);
  }
}

function move(dx, dy) {
  const next = `${dx} ${dy}`;
  if (next !== direction) {
    direction = next;
    send(`move ${direction}`);
  }
}

const pressed = new Set();

function moveByKeys() {
  const is = (key) => Number(pressed.has(key));
  move(is("ArrowRight") - is("ArrowLeft"), is("ArrowDown") - is("ArrowUp"));
}

addEventListener("keydown", (event) => {
  if (event.key.startsWith("Arrow")) {
    event.preventDefault();
    pressed.add(event.key);
    moveByKeys();
  }
});
addEventListener("keyup", (event) => {
  pressed.delete(event.key);
  moveByKeys();
});
addEventListener("blur", () => {
  pressed.clear();
  moveByKeys();
});

function moveByTouch(event) {
  const me = state?.players.find(([id]) => id === you);
  if (me && event.buttons) {
    const scale = canvas.width / canvas.clientWidth;
    const dx = event.offsetX * scale - me[1];
    const dy = event.offsetY * scale - me[2];
    const length = Math.max(Math.hypot(dx, dy), 1);
    move((dx / length).toFixed(2), (dy / length).toFixed(2));
  }
}

canvas.addEventListener("pointerdown", moveByTouch);
canvas.addEventListener("pointermove", moveByTouch);
for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
  canvas.addEventListener(end, () => move(0, 0));
}

requestAnimationFrame(draw);

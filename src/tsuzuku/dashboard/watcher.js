// Listens to the server's events and tells Python that the state of the trainings has changed; and says
// which language the page is in.

const TELLING = new Set(["status", "checkpoint"]);
const SOON = 250; // milliseconds in which changes are told as one
const LATER = 2000; // until a lost connection is tried again

export default function ({ data, setTriggerValue }) {
  document.documentElement.lang = data.language;
  if (!data.listening) return;
  let socket, telling, again;
  let ended = false;
  let lost = false;

  const changed = () => {
    telling ??= setTimeout(() => {
      telling = undefined;
      setTriggerValue("changed", Date.now());
    }, SOON);
  };

  const connect = () => {
    const base = new URL(data.server ?? window.location.href);
    base.protocol = base.protocol === "https:" ? "wss:" : "ws:";
    const url = new URL("/ws?batch=true", base);
    if (data.token) url.searchParams.set("token", data.token);
    socket = new WebSocket(url);
    socket.onopen = () => {
      if (lost) changed();
      lost = false;
    };
    socket.onmessage = ({ data: text }) => {
      if (JSON.parse(text).some((event) => TELLING.has(event.type))) changed();
    };
    socket.onclose = () => {
      lost = true;
      if (!ended) again = setTimeout(connect, LATER);
    };
  };

  connect();
  return () => {
    ended = true;
    clearTimeout(telling);
    clearTimeout(again);
    socket.close();
  };
}

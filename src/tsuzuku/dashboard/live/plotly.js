// Plotly, as the server has it: loaded once for a page, and never from another place.

let loading = null;

/** Resolves with Plotly. `version` makes the address another one when the script is another. */
export function plotly(server, version) {
  if (window.Plotly) return Promise.resolve(window.Plotly);
  loading ??= load(server, version).catch((error) => {
    loading = null; // the server may be away; whoever asks next tries again
    throw error;
  });
  return loading;
}

async function load(server, version) {
  let url = server.url("assets/plotly.min.js", { v: version });
  if (server.elsewhere) {
    // a script element can show no token
    const answer = await server.fetch(url, 60_000);
    url = URL.createObjectURL(await answer.blob());
  }
  await new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = url;
    script.onload = resolve;
    script.onerror = () => {
      script.remove();
      reject(new Error("Plotly could not be loaded"));
    };
    document.head.append(script);
  });
  return window.Plotly;
}
